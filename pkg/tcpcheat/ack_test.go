package tcpcheat

import (
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

func sackOpt(l *lab, blocks ...int) []byte {
	var b []packet.SACKBlock
	for i := 0; i < len(blocks); i += 2 {
		b = append(b, packet.SACKBlock{Left: l.sisn.Add(1 + blocks[i]), Right: l.sisn.Add(1 + blocks[i+1])})
	}
	return packet.AppendSACK(l.opts(), b, 28)
}

// tcp.md 2.2 and 2.3: every field of a fake ACK.
func TestFakeAckFields(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.tick = 500
		l.rcv(ack, 0, 60000, 0, 0, l.opts())
		l.tick = 700
		if a := l.src(ack|packet.FlagPSH, 0, 1448, l.opts()); a != Accept {
			t.Fatalf("data: %v", a)
		}
		got := l.take()
		if len(got) != 1 {
			t.Fatalf("%v: %d packets", mode, len(got))
		}
		f := got[0]
		if f.to != ToSource || f.off != 1448 || f.Seq() != l.risn.Add(1) || f.Flags() != ack || len(f.Payload()) != 0 {
			t.Errorf("%v: to %v off %d seq %v flags %x", mode, f.to, f.off, f.Seq(), f.Flags())
		}
		if f.o.TSVal != 500 || f.o.TSEcr != 700 {
			t.Errorf("%v: TSval %d TSecr %d, want the receiver's latest and the segment's", mode, f.o.TSVal, f.o.TSEcr)
		}
		if f.v.TTL() != 61 || f.v.TOS() != 0x28 || !f.v.DF() {
			t.Errorf("%v: TTL %d TOS %x DF %v", mode, f.v.TTL(), f.v.TOS(), f.v.DF())
		}
	}
}

// Super-packets are acknowledged cumulatively, at the reserved rate, in steps.
func TestReleaseAtReservedRate(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Bucket = 3000
	l.start(p)
	l.src(ack, 0, 20*1448, l.opts())
	first := l.take()
	last := 0
	for _, s := range append(first, l.pass(10*time.Millisecond)...) {
		if s.off <= last || (s.off-last) > 3*1448 {
			t.Errorf("ACK of %d after %d", s.off, last)
		}
		last = s.off
	}
	// 3000 bytes of bucket and 10 ms at 1 MB/s, in full segments of 1500.
	if last < 10000*1448/1500 || last > 13000*1448/1500 {
		t.Errorf("%d bytes acknowledged after 10 ms", last)
	}
	l.pass(30 * time.Millisecond)
	if got := l.e.find(l.key).passed.Diff(l.sisn.Add(1)); got != 20*1448 {
		t.Errorf("%d acknowledged in the end", got)
	}
}

// tcp.md 2.3: a fake ACK is never older than half of Linux's least timeout; it
// is then sent early and the edge stays where it was.
func TestOldFakeAckGoesEarlyWithFrozenEdge(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Rate, p.Bucket = 2000, 3000
	l.start(p)
	l.src(ack, 0, 8*1448, l.opts())
	got := append(l.take(), l.pass(ackAge)...)
	end := got[len(got)-1]
	if end.off != 8*1448 {
		t.Fatalf("acknowledged %d after %v", end.off, ackAge)
	}
	if edge := end.off + int(end.Window())<<7; edge > 65000+2*127 { // rounded up in whole units
		t.Errorf("edge moved to %d", edge)
	}
}

// RFC 9293 SHLD-14: the right edge never moves left, whatever the receiver says.
func TestRFC9293_3_8_6_EdgeNeverMovesLeft(t *testing.T) {
	for _, predict := range []bool{true, false} {
		l := newLab(t)
		p := labParams
		p.Predict, p.Bucket = predict, 3000
		l.start(p)
		edge, off := 0, 0
		for i := range 200 {
			if off+1448 <= max(edge, 60000) {
				l.src(ack, off, 1448, l.opts())
				off += 1448
			}
			win := []int{60000, 100, 0, 200000, 4000}[i%5]
			l.rcv(ack, max(0, off-20*1448), win, 0, 0, l.opts())
			for _, s := range append(l.take(), l.pass(3*time.Millisecond)...) {
				if s.to != ToSource {
					continue
				}
				e := s.off + int(s.Window())<<7
				if e < edge-127 { // RFC 7323 section 2.4
					t.Fatalf("step %d: edge %d after %d", i, e, edge)
				}
				edge = max(edge, e)
			}
		}
	}
}

