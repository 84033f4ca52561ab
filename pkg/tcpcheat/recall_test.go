package tcpcheat

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// book is a Recorder in memory, of so many places.
type book struct {
	places []*Promise
	puts   int
}

func (b *book) Take(key packet.FlowKey, mode Mode) (int, bool) {
	for i, p := range b.places {
		if p == nil {
			b.places[i] = &Promise{Key: key, Mode: mode}
			return i, true
		}
	}
	return 0, false
}

func (b *book) Put(place int, p *Promise) { *b.places[place] = *p; b.puts++ }
func (b *book) Free(place int)            { b.places[place] = nil }

func (b *book) taken() (n int) {
	for _, p := range b.places {
		if p != nil {
			n++
		}
	}
	return n
}

// recorded is a lab with a cheated connection whose promises are kept.
func recorded(t testing.TB, mode Mode) (*lab, *book) {
	l, b := newLab(t), &book{places: make([]*Promise, 2)}
	l.e.Record(b, time.Unix(0, 0))
	p := labParams
	p.Mode = mode
	l.start(p)
	return l, b
}

// crash replaces the engine by a new one that has the old one's record.
func (l *lab) crash(b *book) *Promise {
	l.t.Helper()
	p := *b.places[0]
	*b = book{places: make([]*Promise, len(b.places))}
	l.e = New(Limits{})
	l.e.Record(b, time.Unix(0, 0))
	l.now = l.now.Add(time.Hour) // another process's epoch is another
	if err := l.e.Recall(l.now, &p); err != nil {
		l.t.Fatal(err)
	}
	return &p
}

// What is promised is recorded before anything is sent that promises it, for as
// long as the connection is cheated, and no longer.
func TestRecordIsAheadOfThePromise(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l, b := recorded(t, mode)
		for i := range 20 {
			l.src(ack, i*1448, 1448, l.opts())
			p := b.places[0]
			l.now = l.now.Add(time.Millisecond)
			l.e.Advance(l.now)
			for _, s := range l.take() {
				if s.to == ToSource && l.sisn.Add(1+s.off).After(p.Passed) {
					t.Fatalf("%v: told the source %d, recorded %d", mode, s.off, p.Passed.Diff(l.sisn.Add(1)))
				}
			}
			if i == 10 {
				l.rcv(ack, 5*1448, 64000, 0, 0, l.opts())
			}
		}
		p := b.places[0]
		if p == nil || p.Key != l.key || p.Mode != mode || p.Had != l.sisn.Add(1+5*1448) || p.Passed.Diff(l.sisn.Add(1)) <= 5*1448 ||
			p.SrcMax != l.sisn.Add(1+20*1448) || p.SrcAck != l.risn.Add(1) || p.RcvMax != l.risn.Add(1) || !p.Timestamps || p.Src.TTL != 64 || p.Rcv.TTL != 61 {
			t.Fatalf("%v: recorded %+v", mode, p)
		}
		l.rcv(rst, 20*1448, 0, 0, 0, nil)
		l.e.Forget(l.key)
		if b.taken() != 0 {
			t.Errorf("%v: a connection that has gone is still recorded", mode)
		}
	}
}

// A connection that is given back owes nothing, and is not recorded any more.
func TestRecordEndsWithTheCheating(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.e.Stop(l.now, l.key)
	if b.taken() != 1 {
		t.Fatal("draining, and not recorded")
	}
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	if s := l.stats(); s.State != Watched || b.taken() != 0 {
		t.Errorf("state %v, %d recorded", s.State, b.taken())
	}
}

// Whose promises cannot be recorded is not cheated.
func TestNoRoomInTheRecord(t *testing.T) {
	l := newLab(t)
	l.e.Record(&book{}, time.Unix(0, 0))
	l.start(labParams)
	if s := l.stats(); s.State != LeftAlone || s.Reason != ErrUnrecorded.Error() {
		t.Errorf("%v, %q", s.State, s.Reason)
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l, b := newLab(t), &book{places: make([]*Promise, 1)}
		l.e.Record(b, time.Unix(0, 0))
		s := streamOf(l, mode, 1448)
		s.warm()
		before := b.puts
		if n := testing.AllocsPerRun(2000, func() { s.sendData(); s.sendAck() }); n != 0 {
			t.Errorf("%v: %v allocations for data and ACK", mode, n)
		}
		if b.puts-before < 4000 {
			t.Errorf("%v: recorded %d times for 4000 packets", mode, b.puts-before)
		}
	}
}

