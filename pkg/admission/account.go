package admission

import (
	"cmp"
	"fmt"
	"math"
	"slices"

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

// BurstAccount is what the reservations of a service level may send at once, in
// bytes.
func BurstAccount(link string, level uint8) Account {
	return LevelAccount(link, level) + "/burst"
}

// Share is what an entry takes of an account, in bytes/s (of a BurstAccount in
// bytes) and never negative.
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
	total   float64 // +Inf: no limit
	unit    string
	kind    accountKind
	service intserv.Service // of accountOfService
	level   uint8           // of accountOfLevel
	user    string          // of accountOfUser
	of      string          // what an account of the link is called, if not by its name
}

// accountKind tells whose account it is.
type accountKind uint8

const (
	accountOfLink accountKind = iota
	accountOfService
	accountOfLevel
	accountOfUser
)

const (
	unitRate  = "bytes/s"
	unitBurst = "bytes of bursts"
)

// limit is the total in the ledger's units.
func (c claim) limit() int64 {
	if math.IsInf(c.total, 1) {
		return noLimit
	}
	return units(c.total * (1 + precision))
}

// refusal says that the account has no room. RFC 2205 Appendix B has one value for
// all of these, requested bandwidth unavailable: a level that the network has not
// sold is a lack of resources, too, and not of the right to have them, which is
// kept apart as the customer's policy (RFC 2998 section 4.1.1, step 8). Nor is there
// a value for bursts that do not fit.
func (c claim) refusal(l Link, used int64) Decision {
	d := Decision{Code: CodeAdmission, Value: ValueBandwidth}
	of := l.Name
	switch c.kind {
	case accountOfService:
		of = fmt.Sprintf("%s service on %s", c.service, l.Name)
	case accountOfLevel:
		if _, d.Reason = l.level(c.level); d.Reason != "" {
			return d
		}
		of = fmt.Sprintf("service level %s of %s", dscp.Name(c.level), l.Name)
	case accountOfUser:
		of = "user " + c.user
		d.Code, d.Value, d.Denied = CodePolicy, ValueExceeded, Unentitled
	case accountOfLink:
		of = cmp.Or(c.of, of)
	}
	d.Reason = fmt.Sprintf("%s has %.0f of %.0f %s left, asked for are %d", of, max(0, c.total-float64(used)), c.total, c.unit, c.Amount)
	return d
}

// claims lists the accounts of a reservation; the link's is the first. Those
// without a limit are counted too: what was granted before there was one is in the
// sum when one comes.
//
// What the network has sold is not overbooked: it polices what it gets. A level's
// burst is the depth of the token bucket that it does that with, and flows within
// their (r, b) are within the sums of both.
func (l Link) claims(r Request, installed intserv.FlowSpec) []claim {
	service := r.FlowSpec.Service
	rate := l.rate(installed)
	if r.Carried {
		none := Share{Account: LinkAccount(l.Name)}
		return append(make([]claim, 0, 2), claim{Share: none, total: math.Inf(1), unit: unitRate})
	}
	list := append(make([]claim, 0, 5), // with a user's
		claim{Share: Share{LinkAccount(l.Name), units(float64(rate) / l.overbooking(service))}, total: l.grants(), unit: unitRate},
		claim{Share: Share{ServiceAccount(l.Name, service), rate}, total: l.ceiling(service), unit: unitRate, kind: accountOfService, service: service})
	for _, code := range r.levels() {
		v, _ := l.level(code)
		list = append(list,
			claim{Share: Share{LevelAccount(l.Name, code), rate}, total: v.Rate, unit: unitRate, kind: accountOfLevel, level: code},
			claim{Share: Share{BurstAccount(l.Name, code), units(installed.TSpec.Bucket)}, total: v.Burst, unit: unitBurst, kind: accountOfLevel, level: code})
	}
	return list
}

// rate is what a reservation takes of a link.
func (l Link) rate(installed intserv.FlowSpec) int64 {
	return units(installed.TSpec.LinkRate(installed.Bandwidth(), l.Overhead))
}

// levels lists the service levels of a request, each once.
func (r *Request) levels() []uint8 {
	list := []uint8{r.Level}
	for _, code := range r.Levels {
		if !slices.Contains(list, code) {
			list = append(list, code)
		}
	}
	return list
}

// grants is what a link may grant in all, in bytes/s.
func (l Link) grants() float64 {
	if !l.Managed() {
		return math.Inf(1)
	}
	return min(l.Reservable, l.Capacity)
}

// ceiling is what a link may grant of a service. A service with overbooking is
// counted as what the reservations ask for, so that it has as many times more.
func (l Link) ceiling(s intserv.Service) float64 {
	if c := l.Services[s].Ceiling; l.Managed() && c > 0 {
		return c * l.overbooking(s)
	}
	return math.Inf(1)
}

// installed is what is set aside for a request: no more than the senders announce,
// and packets that the link can carry. A sender may announce packets that its
// receivers did not ask for.
func (l Link) installed(r Request) intserv.FlowSpec {
	f := r.FlowSpec.Installed(r.Senders)
	if l.MTU != 0 && f.TSpec.MaxPacket > l.MTU {
		f.TSpec.MaxPacket = l.MTU
	}
	return f
}

// entry is the line of a reservation in the ledger, and what its accounts may hold.
func (l Link) entry(r Request) (e Entry, claims []claim) {
	f := l.installed(r)
	claims = l.claims(r, f)
	e = Entry{ID: r.ID, Link: l.Name, Request: r, Shares: make([]Share, len(claims), len(claims)+1)}
	if !r.Carried {
		e.Burst = l.burst(f)
	}
	for i := range claims {
		e.Shares[i] = claims[i].Share
	}
	return e, claims
}
