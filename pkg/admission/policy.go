package admission

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Priority is the preemption priority of a reservation (RFC 3181): Setup is what
// it has while it asks to be admitted, Hold what it defends itself with from then
// on. Higher is more important.
type Priority struct{ Setup, Hold uint16 }

// Policy is who may ask for what. With the zero Policy everybody may ask for
// anything.
type Policy struct {
	Stay   bool // nobody is preempted
	Signed bool // names count only where [Identity.Signed]
	// Thresholds are for new reservations of a priority below theirs.
	Thresholds []Threshold
	Users      []User
	Rules      []Rule // the first that matches; none does: refused, if there are any
}

// Threshold keeps a part of what each link has to grant for those of a higher
// priority (RFC 5865 section 2.3, RFC 4542 section 3.2).
type Threshold struct {
	Below uint16  // setup priority
	Share float64 // 0 to 1, of what is reservable
}

// User is somebody whose reservations are counted together.
type User struct {
	Name  string
	Names []string       // that requests carry (RFC 3182), beside Name that of reservations by hand
	From  []netip.Prefix // sources of flows that are the user's where nobody is named
	Rate  float64        // bytes/s of all reservations; 0: no limit
}

// Rule says what those that it matches may ask for. An empty list matches
// everything.
type Rule struct {
	Name         string
	From, To     []netip.Prefix
	Protocol     uint8 // 0: any
	In, Out      []string
	Users        []string
	Applications []string
	Refuse       bool
	Services     []intserv.Service
	Rate, Burst  float64 // of one reservation; 0: no limit
	// Bounded: no priority above Priority may be asked for.
	Bounded  bool
	Priority uint16
}

// Asker is what is known of who asks for a reservation, and for what data.
type Asker struct {
	Senders    []netip.Addr // of the data, those that share it
	Dst        netip.Addr
	Protocol   uint8
	In, Out    string
	Owner      string // of a reservation by hand, "": it is none
	Identities []Identity
	// Untrusted: nobody vouches for the priority that is asked for, as nobody
	// does for the marks of hosts.
	Untrusted bool
}

// Identity is a user or an application that a request names (RFC 3182).
type Identity struct {
	App    bool
	Names  []string // locators and credentials that are plain text
	Signed bool     // its message came by an interface whose messages are signed
}

// Denial says what is wrong with who asks, for the error of RFC 3182 section 3.3.4.
type Denial uint8

// What may be wrong.
const (
	NotDenied  Denial = iota
	Unnamed           // a user has to be named (RFC 2750 Appendix A, value 14)
	Unproved          // the credentials cannot be read here, or were not signed
	Unentitled        // what is known of them is not enough
)

// verdict is what policy says of a request.
type verdict struct {
	user     string
	priority Priority
	no       *Decision // nil: nothing against it
}

// judge finds the rule for a request of flow f, which counts with what is to be
// installed.
func (p *Policy) judge(a *Asker, f intserv.FlowSpec, asked Priority) verdict {
	v := verdict{user: p.user(a), priority: asked}
	if len(p.Rules) == 0 {
		if a.Untrusted {
			v.priority = Priority{}
		}
		return v
	}
	nameless := "" // a rule that needs a name, and would match else
	for i := range p.Rules {
		r := &p.Rules[i]
		switch {
		case !r.about(a):
		case len(r.Users) > 0 && !slices.Contains(r.Users, v.user),
			len(r.Applications) > 0 && !p.application(a, r.Applications):
			if nameless == "" && !r.Refuse {
				nameless = r.Name
			}
		default:
			v.priority, v.no = r.judge(a, f, asked)
			return v
		}
	}
	d := refuse(CodePolicy, ValueRejected, "no rule of admission lets %s ask for this", who(a, v.user))
	d.Denied = Unentitled
	switch {
	case nameless == "" || v.user != "" || a.Owner != "":
	case len(a.Identities) == 0:
		d = refuse(CodePolicy, ValueMissing, "rule %s is for those who say who they are (RFC 3182), and nobody is named", nameless)
		d.Denied = Unnamed
	case !slices.ContainsFunc(a.Identities, p.counts):
		d = refuse(CodePolicy, ValueRejected, "rule %s is for named users, and who is named here is not known: the name cannot be read, or its message was not signed", nameless)
		d.Denied = Unproved
	}
	v.no = &d
	return v
}

func who(a *Asker, user string) string {
	switch {
	case user != "":
		return "user " + user
	case a.Owner != "":
		return "owner " + a.Owner
	default:
		return "somebody who is no user of ours"
	}
}

// about says whether a rule is for such data.
func (r *Rule) about(a *Asker) bool {
	if r.Protocol != 0 && r.Protocol != a.Protocol || !among(r.In, a.In) || !among(r.Out, a.Out) || !within(r.To, a.Dst) {
		return false
	}
	for _, s := range a.Senders {
		if !within(r.From, s) {
			return false
		}
	}
	return len(a.Senders) > 0 || len(r.From) == 0
}

