package admission

import (
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Account names one sum of the ledger: a link ("wan0"), a service level on it
// ("wan0/level/af31"), a service there ("wan0/service/guaranteed"). Names of
// interfaces have no slash.
type Account string

// LinkAccount is all that a link granted.
func LinkAccount(link string) Account { return Account(link) }

// LevelAccount is what a link granted of one service level.
func LevelAccount(link string, level uint8) Account {
	return Account(link + "/level/" + dscp.Name(level))
}

// ServiceAccount is what a link granted to one IntServ service.
func ServiceAccount(link string, s intserv.Service) Account {
	return Account(link + "/service/" + s.String())
}

// Share is what an entry takes of an account, in bytes/s and never negative.
type Share struct {
	Account Account
	Amount  int64
}

// Short tells of the account that had no room for an entry.
type Short struct {
	Account Account
	Used    int64 // its sum without the entry
}

// claim is what a reservation counts in one account, and what that may hold.
type claim struct {
	Share
	limit int64
}

// claims lists the accounts of a reservation on a link that counts with
// bandwidth; the link's is the first. Those without a limit are counted too: what
// was granted before there was one is in the sum when one comes.
func (l Link) claims(r Request, bandwidth int64) []claim {
	return []claim{
		{Share{LinkAccount(l.Name), bandwidth}, l.limit()},
		{Share{ServiceAccount(l.Name, r.FlowSpec.Service), bandwidth}, noLimit},
		{Share{LevelAccount(l.Name, r.Level), bandwidth}, noLimit},
	}
}

// entry is the line of a reservation in the ledger, and the limits of its
// accounts. What is installed for it is counted.
func (l Link) entry(r Request, installed intserv.FlowSpec) (e Entry, limits []int64) {
	e = Entry{ID: r.ID, Link: l.Name, Burst: l.burst(installed), Request: r}
	for _, c := range l.claims(r, units(installed.TSpec.LinkRate(installed.Bandwidth(), l.Overhead))) {
		e.Shares, limits = append(e.Shares, c.Share), append(limits, c.limit)
	}
	return e, limits
}
