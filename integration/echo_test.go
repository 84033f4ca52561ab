package integration

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// A connection that was there before the boxes, without time stamps: nothing that
// passes tells how far its source is, so the sender's box asks it; where it does
// not answer the connection is paced all the same.
func TestEchoGivesPRTTOfAConnectionInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name         string
		source, sink netip.Addr
		silent       bool
	}{{"silent", addrA, addrB, true}, {"IPv6", addrA6, addrB6, false}, {"IPv4", addrA, addrB, false}}[:soak(2, 3)] {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			// A bridge has no address to ask from.
			asks := !l.isBridge(0)
			ignore := "0"
			if v.silent {
				ignore = "1"
			}
			if err := errors.Join(
				l.a.Sysctl("net/ipv4/tcp_timestamps", "0"), l.b.Sysctl("net/ipv4/tcp_timestamps", "0"),
				l.a.Sysctl("net/ipv4/icmp_echo_ignore_all", ignore),
			); err != nil {
				t.Fatal(err)
			}
			source, sink := connect(t, l.a, l.b, at(v.sink, portPaced))
			l.startEdges(t, pacePolicy(portPaced, "8mbit", "pace"), "")
			enough := sendOn(source, sink, 21)
			row := l.boxes[0].waitFlowFrom(t, v.source, portPaced, "paced, its source asked", func(r console.FlowRow) bool {
				st, err := l.boxes[0].Stats(t.Context())
				if !asks {
					return r.State == console.FlowCheated && r.TCPMode == "pace" && r.AbsorbedAcks > 100
				}
				return r.State == console.FlowCheated && r.TCPMode == "pace" && err == nil && st.Cheat.Echoes.Sent > 0 && (v.silent || r.RTTSenderUS > 0)
			})
			st, err := l.boxes[0].Stats(t.Context())
			switch {
			case err == nil && !asks && st.Cheat.Echoes.Sent == 0:
			case err != nil || !asks || st.Cheat.Echoes.Sent > 3 || (st.Cheat.Echoes.Answered > 0) == v.silent:
				t.Errorf("stats %+v, %v", st.Cheat, err)
			}
			if (v.silent || !asks) && row.RTTSenderUS != 0 {
				t.Errorf("the source is silent, and its round trip is %d us", row.RTTSenderUS)
			}
			if row.RTTSenderUS > 500_000 {
				t.Errorf("a cable's round trip is %d us", row.RTTSenderUS)
			}
			if far, err := l.boxes[1].Stats(t.Context()); err != nil || far.Cheat.Echoes.Sent != 0 {
				t.Errorf("the receiver's box has asked somebody: %+v, %v", far.Cheat, err)
			}
			enough().wait(t)
			t.Logf("rtt_sender_us %d; %+v", row.RTTSenderUS, st.Cheat.Echoes)
		})
	}
}
