package aggregate

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 3175 sections 2.1 and 3.1: Path, PathTear and ResvConf change their protocol on
// the way from an exterior to an interior interface, and nothing else does (section
// 5). Sections 1.4.9 and 2.12: neither those of aggregates, nor of groups.
func TestHidesRFC3175Section3_1(t *testing.T) {
	const outside, inside, inside2 = 1, 2, 3
	interior := func(i softstate.IfIndex) bool { return i == inside || i == inside2 }
	host := wire.Session{Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, DstPort: 5004}
	group := wire.Session{Dst: netip.MustParseAddr("239.1.1.1"), Protocol: 17, DstPort: 5004}
	router := wire.Session{Format: wire.FormatAggregate, Dst: netip.MustParseAddr("10.2.0.2"), DSCP: 46}
	for _, tt := range []struct {
		typ       wire.MsgType
		session   wire.Session
		from, out softstate.IfIndex
		want      bool
	}{
		{wire.Path, host, outside, inside, true},
		{wire.PathTear, host, outside, inside, true},
		{wire.ResvConf, host, outside, inside, true},
		{wire.Path, host, 0, inside, true}, // we speak for the sender
		{wire.Path, host, inside, outside, false},
		{wire.Path, host, inside, inside2, false},
		{wire.Path, host, outside, 4, false},
		{wire.Resv, host, outside, inside, false},
		{wire.ResvErr, host, 0, inside, false},
		{wire.Path, group, outside, inside, false},
		{wire.Path, router, outside, inside, false},
		{wire.ResvConf, router, 0, inside, false},
	} {
		s := softstate.Send{From: tt.from, Out: tt.out, Msg: &wire.Message{Type: tt.typ, Session: tt.session}}
		if got := Hides(&s, interior); got != tt.want {
			t.Errorf("%v of %v from %d to %d: %v", tt.typ, tt.session, tt.from, tt.out, got)
		}
	}
}
