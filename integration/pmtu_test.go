package integration

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// newNarrowing builds two edge boxes with a plain router between them, 100 ms
// from the first: box 1, router, box 2. The link between the router and box 2
// can be made to take smaller packets.
func newNarrowing(t *testing.T) *lab {
	t.Helper()
	slow := emulator.Params{Delay: 50 * time.Millisecond}
	f := formOf(t)
	l := newMixedLab(t, []form{f, routed, f}, &wire.Config{AB: slow, BA: slow, Seed: 7})
	if f == routed {
		left4, left6 := hop(1, 1)
		right4, right6 := hop(0, 2)
		prefix := netip.MustParsePrefix
		if err := errors.Join(
			l.boxes[0].ns.Route(prefix("10.9.1.0/24"), right4), l.boxes[0].ns.Route(prefix("fd00:9:1::/64"), right6),
			l.boxes[2].ns.Route(prefix("10.9.0.0/24"), left4), l.boxes[2].ns.Route(prefix("fd00:9:0::/64"), left6),
		); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 2} {
		c := l.edge(i, usualPolicies, "tcp: {window: predict}")
		c.reliable = true
		l.boxes[i].launch(t, c.String())
	}
	l.boxes[0].wait(t)
	l.boxes[2].wait(t)
	return l
}

// RFC 1191 and RFC 8201: the path shrinks while a connection is cheated. Of what
// does not fit the source believes that it was delivered, so the box listens to
// the router and sends it again in pieces; every byte arrives. A connection of
// no policy discovers the path for itself, through both boxes.
func TestPathMTUShrinksRFC1191(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name   string
		source netip.Addr
		sink   netip.Addr
	}{{"IPv4", addrA, addrB}, {"IPv6", addrA6, addrB6}} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			l := newNarrowing(t)
			source, sink := connect(t, l.a, l.b, at(v.sink, portReliable))
			enough := sendOn(source, sink, 19)
			l.boxes[0].waitFlowFrom(t, v.source, portReliable, "cheated", func(r console.FlowRow) bool {
				return r.State == console.FlowCheated && r.AbsorbedAcks > 100
			})
			before := tcpInfo(t, source)
			if err := l.boxes[1].ns.MTU(rightWAN, 1400); err != nil {
				t.Fatal(err)
			}
			row := l.boxes[0].waitFlowFrom(t, v.source, portReliable, "knows its path", func(r console.FlowRow) bool { return r.PathMTU != 0 })
			if row.PathMTU != 1400 {
				t.Errorf("a path of 1400 bytes was found to be of %d", row.PathMTU)
			}
			enough().wait(t)
			st, err := l.boxes[0].Stats(t.Context())
			if err != nil || st.Cheat.TooBig == 0 {
				t.Errorf("stats %+v, %v", st, err)
			}
			// A flight of 100 ms at 8 Mbit/s has 70 segments, each of which becomes
			// two pieces. Found by losses alone it would be many times as many.
			if st.Cheat.Retransmits > 400 {
				t.Errorf("the box sent %d segments again", st.Cheat.Retransmits)
			}
			after := tcpInfo(t, source)
			t.Logf("box sent %d segments again, source %d; %d errors were learnt from, %d not; the source's path MTU %d",
				st.Cheat.Retransmits, after.Total_retrans-before.Total_retrans, st.Cheat.TooBig, st.Cheat.TooBigRefused, after.Pmtu)

			other, end := connect(t, l.a, l.b, at(v.sink, portOther))
			send(other, end, random(20, 500_000)).wait(t)
			if info := tcpInfo(t, other); info.Pmtu != 1400 {
				t.Errorf("the source's own discovery found %d", info.Pmtu)
			}
		})
	}
}
