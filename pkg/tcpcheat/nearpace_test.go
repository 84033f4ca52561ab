package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// pacedLab is a connection with 50 ms to the source and 1 ms to the receiver,
// whose reservation has just come.
func pacedLab(t testing.TB, p Params) *lab {
	l := newLab(t)
	l.start(p)
	c := l.e.find(l.key)
	c.rttSrc, c.rttRcv = rtt{}, rtt{}
	c.rttSrc.sample(50 * time.Millisecond)
	c.rttRcv.sample(time.Millisecond)
	return l
}

// small is a bucket that is empty after the first segments, which the edge
// that the SYN-ACK gave is far beyond.
var smallPace = Params{Mode: Pace, Rate: 1e5, Bucket: 6000}

// used has the source use up all that it was offered, so that the edge clocks it.
func (l *lab) used() (off int) {
	l.t.Helper()
	c := l.e.find(l.key)
	for c.offered.Diff(l.sisn.Add(1+off)) >= 1448 {
		l.now = l.now.Add(time.Millisecond)
		l.src(ack, off, 1448, l.opts())
		off += 1448
		if p := &c.near.pace; p.spaces {
			p.tokens = p.cost(1448) + 1 // so that nothing is held
		}
		l.rcv(ack, off, 60000, 0, 0, l.opts())
		l.take()
	}
	return off
}

func (l *lab) edgeOf(off int, t packet.TCP) int { return off + int(t.Window())<<l.shift }

// A window is made smaller, its edge moves at the rate: W is not given at once.
func TestPaceTrimsWindows(t *testing.T) {
	l := pacedLab(t, smallPace)
	off := l.used()
	before := l.e.find(l.key).offered.Diff(l.sisn.Add(1))
	l.now = l.now.Add(50 * time.Millisecond)
	l.src(ack, off, 500, l.opts())
	a, got := l.rcv(ack, off+500, 60000, 0, 0, l.opts())
	edge := l.edgeOf(off+500, got)
	if a != Modified || edge < before || edge > before+6000 {
		t.Errorf("%v, edge %d after %d", a, edge, before)
	}
	if got.Ack() != l.sisn.Add(1+off+500) {
		t.Error("the acknowledgement number was changed")
	}
}

// What says more than a plain ACK is never held back nor dropped, whatever the
// bucket says: SACK blocks, ECE, data, FIN. Only its window is smaller.
func TestPaceNeverHoldsNews(t *testing.T) {
	l := pacedLab(t, smallPace)
	off := l.used()
	l.e.find(l.key).near.pace.tokens = -6000
	for name, f := range map[string]func() Action{
		"SACK": func() Action { a, _ := l.rcv(ack, off, 60000, 0, 0, sackOpt(l, off+1448, off+2896)); return a },
		"ECE":  func() Action { a, _ := l.rcv(ack|packet.FlagECE, off, 60000, 0, 0, l.opts()); return a },
		"data": func() Action { a, _ := l.rcv(ack|packet.FlagPSH, off, 60000, 0, 100, l.opts()); return a },
		"dup":  func() Action { a, _ := l.rcv(ack, off, 60000, 0, 0, l.opts()); return a },
	} {
		if a := f(); a == Drop && len(l.take()) == 0 {
			t.Errorf("%s was dropped", name)
		}
	}
}

// A source that has been offered more than the bucket is deep is clocked by
// acknowledgement numbers, each held no longer than paceHold, and none lost.
func TestPaceSpacesAcks(t *testing.T) {
	l := pacedLab(t, smallPace)
	l.src(ack, 0, 20*1448, l.opts())
	a, _ := l.rcv(ack, 20*1448, 600000, 0, 0, l.opts())
	if a != Drop {
		t.Fatalf("20 segments acknowledged at once: %v", a)
	}
	last, start := 0, l.now
	for _, s := range l.pass(3 * time.Second) {
		if s.off < last || s.off > 20*1448 || s.off-last > 5*1448 {
			t.Errorf("ACK of %d after %d", s.off, last)
		}
		last = s.off
	}
	if last != 20*1448 {
		t.Errorf("released %d of %d", last, 20*1448)
	}
	if n := l.stats(); n.FakeAcks < 4 {
		t.Errorf("%d ACKs within %v", n.FakeAcks, l.now.Sub(start))
	}
}