// Honour: nothing is offered beyond what the receiver offered.
func TestHonourKeepsToReceiversEdge(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := Params{Mode: mode, Rate: 1e7, Bucket: 1e6}
		l.start(p)
		for off := 0; off+1448 <= 65000; off += 1448 {
			l.src(ack, off, 1448, l.opts())
			for _, s := range append(l.take(), l.pass(time.Millisecond)...) {
				if e := s.off + int(s.Window())<<7; e > 65000 {
					t.Fatalf("%v: offered up to %d of 65000", mode, e)
				}
			}
		}
	}
}

// Predict: given up when the receiver's window falls, taken up again later.
func TestPredictionWithdrawnAndRearmed(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Bucket = 1e6
	l.start(p)
	for off := 0; off < 100*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	if st := l.stats(); !st.Predicting {
		t.Fatal("not predicting")
	}
	l.rcv(ack, 40*1448, 20000, 0, 0, l.opts())
	if st := l.stats(); st.Predicting {
		t.Error("still predicting after the window fell to a third")
	}
	l.rcv(ack, 41*1448, 65000, 0, 0, l.opts())
	if st := l.stats(); st.Predicting {
		t.Error("trusts again at once")
	}
	l.pass(2 * firstDoubt)
	l.rcv(ack, 60*1448, 65000, 0, 0, l.opts())
	if st := l.stats(); !st.Predicting {
		t.Error("does not trust a window that has recovered")
	}
}

func TestRealAcks(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 4*1448, l.opts())
	l.take()
	// Pure and below the faked edge: absorbed.
	if a, _ := l.rcv(ack, 1448, 65000, 0, 0, l.opts()); a != Drop {
		t.Errorf("pure ACK: %v", a)
	}
	// With data: raised to the faked edge, SACK blanked, window ours.
	a, s := l.rcv(ack|packet.FlagPSH, 1448, 100, 0, 50, sackOpt(l, 2*1448, 3*1448))
	o, ok := packet.ParseOptions(s.Options())
	if a != Modified || s.Ack() != l.sisn.Add(1+4*1448) || o.NSACK != 0 || !ok || !o.HasTimestamps {
		t.Errorf("data: %v, ack +%d, %d blocks", a, s.Ack().Diff(l.sisn.Add(1)), o.NSACK)
	}
	if edge := 4*1448 + int(s.Window())<<7; edge < 65000-127 {
		t.Errorf("data: edge %d", edge)
	}
	// Of what was never sent: not believed.
	if a, _ := l.rcv(ack, 9*1448, 65000, 50, 0, l.opts()); a != Accept || l.stats().Contradictions != 1 {
		t.Errorf("unsent: %v, %+v", a, l.stats())
	}
	// Everything delivered: a repeated ACK is an answer to somebody.
	l.rcv(ack, 4*1448, 65000, 50, 0, l.opts())
	if a, _ := l.rcv(ack, 4*1448, 65000, 50, 0, l.opts()); a != Modified {
		t.Errorf("idle: %v", a)
	}
	if st := l.stats(); st.Absorbed != 2 || st.Rewritten != 2 {
		t.Errorf("%+v", st)
	}
}

// A packet that was damaged on its way stays damaged (RFC 1624), one whose sum
// the kernel has not made yet gets a whole one (tcp.md 0.4).
func TestEditedChecksum(t *testing.T) {
	for _, ready := range []bool{true, false} {
		l := newLab(t)
		l.start(labParams)
		l.src(ack, 0, 1448, l.opts())
		b := packet.AppendTCP(nil, &packet.Segment{
			Key: l.key.Reverse(), Seq: l.risn.Add(1), Ack: l.sisn.Add(1), Flags: ack, Options: l.opts(), Payload: []byte("hello"),
		})
		b[len(b)-1] ^= 1
		v, _ := packet.Parse(b)
		want := Modified
		if ready {
			want = Accept // as it is: nothing in it is to be believed
		}
		if a := l.e.Handle(l.now, v, Meta{CsumNotReady: !ready}); a != want {
			t.Fatalf("action %v", a)
		}
		if v.TCPChecksumOK() == ready {
			t.Errorf("ready %v: checksum ok %v", ready, v.TCPChecksumOK())
		}
	}
}

func TestDamagedDataIsNotAcknowledged(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	b := packet.AppendTCP(nil, &packet.Segment{
		Key: l.key, Seq: l.sisn.Add(1), Ack: l.risn.Add(1), Flags: ack, Options: l.opts(), Payload: make([]byte, 1000),
	})
	b[len(b)-1] ^= 1
	v, _ := packet.Parse(b)
	if a := l.e.Handle(l.now, v, Meta{}); a != Accept || len(l.pass(time.Second)) != 0 || l.stats().BadChecksums != 1 {
		t.Errorf("action %v, %+v", a, l.stats())
	}
}

