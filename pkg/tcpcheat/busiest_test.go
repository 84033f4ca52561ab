package tcpcheat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The busiest connections are those with most packets of late, in either direction;
// those that are let go already are none.
func TestBusiest(t *testing.T) {
	e := New(Limits{})
	now := time.Unix(1000, 0)
	var keys []packet.FlowKey
	for port := range uint16(5) {
		key := packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), 4000+port), netip.MustParseAddrPort("10.2.0.2:80"))
		if err := e.WatchNear(now, key); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	send := func(i, n int) {
		for k := range n {
			key := keys[i]
			if k%3 == 2 {
				key = key.Reverse()
			}
			p := packet.AppendTCP(nil, &packet.Segment{Key: key, TTL: 9, Flags: ack, Seq: 100, Ack: 100})
			v, err := packet.Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			e.Handle(now, v, Meta{})
		}
	}
	for i := range keys[:4] {
		send(i, 10*(i+1))
	}
	if got := e.Busiest(2); len(got) != 2 || got[0] != keys[3] || got[1] != keys[2] {
		t.Errorf("%v", got)
	}
	send(0, 3)
	send(3, 1)
	if got := e.Busiest(1); len(got) != 1 || got[0] != keys[0] {
		t.Errorf("of late: %v", got)
	}
	e.Shed(now, keys[0])
	send(0, 100)
	if got := e.Busiest(9); len(got) != 3 {
		t.Errorf("%d connections can be let go, want those that are followed: %v", len(got), got)
	}
	if got := e.Busiest(0); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if e.Len() != 5 {
		t.Errorf("%d connections", e.Len())
	}
}

// A connection that is let go for the box's own sake gets delivered what is in hand,
// though its source's segments do not come here any more: what the receiver
// acknowledges was sent, whether it passed here or not.
func TestShedDeliversUnseen(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	for i := range 4 {
		l.src(ack, 1448*i, 1448, l.opts())
	}
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	l.pass(50 * time.Millisecond)
	if l.stats().Unacked == 0 {
		t.Fatal("nothing is in hand")
	}
	l.e.Shed(l.now, l.key)
	if st := l.stats(); st.State != Draining || st.Reason != ErrOverload.Error() {
		t.Fatalf("%v, %q", st.State, st.Reason)
	}
	// Two more segments have passed by unseen.
	l.tick++
	a, seg := l.rcv(ack, 6*1448, 64000, 0, 0, l.opts())
	if a == Drop || seg.Ack() != l.sisn.Add(1+6*1448) {
		t.Errorf("the receiver's word was %v, with ack %d", a, seg.Ack().Diff(l.sisn))
	}
	l.pass(time.Millisecond)
	if st := l.stats(); st.State != LeftAlone || st.Contradictions != 0 || st.Undelivered != 0 {
		t.Errorf("%v, %q: %+v", st.State, st.Reason, st)
	}
	if l.e.Totals().Resets > 0 {
		t.Error("it was reset")
	}
}

// What is in hand and lost is still sent again.
func TestShedRepairs(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.src(ack, 1448, 1448, l.opts())
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	l.pass(50 * time.Millisecond)
	l.e.Shed(l.now, l.key)
	if got := l.pass(3 * time.Second); len(got) == 0 {
		t.Error("nothing is sent again")
	}
	l.tick++
	l.rcv(ack, 2*1448, 64000, 0, 0, l.opts())
	l.pass(time.Millisecond)
	if st := l.stats(); st.State != LeftAlone {
		t.Errorf("%v", st.State)
	}
}