// What was on its way when the process died arrives: the receiver has all that was
// promised, and nobody is reset.
func TestRecalledIsHealed(t *testing.T) {
	l, b := recorded(t, Realtime)
	for i := range 4 {
		l.src(ack, i*1448, 1448, l.opts())
	}
	l.pass(200 * time.Millisecond)
	p := l.crash(b)
	if p.Open() != 4*1448 || b.taken() != 1 {
		t.Fatalf("%d bytes are open, %d recorded", p.Open(), b.taken())
	}
	asked := l.take()
	if len(asked) != 2 || asked[0].Seq() != p.Had.Add(-1) || asked[1].Seq() != p.SrcAck.Add(-1) || asked[1].Ack() != p.Passed {
		t.Fatalf("RFC 9293 section 3.10.7.4: both ends are asked: %+v", asked)
	}
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	for i := range 2 { // what comes in time puts off the end
		l.pass(1500 * time.Millisecond)
		if s := l.stats(); s.State != Recalled {
			t.Fatalf("%v: %s", s.State, s.Reason)
		}
		l.rcv(ack, (2+i)*1448, 64000, 0, 0, l.opts())
	}
	if a, _ := l.rcv(ack, 4*1448, 64000, 0, 0, l.opts()); a != Accept {
		t.Errorf("%v", a)
	}
	if s := l.stats(); s.State != LeftAlone || s.Reason != reasonHealed || b.taken() != 0 {
		t.Errorf("%v: %s; %d recorded", s.State, s.Reason, b.taken())
	}
	for _, s := range l.pass(20 * time.Second) {
		t.Errorf("sent to %v: %v", s.to, s.Flags())
	}
	if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, ErrRecalled) {
		t.Errorf("cheated again: %v", err)
	}
}

// Both ends have heard later time stamps than the record has, and are idle: such an
// end may leave a question with an old one unanswered (RFC 7323 section 5.3), and one
// without may be dropped by others (section 3.2). There are both.
func TestRecalledIsAskedWithAndWithoutTimeStamps(t *testing.T) {
	l, b := recorded(t, Realtime)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	var with, without [2]int
	for i, s := range append(l.take(), l.pass(4*time.Second)...) {
		if s.o.HasTimestamps != (i/2%2 == 0) {
			t.Errorf("question %d: time stamps %v", i/2, s.o.HasTimestamps)
		}
		if s.o.HasTimestamps {
			with[s.to]++
		} else {
			without[s.to]++
		}
	}
	for to := range with {
		if with[to] < 2 || without[to] < 2 {
			t.Errorf("end %d was asked %d times with and %d times without", to, with[to], without[to])
		}
	}
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	if s := l.stats(); s.Reason != reasonHealed {
		t.Errorf("%v: %s", s.State, s.Reason)
	}
}

// resets are those of a list of packets, by whom they are for.
func resets(list []seg) (out [2][]seg) {
	for _, s := range list {
		if s.Has(rst) {
			out[s.to] = append(out[s.to], s)
		}
	}
	return out
}