// tcp.md 2.2: a duplicate is answered at once, and in reliable mode goes no
// further; answers have a least distance (RFC 5961 section 7).
func TestSourceRetransmission(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		l.take()
		l.pass(20 * time.Millisecond)
		want := Accept
		if mode == Reliable {
			want = Drop
		}
		for range 10 {
			if a := l.src(ack, 0, 1448, l.opts()); a != want {
				t.Errorf("%v: %v", mode, a)
			}
		}
		if got := l.take(); len(got) != 1 || got[0].off != 1448 {
			t.Errorf("%v: %d answers at once", mode, len(got))
		}
		if got := l.pass(20 * time.Millisecond); len(got) != 1 {
			t.Errorf("%v: %d answers later", mode, len(got))
		}
	}
}

// RFC 2018 section 4: a hole in front of the box is told to the source.
func TestHoleInFrontOfBox(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		l.take()
		if a := l.src(ack, 2*1448, 1448, l.opts()); a != Accept {
			t.Errorf("%v: %v", mode, a)
		}
		got := l.take()
		if len(got) != 1 || got[0].off != 1448 || got[0].o.NSACK != 1 || got[0].o.SACK[0].Left != l.sisn.Add(1+2*1448) {
			t.Fatalf("%v: %+v", mode, got)
		}
		l.src(ack, 1448, 1448, l.opts())
		got = l.take()
		if len(got) != 1 || got[0].off != 3*1448 || got[0].o.NSACK != 0 {
			t.Errorf("%v after the repair: %+v", mode, got)
		}
	}
}

// tcp.md 2.6: the FIN is acknowledged by the receiver or not at all.
func TestFINIsNeverFaked(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.src(ack|fin, 0, 1448, l.opts())
		for _, s := range append(l.take(), l.pass(50*time.Millisecond)...) {
			if s.to == ToSource && s.off > 1448 {
				t.Errorf("%v: acknowledged %d", mode, s.off)
			}
		}
		a, s := l.rcv(ack, 1449, 65000, 0, 0, l.opts())
		if a != Modified || s.Ack() != l.sisn.Add(1+1449) {
			t.Errorf("%v: the real ACK of the FIN: %v", mode, a)
		}
		// Half close: the receiver may go on for as long as it likes.
		if a, s = l.rcv(ack, 1449, 65000, 0, 500, l.opts()); a != Modified || len(s.Payload()) != 500 {
			t.Errorf("%v: reply after the FIN: %v", mode, a)
		}
		if st := l.stats(); st.State != Cheated {
			t.Errorf("%v: %v", mode, st.State)
		}
	}
}

// RFC 3168 section 6.1: CE is echoed until CWR; in realtime the receiver's own
// echo is copied once, in reliable it is counted.
func TestECN(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.tos = 3
		l.src(ack, 0, 1448, l.opts())
		l.tos = 2
		l.src(ack, 1448, 1448, l.opts())
		for _, s := range l.take() {
			if !s.Has(packet.FlagECE) || s.v.ECN() != 0 {
				t.Errorf("%v: flags %x, ECN %d", mode, s.Flags(), s.v.ECN())
			}
		}
		l.src(ack|packet.FlagCWR, 2*1448, 1448, l.opts())
		if got := l.take(); len(got) != 1 || got[0].Has(packet.FlagECE) {
			t.Errorf("%v: ECE after CWR", mode)
		}
		// The receiver's echo of the same mark does not count again.
		l.rcv(ack|packet.FlagECE, 1448, 65000, 0, 0, l.opts())
		l.src(ack, 3*1448, 1448, l.opts())
		if got := l.take(); got[0].Has(packet.FlagECE) {
			t.Errorf("%v: one mark echoed twice", mode)
		}
		// A mark set behind the box is for the source in realtime mode only.
		l.rcv(ack|packet.FlagECE, 3*1448, 65000, 0, 0, l.opts())
		l.src(ack, 4*1448, 1448, l.opts())
		if got := l.take(); got[0].Has(packet.FlagECE) != (mode == Realtime) || l.stats().ECE != 2 {
			t.Errorf("%v: flags %x, %+v", mode, got[0].Flags(), l.stats())
		}
	}
}

func TestResets(t *testing.T) {
	t.Run("RFC 5961 3.2 by the receiver", func(t *testing.T) {
		l := newLab(t)
		l.start(labParams)
		l.src(ack, 0, 1448, l.opts())
		if a, _ := l.rcv(rst, 0, 0, 999, 0, nil); a != Accept || l.stats().State != Cheated {
			t.Errorf("a reset that the source will not believe ended the flow: %v", l.stats().State)
		}
		if a, _ := l.rcv(rst, 0, 0, 0, 0, nil); a != Accept || l.stats().State != Closed || l.e.Totals().Buffered != 0 {
			t.Errorf("%v, %+v", a, l.stats())
		}
	})
	t.Run("tcp.md 2.6 by the source", func(t *testing.T) {
		l := newLab(t)
		l.start(labParams)
		l.src(ack, 0, 3*1448, l.opts())
		l.take()
		l.rcv(ack, 1448, 65000, 0, 0, l.opts())
		if a := l.src(rst|ack, 3*1448, 0, nil); a != Accept {
			t.Errorf("action %v", a)
		}
		got := l.take()
		if len(got) != 1 || got[0].to != ToReceiver || got[0].off != 1448 || !got[0].Has(rst) {
			t.Errorf("%+v", got)
		}
	})
}

