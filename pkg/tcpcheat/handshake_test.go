package tcpcheat

import (
	"errors"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// tcp.md 2.1: what is left alone, and by which name.
func TestLeftAloneWithReason(t *testing.T) {
	pad := func(b ...byte) []byte {
		for len(b)%4 != 0 {
			b = append(b, packet.OptNop)
		}
		return b
	}
	for _, c := range []struct {
		name string
		seg  packet.Segment
		want error
	}{
		{"RFC 8684 MPTCP", packet.Segment{Options: pad(30, 4, 0, 1)}, ErrMPTCP},
		{"RFC 2385 MD5", packet.Segment{Options: pad(append([]byte{19, 18}, make([]byte, 16)...)...)}, ErrMD5},
		{"RFC 5925 AO", packet.Segment{Options: pad(29, 16, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)}, ErrAO},
		{"RFC 8547 ENO", packet.Segment{Options: pad(69, 3, 1)}, ErrENO},
		{"RFC 9768 option", packet.Segment{Options: pad(172, 2)}, ErrAccECN},
		{"RFC 7413 data", packet.Segment{Options: pad(34, 10, 1, 2, 3, 4, 5, 6, 7, 8), Payload: []byte("x")}, ErrFastOpen},
		{"RFC 7413 experimental data", packet.Segment{Options: pad(254, 4, 0xf9, 0x89), Payload: []byte("x")}, ErrFastOpen},
		{"data in the SYN", packet.Segment{Payload: []byte("x")}, ErrSYNData},
		{"unknown kind", packet.Segment{Options: pad(99, 4, 0, 0)}, ErrOption},
		{"lying length", packet.Segment{Options: pad(2, 40, 0, 0)}, ErrOption},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			if err := l.e.Watch(l.now, l.key); err != nil {
				t.Fatal(err)
			}
			c.seg.Key, c.seg.Flags = l.key, syn
			if a, _ := l.handle(&c.seg, Meta{}); a != Accept {
				t.Errorf("action %v", a)
			}
			if st := l.stats(); st.State != LeftAlone || st.Reason != c.want.Error() {
				t.Errorf("state %v, reason %q, want %q", st.State, st.Reason, c.want)
			}
			if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, c.want) {
				t.Errorf("Start: %v", err)
			}
			ev := l.e.TakeEvents()
			if len(ev) != 1 || ev[0].Kind != EventLeftAlone || ev[0].Reason != c.want.Error() {
				t.Errorf("events %+v", ev)
			}
		})
	}
}

func TestMidStreamIsLeftAlone(t *testing.T) { // tcp.md 2.1
	l := newLab(t)
	if err := l.e.Watch(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 0, 100, l.opts())
	if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, ErrNoHandshake) {
		t.Errorf("Start: %v", err)
	}
}

func TestStartNeedsBothDirections(t *testing.T) { // tcp.md 2.1
	l := newLab(t)
	if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, ErrUnknownFlow) {
		t.Errorf("unwatched: %v", err)
	}
	_ = l.e.Watch(l.now, l.key)
	l.handle(&packet.Segment{Key: l.key, Seq: l.sisn, Flags: syn, Options: l.synOpts()}, Meta{})
	if err := l.e.Watch(l.now, l.key.Reverse()); !errors.Is(err, ErrOtherSide) {
		t.Errorf("other direction: %v", err)
	}
}