func among(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

func within(list []netip.Prefix, a netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// judge holds a request to the rule that it matches.
func (r *Rule) judge(a *Asker, f intserv.FlowSpec, asked Priority) (Priority, *Decision) {
	no := func(value uint16, format string, args ...any) (Priority, *Decision) {
		d := refuse(CodePolicy, value, "rule "+r.Name+" of admission "+format, args...)
		d.Denied = Unentitled
		return Priority{}, &d
	}
	switch {
	case r.Refuse:
		return no(ValueRejected, "refuses this")
	case len(r.Services) > 0 && !slices.Contains(r.Services, f.Service):
		return no(ValueService, "does not allow %s", f.Service)
	case r.Rate > 0 && f.Bandwidth() > r.Rate*(1+precision):
		return no(ValueFlowSpec, "allows %.0f bytes/s for a reservation, asked for are %.0f", r.Rate, f.Bandwidth())
	case r.Burst > 0 && f.TSpec.Bucket > r.Burst*(1+precision):
		return no(ValueFlowSpec, "allows bursts of %.0f bytes, asked for are %.0f", r.Burst, f.TSpec.Bucket)
	case a.Untrusted && !r.Bounded:
		return Priority{}, nil
	case r.Bounded && max(asked.Setup, asked.Hold) > r.Priority:
		return no(ValueRejected, "allows priorities up to %d, asked for are %d and %d", r.Priority, asked.Setup, asked.Hold)
	default:
		return asked, nil
	}
}

// counts says whether an identity is one to rely on.
func (p *Policy) counts(i Identity) bool { return len(i.Names) > 0 && (i.Signed || !p.Signed) }

// user is who asks: the owner of what is reserved by hand, else who is named,
// else whose address it is; "": nobody that is known.
func (p *Policy) user(a *Asker) string {
	if a.Owner != "" {
		for i := range p.Users {
			if u := &p.Users[i]; u.Name == a.Owner || u.named(a.Owner) {
				return u.Name
			}
		}
		return ""
	}
	for _, id := range a.Identities {
		if id.App || !p.counts(id) {
			continue
		}
		for i := range p.Users {
			if u := &p.Users[i]; slices.ContainsFunc(id.Names, u.named) {
				return u.Name
			}
		}
		return "" // another name than ours: the address does not tell more
	}
	best, name := -1, ""
	for _, s := range a.Senders {
		for i := range p.Users {
			for _, b := range p.Users[i].From {
				if b.Contains(s) && b.Bits() > best {
					best, name = b.Bits(), p.Users[i].Name
				}
			}
		}
		if name != "" {
			break
		}
	}
	return name
}

func (u *User) named(name string) bool {
	return slices.ContainsFunc(u.Names, func(n string) bool { return sameName(n, name) })
}

// application says whether one of the applications that are named is in a list.
func (p *Policy) application(a *Asker, list []string) bool {
	for _, id := range a.Identities {
		if !id.App || !p.counts(id) {
			continue
		}
		for _, n := range id.Names {
			if slices.ContainsFunc(list, func(want string) bool { return isApplication(want, n) }) {
				return true
			}
		}
	}
	return false
}

// rate is what all reservations of a user may take.
func (p *Policy) rate(user string) float64 {
	for i := range p.Users {
		if u := &p.Users[i]; u.Name == user && u.Rate > 0 {
			return u.Rate
		}
	}
	return math.Inf(1)
}

// threshold is the part of a link that a reservation of such a priority may
// fill; 1: all of it.
func (p *Policy) threshold(setup uint16) float64 {
	share := 1.0
	for _, t := range p.Thresholds {
		if setup < t.Below {
			share = min(share, t.Share)
		}
	}
	return share
}

// UserAccount is what all reservations of a user take on this box. Names of
// interfaces have no slash.
func UserAccount(name string) Account { return Account("user/" + name) }

// entry is the line of a reservation in the ledger and what its accounts may
// hold, by what a link has and by what policy says.
func (p *Policy) entry(l Link, r Request) (e Entry, claims []claim) {
	e, claims = l.entry(r)
	if share := p.threshold(r.Priority.Setup); share < 1 && l.Managed() && !r.Carried {
		claims[0].total *= share
		claims[0].of = fmt.Sprintf("for a setup priority of %d, %s", r.Priority.Setup, l.Name)
	}
	if r.User != "" { // whose reservations count in full, whatever a link overbooks
		u := claim{Share: Share{UserAccount(r.User), l.rate(l.installed(r))}, total: p.rate(r.User), unit: unitRate, kind: accountOfUser, user: r.User}
		e.Shares, claims = append(e.Shares, u.Share), append(claims, u)
	}
	return e, claims
}

// SetPolicy replaces what Admit judges by. Reservations in place stay.
func (c *Control) SetPolicy(p Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy = &p
}

// Granted is what policy grants a request of the priority that it asks for; zero if it
// refuses it.
func (c *Control) Granted(r Request) Priority {
	link, ok := c.link(r.Link)
	if !ok {
		return Priority{}
	}
	if v := c.rules().judge(r.Asker, link.installed(r), r.Priority); v.no == nil {
		return v.priority
	}
	return Priority{}
}

func (c *Control) rules() *Policy {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.policy == nil {
		return &Policy{}
	}
	return c.policy
}
