package softstate

import (
	"fmt"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Effect is one thing that the owner of a [Node] has to do: [Send], [Reserve],
// [Release] or [Event]. Effects are to be carried out in their order.
type Effect interface{ effect() }

// Send asks for a message to be sent as one IP datagram of protocol 46, or if it
// is Hidden of protocol 134.
type Send struct {
	Out IfIndex
	// From is where that came in which is sent on: of PATH, PathTear and ResvConf,
	// and 0 for what starts here.
	From     IfIndex
	Src, Dst netip.Addr // Src is the data sender's address for PATH and PathTear
	// Data is a source of the data that the message is about; invalid: only the
	// message tells. Where the addresses of hops are the neighbours' it says which way
	// the message has to look.
	Data        netip.Addr
	TTL         uint8
	RouterAlert bool
	Msg         *wire.Message
	// Fresh: a RESV to a previous hop that has no state from us for it, even if it
	// had the same before: its own PathTear has ended that, and told nobody but us.
	Fresh bool
	// Probe: nobody is known to be there who speaks RSVP, so that no answer is
	// waited for, nor the message repeated for want of one.
	Probe bool
	// Hidden from the routers of an aggregation region, for the one at its far edge
	// to take (RFC 3175 section 3.1). The owner of the node sets it.
	Hidden bool
}

// Reserve asks admission control and the kernel for resources on Out. The
// answer is [Node.ReserveResult] with the same ID. Change tells that the ID is
// in place already and is to be altered; if that is refused the old
// reservation must stay as it is. There is at most one unanswered Reserve for
// an ID, but its [Release] may come before the answer, which is then ignored.
type Reserve struct {
	ID      uint64
	Change  bool
	Session wire.Session
	// Filters are the senders that share the reservation: one in fixed filter
	// style; in wildcard style those known to send by Out.
	Filters []wire.Filter
	Style   wire.Style
	In, Out IfIndex // In and Role: of the last of the senders
	Role    Role
	// FlowSpec is what to set aside: the smaller of what the receivers ask for
	// and what the senders announce (RFC 2205 section 2.2).
	FlowSpec    intserv.FlowSpec
	SenderTSpec intserv.TSpec // Path_Te, the sum over the senders
	// Terms are the error terms of guaranteed service from the senders up to and
	// including Out, the largest of each; zero for other services.
	Terms  intserv.ErrorTerms
	Police Police
	// Priority is the preemption priority of the merged requests (RFC 3181); zero,
	// the lowest, where nobody said anything.
	Priority Priority
	// DSCPs are the code points that the requests' DCLASS objects name, in their
	// order (RFC 2996); none: there was no such object.
	DSCPs []uint8
	// Identities are the users and applications that the requests name, then those
	// that the senders' PATHs name (RFC 3182).
	Identities []Identity
	// Aggregate is the session that carries this one across a region, in whose
	// reservation it is counted (RFC 3175 section 2.8); nil: none. The owner of the node
	// sets it.
	Aggregate *wire.Session
}

// Release ends a reservation. It comes once for each ID whose first [Reserve]
// was not refused. Reserve and Release of one ID are to be carried out in their
// order; a Release that was on its way while the Reserve was being refused ends
// nothing.
type Release struct {
	ID uint64
	// Torn: the receivers took the reservation back, and the senders are still
	// there. A style is changed in that way, so a [Reserve] for the same senders may
	// follow at once: it is then well not to have them without treatment meanwhile.
	Torn bool
}

// Police are the policing flags for traffic control (RFC 2205 section 3.8).
type Police struct {
	Entry  bool // first node that can police
	Merge  bool // several senders share the reservation
	Branch bool // less is installed here than on another branch
}

// Refusal is why a reservation is refused: the answer to a [Reserve]. A zero
// Code means [wire.ErrAdmission].
type Refusal struct {
	Code  wire.ErrorCode
	Value uint16
	Text  string // for people
	// By is the priority of the flow that preempted this one, if that is why: it
	// is told along with the error (RFC 3181 section 6).
	By     *Priority
	Denied *Denial      // told along with an error of policy
	about  *wire.Object // the POLICY_DATA that is in error
}

// policy is the POLICY_DATA that an error of policy is to carry (RFC 2750
// section 4.3).
func (r *Refusal) policy() []wire.Object {
	switch {
	case r.By != nil:
		o, err := policyOf(wire.Preemption{
			Strategy: wire.MergeHighestQoS, Error: wire.PreemptionPreempted, Priority: r.By.Preempting, Defending: max(r.By.Preempting, r.By.Defending),
		})
		if err != nil {
			return nil // cannot be: all of it is made here
		}
		return []wire.Object{o}
	case r.Denied != nil:
		o, err := r.Denied.object(r.Text)
		if err != nil {
			return nil // cannot be: it is shorter than what was said
		}
		return []wire.Object{o}
	case r.about != nil:
		return []wire.Object{*r.about}
	default:
		return nil
	}
}

// Error tells the code and the text.
func (r *Refusal) Error() string { return describe(r.Code, r.Value, r.Text) }

// Event tells that what [Node.Sessions] shows of one sender has changed.
type Event struct {
	Session  wire.Session
	Sender   wire.Filter
	Role     Role
	State    State
	Previous State
	Gone     bool // the sender's state was removed
	// Reservation is the ID of the reservation in place, 0 if none.
	Reservation uint64
	FlowSpec    intserv.FlowSpec // of the reservation, as admitted
	In, Out     IfIndex
	Confirmed   bool     // a ResvConf has come
	Failure     *Failure // nil: no error
}

// Failure is the last error of a sender's path or reservation.
type Failure struct {
	Code  wire.ErrorCode
	Value uint16
	// Flags are the Error_flags of RFC 2205 section 3.11.1: [wire.InPlace] as it was
	// told, and [wire.NotGuilty], which is set here and nowhere else (Appendix A.5):
	// what failed was strictly greater than what any receiver here asks for.
	Flags uint8
	Node  netip.Addr // where it was found
	Text  string     // for people
	// Upstream: a ResvErr told of it, the reservation failed nearer to the sender.
	Upstream bool
}

// failureOf is the failure that an error message tells of. NotGuilty in its
// ERROR_SPEC means nothing: it is not for the wire.
func failureOf(m *wire.Message) Failure {
	e := m.ErrorSpec
	return Failure{Code: e.Code, Value: e.Value, Flags: e.Flags & wire.InPlace, Node: e.Node, Text: told(m)}
}

// String is for people.
func (f *Failure) String() string {
	if f == nil {
		return ""
	}
	s := describe(f.Code, f.Value, f.Text)
	if f.Node.IsValid() {
		s += " at " + f.Node.String()
	}
	if f.Flags&wire.NotGuilty != 0 {
		s += ": not because of this request, but of a larger one"
	}
	return s
}

func describe(c wire.ErrorCode, value uint16, text string) string {
	if text == "" {
		text = codeText(c, value)
	}
	return fmt.Sprintf("%s (code %d value %d)", text, uint8(c), value)
}

func (Send) effect()    {}
func (Reserve) effect() {}
func (Release) effect() {}
func (Event) effect()   {}