// RFC 9293 sections 3.8.4, 3.8.6.1.
func TestProbes(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.take()
	l.pass(20 * time.Millisecond)
	if a := l.src(ack, 1447, 0, l.opts()); a != Drop {
		t.Errorf("probe while data is out: %v", a)
	}
	if got := l.take(); len(got) != 1 || got[0].off != 1448 {
		t.Errorf("answer: %+v", got)
	}
	l.rcv(ack, 1448, 65000, 0, 0, l.opts())
	if a := l.src(ack, 1447, 0, l.opts()); a != Accept {
		t.Errorf("keep-alive of an idle connection: %v", a)
	}
	if a, _ := l.rcv(ack, 1448, 65000, 0, 0, l.opts()); a != Modified {
		t.Errorf("its answer: %v", a)
	}
}

func TestDrainHandsBack(t *testing.T) { // tcp.md 2.9
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.src(ack, 0, 4*1448, l.opts())
		l.take()
		l.e.Stop(l.now, l.key)
		if st := l.stats(); st.State != Draining {
			t.Fatalf("%v: %+v", mode, st)
		}
		l.src(ack, 4*1448, 1448, l.opts())
		for _, s := range append(l.take(), l.pass(50*time.Millisecond)...) {
			if s.to == ToSource && s.off > 4*1448 {
				t.Errorf("%v: acknowledged %d while draining", mode, s.off)
			}
		}
		l.rcv(ack, 4*1448, 65000, 0, 0, l.opts())
		if st := l.stats(); st.State != Watched || st.Reason != reasonStopped || l.e.Totals().Buffered != 0 {
			t.Errorf("%v: %+v", mode, st)
		}
		if a, _ := l.rcv(ack, 5*1448, 65000, 0, 0, l.opts()); a != Accept {
			t.Errorf("%v: ACK after the drain: %v", mode, a)
		}
		var kinds []EventKind
		for _, ev := range l.e.TakeEvents() {
			kinds = append(kinds, ev.Kind)
		}
		if !slices.Equal(kinds, []EventKind{EventDraining, EventDrained}) {
			t.Errorf("%v: events %v", mode, kinds)
		}
	}
}

// Start on a connection that has more data out than is kept for this: that
// belongs to its ends.
func TestStartLater(t *testing.T) {
	l := newLab(t)
	l.open()
	const before = 60 * 1448
	for off := 0; off < before; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	if err := l.e.Start(l.now, l.key, labParams); err != nil {
		t.Fatal(err)
	}
	l.src(ack, before, 1448, l.opts())
	if got := append(l.take(), l.pass(time.Second)...); len(got) != 0 {
		t.Errorf("%d packets before the earlier data was acknowledged", len(got))
	}
	if a, _ := l.rcv(ack, 1448, 65000, 0, 0, l.opts()); a != Accept {
		t.Errorf("early ACK: %v", a)
	}
	l.rcv(ack, before, 65000, 0, 0, l.opts())
	if got := append(l.take(), l.pass(50*time.Millisecond)...); len(got) == 0 || got[len(got)-1].off != before+1448 {
		t.Errorf("not cheated afterwards: %+v", got)
	}
}

func TestRealtimeHoleHonoursEdge(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode = Realtime
	l.start(p)
	for off := 0; off < 20*1448; off += 1448 {
		l.src(ack, off, 1448, l.opts())
	}
	l.rcv(ack, 1448, 65000, 0, 0, sackOpt(l, 2*1448, 4*1448))
	l.pass(50 * time.Millisecond)
	l.rcv(ack, 1448, 65000, 0, 0, sackOpt(l, 2*1448, 9*1448))
	if st := l.stats(); st.Predicting || st.Reason != reasonHole || st.Holes != 1 {
		t.Errorf("%+v", st)
	}
	got := l.pass(101 * time.Second)
	if n := len(got); n < 2 || !got[n-1].Has(rst) || !got[n-2].Has(rst) {
		t.Errorf("no reset of both ends in %d packets", n)
	}
	if ev := l.e.TakeEvents(); len(ev) != 1 || ev[0].Kind != EventReset || ev[0].Reason != reasonNoProgress {
		t.Errorf("%+v", ev)
	}
}
