package rsvpproxy

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A reduction concerns one reservation, and is refused where it may be any of
// several (RFC 4495 section 4, Req#2).
func TestReduceNamesOneReservationRFC4495Section4(t *testing.T) {
	a := netip.MustParseAddr
	dst := a("239.1.2.3")
	view := func(port, sport uint16, src string, branches ...softstate.BranchView) softstate.SessionView {
		return softstate.SessionView{
			Session: wire.Session{Dst: dst, Protocol: 17, DstPort: port}, Sender: wire.Filter{Src: a(src), SrcPort: sport}, Branches: branches,
		}
	}
	on := func(out softstate.IfIndex, id uint64) softstate.BranchView {
		return softstate.BranchView{Out: out, State: softstate.Reserved, Reservation: id}
	}
	sessions := []softstate.SessionView{
		view(1, 10, "10.1.0.1", on(2, 7)), // shared by two senders
		view(1, 11, "10.1.0.2", on(2, 7)),
		view(2, 10, "10.1.0.1", on(2, 8), on(3, 9)), // two branches
		view(3, 10, "10.1.0.1", softstate.BranchView{Out: 2, State: softstate.Requested, Reservation: 5}),
	}
	for name, tt := range map[string]struct {
		q       ReduceQuery
		id      uint64
		senders int
		several int
		err     error
	}{
		"shared":             {q: ReduceQuery{Dst: dst, DstPort: 1}, id: 7, senders: 2},
		"by one of them":     {q: ReduceQuery{Dst: dst, DstPort: 1, SrcPort: 11, Src: a("10.1.0.2")}, id: 7, senders: 2},
		"several interfaces": {q: ReduceQuery{Dst: dst, DstPort: 2}, several: 2},
		"one of them":        {q: ReduceQuery{Dst: dst, DstPort: 2, Out: 3}, id: 9, senders: 1},
		"several sessions":   {q: ReduceQuery{Dst: dst, Protocol: 17}, several: 3},
		"not in place":       {q: ReduceQuery{Dst: dst, DstPort: 3}, err: ErrNotReserved},
		"another interface":  {q: ReduceQuery{Dst: dst, DstPort: 1, Out: 3}, err: ErrNotReserved},
		"unknown":            {q: ReduceQuery{Dst: dst, DstPort: 4}, err: ErrNotKnown},
	} {
		got, err := tt.q.resolve(sessions)
		var many *SeveralError
		switch {
		case tt.several > 0:
			if !errors.As(err, &many) || len(many.Found) != tt.several {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.Is(err, tt.err) || tt.err == nil && (err != nil || got.ID != tt.id || len(got.Senders) != tt.senders):
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