// A receiver that still asks for what was promised gets it from nobody: both ends
// are reset, by numbers that they must believe (RFC 9293 section 3.10.7.4, RFC 5961
// section 3.2: exactly what is expected next).
func TestRecalledIsReset(t *testing.T) {
	l, b := recorded(t, Reliable)
	for i := range 4 {
		l.src(ack, i*1448, 1448, l.opts())
	}
	l.pass(200 * time.Millisecond)
	l.crash(b)
	begun := l.now
	l.rcv(ack, 1448, 64000, 100, 0, l.opts())
	l.pass(1900 * time.Millisecond)
	l.rcv(ack, 1448, 64000, 100, 0, l.opts()) // again and again: nothing new
	if got := resets(l.take()); len(got[0])+len(got[1]) > 0 {
		t.Fatal("reset before what is on its way could arrive")
	}
	if again := l.pass(150 * time.Millisecond); len(again) == 0 || len(resets(again)[ToReceiver])+len(resets(again)[ToSource]) > 0 {
		t.Fatalf("%s after the start it is asked once more: %v", l.now.Sub(begun), again)
	}
	l.pass(200 * time.Millisecond)
	l.rcv(ack, 1448, 64000, 100, 0, l.opts())
	got := resets(l.take())
	if len(got[ToReceiver]) != 1 || len(got[ToSource]) != 1 {
		t.Fatalf("%s after the start: %v", l.now.Sub(begun), got)
	}
	if r, s := got[ToReceiver][0], got[ToSource][0]; r.Seq() != l.sisn.Add(1+1448) || s.Seq() != l.risn.Add(1) || s.Ack() != l.sisn.Add(1+4*1448) {
		t.Errorf("RST to the receiver %d, to the source %d", r.Seq().Diff(l.sisn), s.Seq().Diff(l.risn))
	}
	// RFC 5961 section 3.2: one that expects another number says which, and is
	// reset by that.
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1 + 4*1448), Ack: l.risn.Add(101), Flags: ack, Window: 500, Options: l.opts()}, Meta{})
	if got := resets(l.take()); len(got[ToSource]) != 1 || got[ToSource][0].Seq() != l.risn.Add(101) {
		t.Errorf("after the challenge: %v", got)
	}
	l.rcv(ack, 2*1448, 64000, 100, 0, l.opts())
	if got := resets(l.take()); len(got[ToReceiver]) != 1 || got[ToReceiver][0].Seq() != l.sisn.Add(1+2*1448) {
		t.Errorf("after the challenge: %v", got)
	}
	l.pass(3 * time.Second)
	if s := l.stats(); s.State != Closed || s.Reason != reasonBroken || s.Undelivered != 2*1448 || b.taken() != 0 {
		t.Errorf("%v: %s; %d undelivered, %d recorded", s.State, s.Reason, s.Undelivered, b.taken())
	}
	if n := l.e.Totals().Resets; n < 4 || n > resetMost {
		t.Errorf("%d resets", n)
	}
}

// Where the record says that the bytes were in the dead process alone, nothing is
// waited for but the receiver's word.
func TestRecalledInHandIsResetAtOnce(t *testing.T) {
	l, b := recorded(t, Reliable)
	for i := range 8 {
		l.src(ack, i*1448, 1448, l.opts())
		l.pass(10 * time.Millisecond)
	}
	l.pass(150 * time.Millisecond)
	sack := func(from, to int) []byte {
		return packet.AppendSACK(l.opts(), []packet.SACKBlock{{Left: l.sisn.Add(1 + from), Right: l.sisn.Add(1 + to)}}, 20)
	}
	l.e.find(l.key).ch.bucket.tokens = -1e6 // there is none to send it again
	for i := range 6 {
		l.rcv(ack, 0, 64000, 0, 0, sack(2*1448, (3+i)*1448))
		l.now = l.now.Add(20 * time.Millisecond)
		l.e.Advance(l.now)
	}
	if !b.places[0].InHand {
		t.Fatalf("not in hand: %+v, %+v", b.places[0], l.stats())
	}
	l.crash(b)
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	l.pass(700 * time.Millisecond)
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	if n := l.e.Totals().Resets; n != 2 {
		t.Errorf("%d resets", n)
	}
}

// An acknowledgement that was on its way for long says nothing of now: only an answer
// to a question that was asked when all should have arrived makes a reset.
func TestRecalledNoResetOnAnOldAcknowledgement(t *testing.T) {
	l, b := recorded(t, Realtime)
	for i := range 4 {
		l.src(ack, i*1448, 1448, l.opts())
	}
	l.pass(200 * time.Millisecond)
	l.crash(b)
	l.rcv(ack, 1448, 64000, 0, 0, l.opts()) // heard, once
	l.pass(recallWait + 20*time.Millisecond)
	if l.e.find(l.key).recall.sure == 0 {
		t.Fatal("it was not asked once more")
	}
	l.take()
	l.rcv(ack, 1448, 64000, 0, 0, l.opts()) // sooner than an answer can come
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	if n := l.e.Totals().Resets; n != 0 {
		t.Fatalf("%d resets by what was on its way", n)
	}
	l.pass(200 * time.Millisecond)
	l.rcv(ack, 0, 64000, 0, 0, l.opts()) // overtaken by what was heard
	l.rcv(ack, 3*1448, 64000, 0, 0, l.opts())
	if n := l.e.Totals().Resets; n != 0 {
		t.Fatalf("%d resets though more arrives", n)
	}
	l.pass(500 * time.Millisecond)
	l.rcv(ack, 4*1448, 64000, 0, 0, l.opts())
	if s := l.stats(); s.State != LeftAlone || s.Reason != reasonHealed || l.e.Totals().Resets != 0 {
		t.Errorf("%v: %s", s.State, s.Reason)
	}
}

