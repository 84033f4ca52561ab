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
	for _, v := range []struct {
		name         string
		source, sink netip.Addr
		silent       bool
	}{{"IPv4", addrA, addrB, false}, {"IPv6", addrA6, addrB6, false}, {"silent", addrA, addrB, true}} {
		t.Run(v.name, func(t *testing.T) {
			l := newLab(t, 2, nil)
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
			tr := send(source, sink, random(21, 4_000_000))
			row := l.boxes[0].waitFlowFrom(t, v.source, portPaced, "paced, its source asked", func(r console.FlowRow) bool {
				st, err := l.boxes[0].Stats(t.Context())
				return r.State == console.FlowCheated && r.TCPMode == "pace" && err == nil && st.Cheat.Echoes.Sent > 0 && (v.silent || r.RTTSenderUS > 0)
			})
			st, err := l.boxes[0].Stats(t.Context())
			if err != nil || st.Cheat.Echoes.Sent > 3 || (st.Cheat.Echoes.Answered > 0) == v.silent {
				t.Errorf("stats %+v, %v", st.Cheat, err)
			}
			if v.silent && row.RTTSenderUS != 0 {
				t.Errorf("the source is silent, and its round trip is %d us", row.RTTSenderUS)
			}
			if row.RTTSenderUS > 500_000 {
				t.Errorf("a cable's round trip is %d us", row.RTTSenderUS)
			}
			if far, err := l.boxes[1].Stats(t.Context()); err != nil || far.Cheat.Echoes.Sent != 0 {
				t.Errorf("the receiver's box has asked somebody: %+v, %v", far.Cheat, err)
			}
			tr.wait(t)
			t.Logf("rtt_sender_us %d; %+v", row.RTTSenderUS, st.Cheat.Echoes)
		})
	}
}
