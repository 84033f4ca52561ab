package tcpcheat

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// from is a segment that comes in by a port of a bridge: of the source with the
// receiver's first byte awaited, or of the receiver.
func (l *lab) from(port int, receiver bool, flags uint8, n int) Action {
	l.t.Helper()
	s := packet.Segment{Key: l.key, TTL: 64, DF: true, Seq: l.sisn.Add(1), Ack: l.risn.Add(1), Flags: flags, Window: 500, Options: l.opts(), Payload: contents(0, n)}
	if receiver {
		s.Key, s.Seq, s.Ack = l.key.Reverse(), l.risn.Add(1), l.sisn.Add(1)
	}
	if flags&syn != 0 {
		s.Seq, s.Options = s.Seq.Add(-1), l.synOpts()
	}
	if flags&ack == 0 {
		s.Ack = 0
	}
	a, _ := l.handle(&s, Meta{In: port})
	return a
}

func (l *lab) leftAlone(why error) bool {
	l.t.Helper()
	for _, e := range l.e.TakeEvents() {
		if e.Kind == EventLeftAlone && e.Reason == why.Error() {
			return true
		}
	}
	return false
}

func (l *lab) watched() *lab {
	l.t.Helper()
	if err := l.e.Watch(l.now, l.key); err != nil {
		l.t.Fatal(err)
	}
	return l
}

// A connection goes from one port of a bridge to another; any other one is not what
// it seems, and is left alone at once.
func TestConnectionsThatStrayBetweenPortsAreLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		do  func(l *lab)
		why error
	}{
		"a SYN that is routed and comes by again": {func(l *lab) {
			l.from(1, false, syn, 0)
			l.from(2, false, syn, 0)
		}, ErrTwoPorts},
		"an answer by the same port": {func(l *lab) {
			l.from(1, false, syn, 0)
			l.from(1, true, syn|ack, 0)
		}, ErrOnePort},
		"data by another port": {func(l *lab) {
			l.from(1, false, syn, 0)
			l.from(2, true, syn|ack, 0)
			l.from(1, false, ack, 0)
			l.from(2, false, ack, 100)
		}, ErrTwoPorts},
		"ACKs by a third port": {func(l *lab) {
			l.from(1, false, syn, 0)
			l.from(2, true, syn|ack, 0)
			l.from(1, false, ack, 100)
			l.from(3, true, ack, 0)
		}, ErrTwoPorts},
	} {
		l := newLab(t).watched()
		tt.do(l)
		if !l.leftAlone(tt.why) || l.stats().State != LeftAlone {
			t.Errorf("%s: %+v", name, l.stats())
		}
	}
	l := newLab(t).watched()
	l.from(1, false, syn, 0)
	l.from(2, true, syn|ack, 0)
	l.from(1, false, ack, 0)
	l.from(2, true, ack, 100)
	if st := l.stats(); st.State != Watched {
		t.Errorf("an ordinary connection: %+v", st)
	}
	// New stations on the same ports are a new connection.
	l.risn, l.sisn = l.risn.Add(1e6), l.sisn.Add(1e6)
	l.from(2, false, syn, 0)
	if st := l.stats(); st.State != LeftAlone {
		t.Errorf("a SYN by the other port: %+v", st)
	}
	l.from(2, false, syn, 0)
	l.from(1, true, syn|ack, 0)
	l.from(2, false, ack, 0)
	if st := l.stats(); st.State != Watched {
		t.Errorf("another connection: %+v", st)
	}
}

// One that is cheated when it strays gets what is in hand delivered, by packets of
// whatever port.
func TestStrayedConnectionIsDrained(t *testing.T) {
	l := newLab(t)
	l.watched()
	l.from(1, false, syn, 0)
	l.from(2, true, syn|ack, 0)
	l.from(1, false, ack, 0)
	if err := l.e.Start(l.now, l.key, labParams); err != nil {
		t.Fatal(err)
	}
	l.from(1, false, ack, 1448)
	l.from(3, false, ack, 1448)
	if st := l.stats(); st.State != Draining {
		t.Fatalf("%+v", st)
	}
	l.now = l.now.Add(10 * time.Millisecond)
	l.handle(&packet.Segment{
		Key: l.key.Reverse(), TTL: 61, DF: true, Seq: l.risn.Add(1), Ack: l.sisn.Add(1 + 1448), Flags: ack, Window: 500, Options: l.opts(),
	}, Meta{In: 3})
	if st := l.stats(); st.State != LeftAlone || st.Undelivered != 0 {
		t.Errorf("%+v", st)
	}
}

// A connection whose other direction goes elsewhere is told by the first segment
// that answers what was not seen.
func TestConnectionSeenInOneDirectionIsLeftAlone(t *testing.T) {
	for _, start := range []bool{false, true} {
		l := newLab(t).watched()
		l.from(0, false, syn, 0)
		if start {
			if err := l.e.Start(l.now, l.key, labParams); err != nil {
				t.Fatal(err)
			}
		}
		l.from(0, false, syn, 0) // repeated: nothing has answered yet
		if st := l.stats(); st.State != Opening {
			t.Errorf("a SYN twice: %+v", st)
		}
		l.from(0, false, ack, 0)
		if !l.leftAlone(ErrOneWay) || !errors.Is(l.e.Start(l.now, l.key, labParams), ErrOneWay) {
			t.Errorf("%+v", l.stats())
		}
	}
	// An old segment on the same ports says nothing of this connection.
	l := newLab(t).watched()
	l.from(0, false, syn, 0)
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(-5000), Ack: l.risn, Flags: ack, Window: 500, Options: l.opts()}, Meta{})
	l.from(0, true, syn|ack, 0)
	l.from(0, false, ack, 0)
	if st := l.stats(); st.State != Watched {
		t.Errorf("%+v", st)
	}
}

// Leave is for reasons that are not in the packets.
func TestLeave(t *testing.T) {
	l := newLab(t)
	l.open()
	l.e.TakeEvents()
	why := errors.New("somebody says so")
	l.e.Leave(l.now, l.key, why)
	l.e.Leave(l.now, l.key.Reverse(), errors.New("and again"))
	if !l.leftAlone(why) {
		t.Errorf("%+v", l.stats())
	}
	l.e.Leave(l.now, packet.FlowKey{}, why) // of nobody
	l = newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.e.Leave(l.now, l.key, why)
	if st := l.stats(); st.State != Draining {
		t.Errorf("with bytes in hand: %+v", st)
	}
	l.now = l.now.Add(time.Millisecond)
	l.rcv(ack, 1448, 65000, 0, 0, l.opts())
	if st := l.stats(); st.State != LeftAlone || st.Reason != why.Error() {
		t.Errorf("afterwards: %+v", st)
	}
}
