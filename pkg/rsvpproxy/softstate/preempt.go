package softstate

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Withdraw tells that traffic control has ended a reservation on its own, for
// example by preemption (TC_Preempt of RFC 2205 section 3.11.2): the next hops
// get a ResvErr, the previous hop a ResvTear (section 3.1.8). A zero Code means
// [wire.ErrPreempted]. What was preempted is not asked for again for R, unless
// less is asked for, or with a higher priority.
func (n *Node) Withdraw(now time.Time, id uint64, refusal Refusal) []Effect {
	n.now = now
	t := n.byID[id]
	if t == nil {
		n.drop(DropLateResult)
		return n.flush()
	}
	refusal.Code = cmp.Or(refusal.Code, wire.ErrPreempted)
	if d := t.installed; d != nil && (refusal.Code == wire.ErrPreempted || refusal.By != nil) {
		n.count.preempted++
		t.s.holdDown(t.key, &outbid{why: refusal, flow: d.flow, priority: d.priority, until: now.Add(n.cfg.Refresh)})
	}
	for _, r := range slices.Clone(t.rsbs) {
		n.refuseRSB(now, r, r.wanted(), &refusal, 0)
	}
	n.deleteTCSB(t)
	n.resvChanged(now, t, nil)
	return n.flush()
}

// outbid is a reservation that had to make room. Its next hops go on asking
// for it with each refresh: it would come and go with those that outbid it, the
// instability that RFC 3181 section 5 warns of.
type outbid struct {
	why      Refusal
	flow     intserv.FlowSpec
	priority Priority
	until    time.Time
}

// holdDown notes it for the session: one for each reservation that it can have.
func (s *session) holdDown(k tcKey, p *outbid) {
	if s.outbid == nil {
		s.outbid = map[tcKey]*outbid{}
	}
	s.outbid[k] = p
}

// heldDown is why t is not asked for; nil if it is.
func (t *tcsb) heldDown(now time.Time, want *demand) *Refusal {
	p := t.s.outbid[t.key]
	switch {
	case p == nil || t.installed != nil:
		return nil
	case now.Before(p.until) && want.priority.Preempting <= p.priority.Preempting && p.flow.Within(want.flow):
		return &p.why
	}
	delete(t.s.outbid, t.key)
	return nil
}

// told is what POLICY_DATA adds to the words for an error: the priority of the
// flow that has preempted another (RFC 3181 section 6), or what policy has against
// who asked (RFC 3182 section 3.3.4). Empty: nothing.
func told(m *wire.Message) string {
	e := m.ErrorSpec
	lost := isPreemption(e.Code, e.Value)
	if !lost && e.Code != wire.ErrPolicy {
		return ""
	}
	for _, o := range m.Policy {
		d, err := wire.ParsePolicy(o)
		if err != nil {
			continue // carried on as it is, whatever it says
		}
		for _, x := range d.Elements {
			switch {
			case lost && x.Type == wire.PreemptionPriority:
				if p, err := wire.ParsePreemption(x); err == nil && p.Error == wire.PreemptionPreempted {
					return fmt.Sprintf("preempted by a reservation of priority %d", p.Priority)
				}
			case !lost && (x.Type == wire.AuthUser || x.Type == wire.AuthApp):
				if id, err := wire.ParseIdentity(x); err == nil {
					if _, text, ok := id.PolicyError(); ok && len(text) > 0 {
						return codeText(e.Code, e.Value) + ": " + printable(string(text))
					}
				}
			}
		}
	}
	return ""
}

// isPreemption says whether an error is the end of a reservation for another one.
func isPreemption(c wire.ErrorCode, value uint16) bool {
	switch c {
	case wire.ErrPreempted:
		return true
	case wire.ErrPolicy:
		return value == wire.PolicyPreempted
	case wire.ErrReceiverProxy: // RFC 5946 section 3.1.1
		return value == 1<<8|uint16(wire.ErrPreempted)
	default:
		return false
	}
}