// forgotten checks that a recalled connection was let go without a reset.
func (l *lab) forgotten(b *book, why error) {
	l.t.Helper()
	if s := l.stats(); s.State != LeftAlone || s.Reason != why.Error() || b.taken() != 0 {
		l.t.Errorf("%v: %s; %d recorded", s.State, s.Reason, b.taken())
	}
	if ev := l.e.TakeEvents(); len(ev) != 1 || ev[0].Kind != EventLeftAlone || !ev[0].Recalled || ev[0].Healed {
		l.t.Errorf("%+v", ev)
	}
	if n := l.e.Totals().Resets; n != 0 {
		l.t.Errorf("%d resets", n)
	}
}

// An idle connection is asked. One whose receiver never answers here may be well, by
// another way: it is forgotten after R2 (RFC 9293 section 3.8.3), and nobody is reset.
func TestRecalledSilentReceiverIsForgotten(t *testing.T) {
	l, b := recorded(t, Realtime)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	begun, asked := l.now, 0
	for l.stats().State == Recalled && l.now.Sub(begun) < 2*time.Minute {
		asked += len(l.pass(100 * time.Millisecond))
	}
	if after := l.now.Sub(begun); asked < 20 || asked > 60 || after < 99*time.Second || after > 102*time.Second {
		t.Errorf("asked %d times, forgotten after %s", asked, after)
	}
	l.forgotten(b, ErrUnheard)
	if got := l.pass(time.Minute); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
}

// A source that passes here alone gets no reset either, however much it sends.
func TestRecalledOnlyTheSourcePasses(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	for i := 1; l.stats().State == Recalled; i++ {
		l.pass(2 * time.Second)
		l.src(ack, i*1448, 1448, l.opts())
	}
	l.forgotten(b, ErrUnheard)
}

// A receiver that was heard once and does not answer the last question is not known to
// lack anything.
func TestRecalledReceiverFallsSilent(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	l.pass(101 * time.Second)
	l.forgotten(b, ErrUnheard)
}

// RFC 7323 section 3: a source that goes on echoing time stamps which did not pass here
// hears its receiver by another way.
func TestRecalledReceiverIsHeardElsewhere(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	echo := func(n uint32) { l.src(ack, 1448, 100, packet.AppendTimestamps(nil, l.tick, n)) }
	echo(l.tick + 100) // this may have passed while there was no process
	l.pass(2 * time.Second)
	echo(l.tick + 2000)
	if s := l.stats(); s.State != Recalled {
		t.Fatalf("let go too soon: %s", s.Reason)
	}
	l.pass(1500 * time.Millisecond)
	echo(l.tick + 100)
	if s := l.stats(); s.State != Recalled {
		t.Fatalf("one echo is nothing: %s", s.Reason)
	}
	echo(l.tick + 3500)
	l.forgotten(b, ErrOneWay)
}

// Numbers that are far from those recorded are another connection's, which has the
// ports by now: it is not reset.
func TestRecalledPortsOfAnotherConnection(t *testing.T) {
	for name, say := range map[string]func(l *lab){
		"the source is ahead":    func(l *lab) { l.src(ack, 1<<30, 10, l.opts()) },
		"the source is behind":   func(l *lab) { l.src(ack, -1<<30, 10, l.opts()) },
		"the receiver is behind": func(l *lab) { l.rcv(ack, -1<<30, 64000, 0, 0, l.opts()) },
		"the receiver is ahead":  func(l *lab) { l.rcv(ack, 1<<30, 64000, 0, 0, l.opts()) },
	} {
		t.Run(name, func(t *testing.T) {
			l, b := recorded(t, Reliable)
			l.src(ack, 0, 1448, l.opts())
			l.pass(200 * time.Millisecond)
			l.crash(b)
			l.rcv(ack, 0, 64000, 0, 0, l.opts())
			l.pass(time.Second)
			say(l)
			l.forgotten(b, ErrReused)
		})
	}
}

// RFC 9293 section 3.8.4: an octet of garbage in a keep-alive would be taken for a
// byte that was promised and did not arrive.
func TestRecalledGarbageNeverReachesTheReceiver(t *testing.T) {
	l, b := recorded(t, Realtime)
	l.src(ack, 0, 100, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	if a := l.src(ack, 99, 1, l.opts()); a != Drop {
		t.Errorf("%v", a)
	}
	if a := l.src(ack, 100, 1, l.opts()); a != Accept {
		t.Errorf("new data: %v", a)
	}
}

// A new connection on the ports ends the old one's story, and is treated as any.
func TestRecalledPortsUsedAnew(t *testing.T) {
	l, b := recorded(t, Realtime)
	l.src(ack, 0, 100, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	l.take()
	l.sisn, l.risn = l.sisn.Add(1<<30), l.risn.Add(1<<29)
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: l.synOpts()}, Meta{})
	if s := l.stats(); s.State != Opening || b.taken() != 0 {
		t.Errorf("%v, %d recorded", s.State, b.taken())
	}
	if got := l.pass(5 * time.Second); len(got) > 0 {
		t.Errorf("sent: %v", got)
	}
}