// RFC 9293 section 3.8.6.1: the update of a source that has used up its window
// is repeated, for it may have been lost, and not for ever.
func TestPaceRepeatsItsUpdates(t *testing.T) {
	l := pacedLab(t, smallPace)
	off := l.used()
	l.pass(3 * time.Second)
	c := l.e.find(l.key)
	n := c.offered.Diff(l.sisn.Add(1 + off))
	l.src(ack, off, n, l.opts())
	c.near.pace.tokens, c.near.pace.asked = 0, true // the answer to a probe is not held
	l.rcv(ack, off+n, 60000, 0, 0, l.opts())
	got := l.pass(2 * time.Minute)
	if len(got) < 3 || len(got) > 3+maxAgain+4 {
		t.Fatalf("%d updates", len(got))
	}
	for i := 1; i < len(got); i++ {
		if l.edgeOf(got[i].off, got[i].TCP) < l.edgeOf(got[i-1].off, got[i-1].TCP) {
			t.Errorf("edge of update %d moved left", i)
		}
		if got[i].Seq() != l.risn.Add(1) || got[i].Flags() != ack || len(got[i].Payload()) != 0 {
			t.Errorf("update %d: %v", i, got[i].TCP)
		}
	}
	if at, ok := l.e.NextDeadline(); ok && at.Sub(l.now) < time.Hour {
		t.Errorf("still a timer in %v", at.Sub(l.now))
	}
}

// The last word is the receiver's own edge, and then there is no timer left.
func TestPaceLastWord(t *testing.T) {
	l := pacedLab(t, smallPace)
	off := l.used()
	l.src(ack, off, 500, l.opts())
	l.rcv(ack, off+500, 600000, 0, 0, l.opts())
	l.take()
	l.e.Stop(l.now, l.key)
	got := l.take()
	if len(got) != 1 || got[0].off != off+500 || l.edgeOf(got[0].off, got[0].TCP) != off+500+600000>>7<<7 {
		t.Fatalf("last word: %+v", got)
	}
	if more := l.pass(time.Minute); len(more) != 0 {
		t.Errorf("%d packets afterwards", len(more))
	}
	a, _ := l.rcv(ack, off+500, 600000, 0, 0, l.opts())
	if a != Accept {
		t.Errorf("afterwards an ACK: %v", a)
	}
}

// A receiver that closes its window stops the source, and its opening it again
// is passed on at the rate.
func TestPaceReceiverCloses(t *testing.T) {
	l := pacedLab(t, smallPace)
	off := l.used()
	l.now = l.now.Add(100 * time.Millisecond)
	l.src(ack, off, 500, l.opts())
	off += 500
	_, got := l.rcv(ack, off, 0, 0, 0, l.opts())
	if got.Window() != 0 {
		t.Errorf("window %d for a receiver that takes nothing", got.Window())
	}
	if n := len(l.pass(5 * time.Second)); n != 0 {
		t.Errorf("%d updates beyond the receiver's edge", n)
	}
	_, got = l.rcv(ack, off, 60000, 0, 0, l.opts())
	if w := int(got.Window()) << l.shift; w == 0 || w > 7000 {
		t.Errorf("open again: %d", w)
	}
}

// Where the kernel has left the checksum to the device it is completed, and a
// damaged ACK is left alone (tcp.md 0.4).
func TestPaceChecksums(t *testing.T) {
	for _, ready := range []bool{true, false} {
		l := pacedLab(t, smallPace)
		off := l.used()
		l.pass(3 * time.Second) // what was on its way
		l.take()
		s := packet.Segment{
			Key: l.key.Reverse(), TTL: 61, DF: true, Seq: l.risn.Add(1), Ack: l.sisn.Add(1 + off), Flags: ack | packet.FlagECE,
			Window: 500, Options: l.opts(),
		}
		b := packet.AppendTCP(nil, &s)
		v, _ := packet.Parse(b)
		if !ready {
			v.TCP().SetChecksum(0x1234)
		}
		a := l.e.Handle(l.now, v, Meta{CsumNotReady: !ready})
		if a != Modified || !v.TCPChecksumOK() {
			t.Errorf("checksum ready %v: %v, right %v", ready, a, v.TCPChecksumOK())
		}
		b = packet.AppendTCP(nil, &s)
		v, _ = packet.Parse(b)
		v.TCP().SetChecksum(v.TCP().Checksum() ^ 1)
		if a := l.e.Handle(l.now, v, Meta{}); a != Accept || l.stats().BadChecksums != 1 {
			t.Errorf("damaged: %v, counted %d", a, l.stats().BadChecksums)
		}
	}
}

