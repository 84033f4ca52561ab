package rsvpproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// ReduceQuery names a reservation that is in place, and what shall be left of it.
// Of the fields but Dst and Left those that are zero are not known.
type ReduceQuery struct {
	Dst, Src         netip.Addr
	Protocol         uint8
	DstPort, SrcPort uint16
	Out              softstate.IfIndex
	Left             softstate.Left
}

// Reducible is a reservation in place: of one sender of a session, or of several
// that share it.
type Reducible struct {
	ID      uint64
	Session wire.Session
	Senders []wire.Filter
	Out     softstate.IfIndex
}

// Reduced is what a reduction did.
type Reduced struct {
	softstate.Reduction
	Reducible
}

// Errors of Reduce.
var (
	ErrNotKnown    = errors.New("no session to this destination is known here")
	ErrNotReserved = errors.New("nothing is reserved for it here")
)

// SeveralError tells which reservations a query may mean.
type SeveralError struct{ Found []Reducible }

// Error is for people.
func (e *SeveralError) Error() string {
	return fmt.Sprintf("%d reservations match: name one of them", len(e.Found))
}

// Reduce takes bandwidth away from a reservation in place, for another one (RFC
// 4495): traffic control is asked for the smaller one as for any other change, and
// the receivers are told what is left.
func (p *Proxy) Reduce(q ReduceQuery) (Reduced, error) {
	type reply struct {
		done Reduced
		err  error
	}
	r, err := tell(p, func(now time.Time, n *softstate.Node) (r reply, effects []softstate.Effect) {
		if r.done.Reducible, r.err = q.resolve(n.Sessions(now)); r.err == nil {
			r.done.Reduction, effects, r.err = n.ReduceTo(now, r.done.ID, q.Left)
		}
		return r, effects
	})
	if err != nil {
		return Reduced{}, err
	}
	return r.done, r.err
}

// resolve finds the one reservation that is meant.
func (q *ReduceQuery) resolve(sessions []softstate.SessionView) (Reducible, error) {
	named := TraceQuery{Dst: q.Dst, Src: q.Src, Protocol: q.Protocol, DstPort: q.DstPort, SrcPort: q.SrcPort}
	known := false
	var found []Reducible
	for i := range sessions {
		v := &sessions[i]
		if !named.names(v.Session, v.Sender) {
			continue
		}
		known = true
		for _, b := range v.Branches {
			fits := b.State == softstate.Reserved && (q.Out == 0 || b.Out == q.Out)
			if fits && !slices.ContainsFunc(found, func(r Reducible) bool { return r.ID == b.Reservation }) {
				found = append(found, Reducible{ID: b.Reservation, Session: v.Session, Out: b.Out})
			}
		}
	}
	for i := range found {
		found[i].Senders = sharing(sessions, found[i].ID)
	}
	switch {
	case !known:
		return Reducible{}, ErrNotKnown
	case len(found) == 0:
		return Reducible{}, ErrNotReserved
	case len(found) > 1:
		return Reducible{}, &SeveralError{found}
	}
	return found[0], nil
}

// sharing lists the senders that have a reservation together.
func sharing(sessions []softstate.SessionView, id uint64) (list []wire.Filter) {
	for i := range sessions {
		v := &sessions[i]
		if slices.ContainsFunc(v.Branches, func(b softstate.BranchView) bool { return b.Reservation == id }) {
			list = append(list, v.Sender)
		}
	}
	return list
}