func TestRecallRefuses(t *testing.T) {
	l, b := recorded(t, Realtime)
	l.src(ack, 0, 100, l.opts())
	l.pass(200 * time.Millisecond)
	p := *b.places[0]
	for _, tc := range []struct {
		name string
		edit func(*Promise)
		want error
	}{
		{"no TCP", func(p *Promise) { p.Key.Proto = packet.ProtoUDP }, ErrNotTCP},
		{"nothing open", func(p *Promise) { p.Had = p.Passed }, ErrNothingOpen},
		{"followed already", func(*Promise) {}, ErrReused},
	} {
		q := p
		tc.edit(&q)
		if err := l.e.Recall(l.now, &q); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	e := New(Limits{Flows: 1})
	if err := e.Recall(l.now, &p); err != nil {
		t.Fatal(err)
	}
	p.Key.SrcPort++
	if err := e.Recall(l.now, &p); !errors.Is(err, ErrTableFull) {
		t.Errorf("%v", err)
	}
}

// A box that must stop resets no recalled connection of which it does not know yet
// that it is broken. What is recorded stays, for the next process.
func TestRecalledIsNotResetByAStop(t *testing.T) {
	for name, heard := range map[string]bool{"not heard": false, "heard": true} {
		l, b := recorded(t, Reliable)
		l.src(ack, 0, 1448, l.opts())
		l.pass(200 * time.Millisecond)
		l.crash(b)
		if heard {
			l.rcv(ack, 0, 64000, 0, 0, l.opts())
		}
		l.pass(time.Second)
		l.e.Abort(l.now)
		if n := l.e.Totals().Resets; n != 0 || b.taken() != 1 {
			t.Errorf("%s: %d resets, %d recorded", name, n, b.taken())
		}
	}
}

// The age of a record is that of the last word of its connection: being looked after
// does not make it younger.
func TestRecordHasItsAge(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	at := b.places[0].At
	if d := int64(at) - l.now.Unix(); d < -2 || d > 0 {
		t.Fatalf("%d, it is %d", at, l.now.Unix())
	}
	l.crash(b)
	l.pass(10 * time.Second)
	if got := b.places[0].At; got != at {
		t.Errorf("recorded %d, and now %d", at, got)
	}
	l.rcv(ack, 0, 64000, 0, 0, l.opts())
	if got := b.places[0].At; int64(got) < l.now.Unix()-1 {
		t.Errorf("%d, it is %d", got, l.now.Unix())
	}
}

// Whatever would have a connection left alone, what was promised is looked after.
func TestRecalledIsNotLeftAlone(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	l.src(ack|packet.FlagURG, 1448, 10, l.opts())
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1459), Ack: l.risn.Add(1), Flags: ack, Window: 500}, Meta{In: 7})
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1459), Ack: l.risn.Add(1), Flags: ack, Window: 500}, Meta{In: 8})
	if s := l.stats(); s.State != Recalled {
		t.Errorf("%v: %s", s.State, s.Reason)
	}
}

// A connection that is let alone ends, while its packets still come here: the last
// event has it.
func TestLastWordsHaveTheFins(t *testing.T) {
	l, b := recorded(t, Reliable)
	l.src(ack, 0, 1448, l.opts())
	l.pass(200 * time.Millisecond)
	l.crash(b)
	l.src(ack|fin, 1448, 0, l.opts())
	l.rcv(ack, 1448, 64000, 0, 0, l.opts())
	if ev := l.e.TakeEvents(); len(ev) != 1 || ev[0].Kind != EventLeftAlone || !ev[0].Recalled || !ev[0].Healed || ev[0].Fins != [2]bool{true, false} {
		t.Errorf("%+v", ev)
	}
	l.rcv(ack|fin, 1449, 64000, 0, 0, l.opts())
	l.e.Forget(l.key)
	if ev := l.e.TakeEvents(); len(ev) != 1 || ev[0].Kind != EventEnded || ev[0].Fins != [2]bool{true, true} {
		t.Errorf("%+v", ev)
	}
}
