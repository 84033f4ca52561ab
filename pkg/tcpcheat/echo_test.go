package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// twice opens the connection with a SYN-ACK that is sent twice, so that the
// handshake does not tell the round trip to the source (Karn).
func (l *lab) twice() {
	l.t.Helper()
	if err := l.e.Watch(l.now, l.key); err != nil {
		l.t.Fatal(err)
	}
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: l.synOpts()}, Meta{})
	for range 2 {
		l.now = l.now.Add(time.Second)
		l.handle(&packet.Segment{
			Key: l.key.Reverse(), TTL: 61, Seq: l.risn, Ack: l.sisn.Add(1), Flags: syn | ack, Window: 65000, Options: l.synOpts(),
		}, Meta{})
	}
	l.now = l.now.Add(time.Millisecond)
	l.src(ack, 0, 0, l.opts())
}

// untimed is a cheated connection without time stamps whose source's round trip
// is not known.
func untimed(t *testing.T, p Params) *lab {
	t.Helper()
	l := newLab(t)
	l.ts = false
	l.twice()
	if err := l.e.Start(l.now, l.key, p); err != nil {
		t.Fatal(err)
	}
	return l
}

func asks(p Params) Params { p.Echo = true; return p }

// Where the handshake does not tell PRTT and there are no time stamps, the source
// is asked, at once, and what it answers is the round trip.
func TestEchoGivesPRTT(t *testing.T) {
	l := untimed(t, asks(labParams))
	got := l.e.TakeEchoes()
	if len(got) != 1 || got[0].Key != l.key {
		t.Fatalf("asked for %+v", got)
	}
	ask := got[0]
	edge := func() packet.Seq { return l.e.find(l.key).offered }
	before := edge()
	l.now = l.now.Add(15 * time.Millisecond)
	l.e.Echoed(l.now, ask, 15*time.Millisecond)
	if st := l.stats(); st.RTTSender != 15*time.Millisecond {
		t.Errorf("PRTT %v", st.RTTSender)
	}
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	if edge() == before {
		t.Error("the window does not move")
	}
	if l.pass(time.Minute); len(l.e.TakeEchoes()) != 0 {
		t.Error("asked again")
	}
}

// The first measurement of TCP's own takes its place, and is not mixed with it.
func TestEchoCountsUntilSomethingBetterIsKnown(t *testing.T) {
	l := untimed(t, asks(labParams))
	ask := l.e.TakeEchoes()[0]
	l.e.Echoed(l.now, ask, 80*time.Millisecond)
	l.e.find(l.key).rttSrc.sample(2 * time.Millisecond)
	if r := l.e.find(l.key).rttSrc; r.smooth != 2*time.Millisecond || r.min != r.smooth || r.lowest(l.e.now) != r.smooth {
		t.Errorf("%+v", r)
	}
	l.e.Echoed(l.now, ask, 80*time.Millisecond)
	if st := l.stats(); st.RTTSender != 2*time.Millisecond {
		t.Errorf("PRTT %v", st.RTTSender)
	}
}

// A source that does not answer is asked three times and no more, and the
// connection is cheated all the same.
func TestEchoIsNotRepeatedForEver(t *testing.T) {
	l := untimed(t, asks(labParams))
	var at []time.Duration
	begin := l.now
	for range 600 {
		for range l.e.TakeEchoes() {
			at = append(at, l.now.Sub(begin))
		}
		l.pass(100 * time.Millisecond)
	}
	if len(at) != maxEchoes || at[0] != 0 || at[1] < time.Second || at[2] < 3*time.Second || at[2] > 4*time.Second {
		t.Errorf("asked at %v", at)
	}
	_ = l.e.Start(l.now, l.key, asks(labParams))
	if l.pass(time.Minute); len(l.e.TakeEchoes()) != 0 {
		t.Error("a new reservation has it asked again")
	}
}

// Nobody is asked whose round trip is known, or whom Params do not allow to ask;
// time stamps get their chance first.
func TestEchoOnlyWhereNothingElseTells(t *testing.T) {
	l := newLab(t)
	l.start(asks(labParams))
	if l.pass(time.Minute); len(l.e.TakeEchoes()) != 0 {
		t.Error("asked though the handshake has told")
	}
	l = untimed(t, labParams)
	if l.pass(time.Minute); len(l.e.TakeEchoes()) != 0 {
		t.Error("asked without leave")
	}
	l = midway(t, asks(Params{Mode: Pace, Rate: 1e6, Bucket: 64e3}))
	if got := l.e.TakeEchoes(); len(got) != 0 {
		t.Errorf("time stamps get no chance: %+v", got)
	}
	if l.pass(1100 * time.Millisecond); len(l.e.TakeEchoes()) != 1 {
		t.Error("not asked though time stamps told nothing")
	}
	l = newLab(t)
	l.ts = false
	if err := l.e.WatchNear(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 0, 1448, nil)
	_ = l.e.Start(l.now, l.key, asks(Params{Mode: Pace, Rate: 1e6, Bucket: 64e3}))
	if got := l.e.TakeEchoes(); len(got) != 1 {
		t.Errorf("picked up in the middle without time stamps: %+v", got)
	}
}

// An answer that comes when the ports have a new connection, or none, is nobody's.
func TestEchoOfAnotherConnection(t *testing.T) {
	l := untimed(t, asks(labParams))
	old := l.e.TakeEchoes()[0]
	l.sisn = l.sisn.Add(1 << 24)
	l.twice()
	if err := l.e.Start(l.now, l.key, asks(labParams)); err != nil {
		t.Fatal(err)
	}
	l.e.Echoed(l.now, old, time.Millisecond)
	if st := l.stats(); st.RTTSender != 0 {
		t.Errorf("PRTT %v is another connection's", st.RTTSender)
	}
	if got := l.e.TakeEchoes(); len(got) != 1 || got[0].Serial == old.Serial {
		t.Errorf("%+v after %+v", got, old)
	}
	l.e.Forget(l.key)
	l.e.Echoed(l.now, old, time.Millisecond)
}

// What nobody takes is bounded.
func TestEchoesAreBounded(t *testing.T) {
	e := New(Limits{})
	e.tick(time.Unix(1, 0))
	for i := range 3 * maxAsked {
		c := &conn{near: &near{}, ask: asking{wanted: true}, serial: uint64(i + 1)}
		e.askSource(c)
	}
	if got := e.TakeEchoes(); len(got) != maxAsked {
		t.Errorf("%d wait", len(got))
	}
}