// RFC 7323 section 2.2: a scale counts only if both SYNs have one.
func TestRFC7323_2_2_ScaleNeedsBothSYNs(t *testing.T) {
	l := newLab(t)
	_ = l.e.Watch(l.now, l.key)
	l.handle(&packet.Segment{Key: l.key, Seq: l.sisn, Flags: syn, Options: l.synOpts()}, Meta{})
	l.handle(&packet.Segment{
		Key: l.key.Reverse(), Seq: l.risn, Ack: l.sisn.Add(1), Flags: syn | ack, Window: 30000, Options: []byte{2, 4, 5, 180},
	}, Meta{})
	l.ts = false
	l.src(ack, 0, 0, nil)
	c := l.e.find(l.key)
	if c.scaled || c.ts || c.sack || c.shiftRcv() != 0 || c.state != Watched {
		t.Errorf("scaled %v ts %v sack %v state %v", c.scaled, c.ts, c.sack, c.state)
	}
	if got := c.edge.Diff(c.rcv.ack); got != 30000 {
		t.Errorf("window %d, want 30000: that of a SYN is not scaled", got)
	}
}

// The receiver may be the one that opened: data flows against the SYN.
func TestReceiverOpens(t *testing.T) {
	l := newLab(t)
	_ = l.e.Watch(l.now, l.key)
	l.handle(&packet.Segment{Key: l.key.Reverse(), Seq: l.risn, Flags: syn, Options: l.synOpts()}, Meta{})
	l.handle(&packet.Segment{Key: l.key, Seq: l.sisn, Ack: l.risn.Add(1), Flags: syn | ack, Options: l.synOpts()}, Meta{})
	l.rcv(ack, 0, 60000, 0, 0, l.opts())
	if err := l.e.Start(l.now, l.key, labParams); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 0, 1448, l.opts())
	if got := l.take(); len(got) == 0 || got[0].off != 1448 {
		t.Errorf("got %d fake ACKs", len(got))
	}
}

// A reservation may come before the handshake is over: cheating begins with the
// connection, and a SYN that is tried again with a new ISN does not lose it.
func TestStartDuringHandshake(t *testing.T) {
	l := newLab(t)
	_ = l.e.Watch(l.now, l.key)
	l.handle(&packet.Segment{Key: l.key, Seq: 77, Flags: syn, Options: l.synOpts()}, Meta{})
	if err := l.e.Start(l.now, l.key, labParams); err != nil {
		t.Fatal(err)
	}
	l.open()
	if st := l.stats(); st.State != Cheated || !st.Active {
		t.Fatalf("%+v", st)
	}
	l.take()
	l.src(ack, 0, 1448, l.opts())
	if got := l.take(); len(got) != 1 || got[0].off != 1448 {
		t.Errorf("%d packets", len(got))
	}
}

// A SYN with a new ISN is a new connection: nothing of the old one may live on.
func TestNewISNReplacesState(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.sisn = 5000
	l.handle(&packet.Segment{Key: l.key, Seq: l.sisn, Flags: syn, Options: l.synOpts()}, Meta{})
	if st := l.stats(); st.State != Opening || l.e.Totals().Buffered != 0 {
		t.Errorf("%+v, buffered %d", st, l.e.Totals().Buffered)
	}
}

func TestUrgentStopsCheating(t *testing.T) { // tcp.md 2.6
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	if a := l.src(ack|packet.FlagURG, 1448, 10, l.opts()); a != Accept {
		t.Errorf("action %v", a)
	}
	if st := l.stats(); st.State != Draining || st.Reason != ErrUrgent.Error() {
		t.Errorf("%+v", st)
	}
	l.pass(1e7)
	l.rcv(ack, 1458, 60000, 0, 0, l.opts())
	if st := l.stats(); st.State != LeftAlone {
		t.Errorf("after delivery: %+v", st)
	}
}

func TestFlowTableIsBounded(t *testing.T) {
	l := newLab(t)
	l.e = New(Limits{Flows: 2})
	for i := range uint16(3) {
		k := l.key
		k.SrcPort += i
		err := l.e.Watch(l.now, k)
		if want := i == 2; errors.Is(err, ErrTableFull) != want {
			t.Errorf("flow %d: %v", i, err)
		}
	}
	l.pass(3 * 60 * 1e9)
	if n := l.e.Totals().Flows; n != 0 {
		t.Errorf("%d entries that never saw a SYN are still there", n)
	}
}