// A window is at least four segments (RFC 5827), and paceFactor round trips.
func TestPaceWindow(t *testing.T) {
	p := pacer{}
	p.set(paceParams{rate: 1e6, depth: 64e3, factor: 2, mss: 1448, header: 52})
	for _, tt := range []struct {
		rtt  time.Duration
		want float64
	}{{100 * time.Millisecond, 200e3}, {600 * time.Millisecond, 1.2e6}, {time.Millisecond, 20e3}} {
		if got := float64(p.window(tt.rtt)) * 1500 / 1448; got < tt.want*0.99 || got > tt.want*1.01 {
			t.Errorf("%v: %.0f, want %.0f", tt.rtt, got, tt.want)
		}
	}
	p.set(paceParams{rate: 1e4, depth: 64e3, factor: 2, mss: 1448, header: 52})
	if got := p.window(10 * time.Millisecond); got != 4*1448 {
		t.Errorf("smallest window %d", got)
	}
}

// Without a known scale no window is touched.
func TestPaceMidwayTouchesNoWindow(t *testing.T) {
	l := midway(t, smallPace)
	last := 0
	for off := 1448; off < 100*1448; off += 1448 {
		l.now = l.now.Add(time.Millisecond)
		l.src(ack, off, 1448, l.opts())
		a, got := l.rcv(ack, off, 60000, 0, 0, l.opts())
		if a == Modified || got.Window() != uint16(60000>>l.shift) {
			t.Fatalf("%v, window %d", a, got.Window())
		}
		if a == Accept {
			last = off
		}
		for _, s := range append(l.take(), l.pass(0)...) {
			if s.Window() != uint16(60000>>l.shift) || s.off < last {
				t.Fatalf("made: window %d, ACK %d after %d", s.Window(), s.off, last)
			}
			last = s.off
		}
	}
	if last > 40*1448 { // 100 ms and a bucket at 100 kB/s
		t.Errorf("%d bytes were released in 100 ms", last)
	}
}

func TestPaceHotPathAllocatesNothing(t *testing.T) {
	l := pacedLab(t, Params{Mode: Pace, Rate: 2e6, Bucket: 64e3})
	data := packet.AppendTCP(nil, &packet.Segment{Key: l.key, TTL: 64, DF: true, Ack: l.risn.Add(1), Flags: ack, Options: l.opts(), Payload: make([]byte, 1448)})
	reply := packet.AppendTCP(nil, &packet.Segment{Key: l.key.Reverse(), TTL: 60, DF: true, Seq: l.risn.Add(1), Flags: ack, Window: 8000, Options: l.opts()})
	off := l.sisn.Add(1)
	step := func() {
		l.now = l.now.Add(time.Millisecond)
		v, _ := packet.Parse(data)
		v.TCP().SetSeq(off)
		off = off.Add(1448)
		l.e.Handle(l.now, v, Meta{CsumNotReady: true})
		v, _ = packet.Parse(reply)
		v.TCP().SetAck(off)
		v.TCP().SetWindow(8000)
		l.e.Handle(l.now, v, Meta{CsumNotReady: true})
		if at, ok := l.e.NextDeadline(); ok && !at.After(l.now) {
			l.e.Advance(l.now)
		}
		l.e.TakeInjected()
	}
	for range 1000 {
		step()
	}
	before := l.stats()
	if n := testing.AllocsPerRun(2000, step); n != 0 {
		t.Errorf("%v allocations for data and ACK", n)
	}
	if st := l.stats(); st.Rewritten == before.Rewritten {
		t.Errorf("nothing was paced: %+v", st)
	}
}
