package tcpcheat

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 3168 section 6.1.1 and RFC 9768 section 3.1.1: without the offer in its
// SYN a connection has no ECN. Echoing is the rule, stripping by choice.
func TestRFC3168_6_1_1_StripECN(t *testing.T) {
	for _, ae := range []bool{false, true} {
		for _, strip := range []bool{false, true} {
			for _, reverse := range []bool{false, true} {
				l := newLab(t)
				l.e.StripECN(strip)
				if err := l.e.Watch(l.now, l.key); err != nil {
					t.Fatal(err)
				}
				key := l.key
				if reverse {
					key = key.Reverse()
				}
				b := packet.AppendTCP(nil, &packet.Segment{
					Key: key, TTL: 64, Seq: 1, Flags: syn | packet.FlagECE | packet.FlagCWR, Window: 1000, Options: l.synOpts(),
				})
				v, _ := packet.Parse(b)
				if ae {
					v.TCP()[12] |= 1
					v.SetTCPChecksum()
				}
				a := l.e.Handle(l.now, v, Meta{})
				left := v.TCP().AE() || v.TCP().Flags() != syn
				if strip != (a == Modified) || strip == left || !v.TCPChecksumOK() {
					t.Errorf("AccECN %v strip %v: action %v, flags %x", ae, strip, a, v.TCP().Flags())
				}
				if st := l.stats(); (st.State == LeftAlone) != (ae && !strip) {
					t.Errorf("AccECN %v strip %v: state %v", ae, strip, st.State)
				}
				// Repeated, it is treated alike.
				b = packet.AppendTCP(nil, &packet.Segment{
					Key: key, TTL: 64, Seq: 1, Flags: syn | packet.FlagECE | packet.FlagCWR, Window: 1000, Options: l.synOpts(),
				})
				v, _ = packet.Parse(b)
				if a := l.e.Handle(l.now, v, Meta{}); strip != (a == Modified) {
					t.Errorf("strip %v, repeated: %v", strip, a)
				}
			}
		}
	}
	l := newLab(t)
	l.e.StripECN(true)
	l.open()
	if st := l.stats(); st.State != Watched {
		t.Errorf("a SYN without an offer: %+v", st)
	}
}
