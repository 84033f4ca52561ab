package tcpcheat

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var thinParams = Params{Thin: true, ThinRate: 1000, Rate: 1e6, Bucket: 64e3}

// thinned brings a connection to where ACKs are dropped, and gives the bytes
// that are acknowledged by the latest, which is owed.
func thinned(t *testing.T) (l *lab, off int) {
	t.Helper()
	l = newLab(t)
	l.start(thinParams)
	for off < 1e6 {
		off = l.more(off)
		if a, _ := l.rcv(ack, off, 1<<20, 0, 0, l.opts()); a == Drop {
			l.take()
			return l, off
		}
	}
	t.Fatal("nothing is dropped")
	return nil, 0
}

// more has the source send two segments of data, and gives where they end.
func (l *lab) more(off int) int {
	l.tick++
	l.now = l.now.Add(time.Millisecond)
	for range 2 {
		l.src(ack, off, 1448, l.opts())
		off += 1448
	}
	return off
}

// What is owed goes out when it is due, byte for byte; ACKs in front of it are
// counted.
func TestThinSendsWhatIsOwed(t *testing.T) {
	l, off := thinned(t)
	var want []byte
	for range 5 {
		off = l.more(off)
		l.rcv(ack, off, 1<<20, 0, 0, l.opts())
		want = append(want[:0], l.buf...)
	}
	if got := l.stats().Thinned; got != 5 {
		t.Errorf("%d ACKs are counted, want 5", got)
	}
	got := l.pass(time.Second)
	if len(got) != 1 || got[0].to != ToSource || !bytes.Equal(got[0].v.Bytes(), want) {
		t.Fatalf("%v, want the last ACK", got)
	}
	if got := l.stats().Thinned; got != 5 || l.e.Totals().Thinned != 5 {
		t.Errorf("%d ACKs are counted, want 5", got)
	}
}

// The treatment ends with the last word of the receiver, however it ends.
func TestThinEndsWithWhatIsOwed(t *testing.T) {
	for name, end := range map[string]func(*lab, int){
		"Stop":   func(l *lab, _ int) { l.e.Stop(l.now, l.key) },
		"Drain":  func(l *lab, _ int) { l.e.Drain(l.now) },
		"Abort":  func(l *lab, _ int) { l.e.Abort(l.now) },
		"Forget": func(l *lab, _ int) { l.e.Forget(l.key) },
		"left alone": func(l *lab, off int) {
			l.src(ack|packet.FlagURG, off, 1448, l.opts())
		},
		"parameters": func(l *lab, _ int) {
			if err := l.e.Start(l.now, l.key, pacedParams); err != nil {
				l.t.Error(err)
			}
			l.pass(thinPatience)
		},
	} {
		l, off := thinned(t)
		want := bytes.Clone(l.buf)
		end(l, off)
		if name == "parameters" {
			continue // it went out in pass
		}
		if got := l.take(); len(got) != 1 || !bytes.Equal(got[0].v.Bytes(), want) {
			t.Errorf("%s: %v, want the last ACK", name, got)
		}
	}
}

const thinPatience = maxHold

// What close() waits for is never kept: the source's FIN is acknowledged.
func TestThinPassesTheAckOfTheFIN(t *testing.T) {
	l, off := thinned(t)
	l.src(ack|fin, off, 0, l.opts())
	if a, _ := l.rcv(ack, off+1, 1<<20, 0, 0, l.opts()); a == Drop {
		t.Error("dropped")
	}
	if got := l.pass(time.Second); len(got) != 0 {
		t.Errorf("%v after it", got)
	}
}

// A connection that is picked up in the middle has no window scale that is
// known. It is thinned; a closed window and its opening are known without.
func TestThinMidway(t *testing.T) {
	l := midway(t, thinParams)
	off := 1448
	for range 200 {
		off = l.more(off)
		l.rcv(ack, off, 60000, 0, 0, l.opts())
	}
	if got := l.stats(); got.State != Cheated || got.Thinned < 100 {
		t.Errorf("%d of 200 ACKs were dropped; %v, %s", got.Thinned, got.State, got.Reason)
	}
	l.pass(thinPatience)
	for _, win := range []int{0, 60000} {
		off = l.more(off)
		if a, _ := l.rcv(ack, off, win, 0, 0, l.opts()); a == Drop {
			t.Errorf("a window of %d was dropped", win)
		}
		l.take()
	}
}

// Within a batch the engine's own packets leave after all verdicts. Short
// segments that come behind one of them go the same way, so the source gets
// them in order.
func TestThinKeepsTheOrder(t *testing.T) {
	l, off := thinned(t)
	want := [][]byte{bytes.Clone(l.buf)}
	for range 3 {
		if a, _ := l.rcv(ack, off, 1<<20, 0, 0, l.opts()); a != Drop {
			t.Error("a duplicate would overtake what it repeats")
		}
		want = append(want, bytes.Clone(l.buf))
	}
	got := l.take()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].v.Bytes(), want[i]) {
			t.Errorf("packet %d is another", i)
		}
	}
	if a, _ := l.rcv(ack, off, 1<<20, 0, 0, l.opts()); a != Accept {
		t.Errorf("a duplicate in the next batch: %v", a)
	}
}

// A damaged segment says nothing, so what is owed stays owed.
func TestThinDamagedSegmentSettlesNothing(t *testing.T) {
	l, off := thinned(t)
	want := bytes.Clone(l.buf)
	b := packet.AppendTCP(nil, &packet.Segment{
		Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1 + off), Flags: ack, Window: 500,
		Options: l.opts(), Payload: []byte("damaged"),
	})
	b[len(b)-1]++
	v, _ := packet.Parse(b)
	if a := l.e.Handle(l.now, v, Meta{}); a != Accept {
		t.Errorf("%v", a)
	}
	if got := l.pass(time.Second); len(got) != 1 || !bytes.Equal(got[0].v.Bytes(), want) {
		t.Errorf("%v, want the last ACK", got)
	}
}

// Without a rate the round trip to the source decides, which its echoes of
// timestamps tell.
func TestThinLearnsTheRoundTrip(t *testing.T) {
	l := newLab(t)
	p := thinParams
	p.ThinRate = 0
	l.start(p) // the lab's handshake tells of 1 ms
	off := 0
	round := func(rtt time.Duration) {
		t.Helper()
		l.tick += 2
		if a, _ := l.rcv(ack, off, 1<<20, 0, 0, packet.AppendTimestamps(nil, l.tick, l.tick)); a == Drop {
			t.Fatal("dropped, though there is only one in each round trip")
		}
		l.now = l.now.Add(rtt)
		l.src(ack, off, 1448, packet.AppendTimestamps(nil, l.tick, l.tick))
		off += 1448
	}
	for _, rtt := range []time.Duration{60 * time.Millisecond, 90 * time.Millisecond} {
		for range 50 {
			round(rtt)
		}
		want := rtt / thinShare
		if h := l.e.find(l.key).near.thin.hold; h < want*9/10 || h > want*11/10 {
			t.Errorf("after round trips of %v an ACK is kept for %v, want %v", rtt, h, want)
		}
		// The echo of an ACK that is lost behind the box never comes: that
		// must not end the learning.
		l.tick++
		l.rcv(ack, off, 1<<20, 0, 0, packet.AppendTimestamps(nil, l.tick, l.tick))
	}
}

func TestThinRefusesRates(t *testing.T) {
	for _, r := range []float64{-1, math.NaN(), math.Inf(1)} {
		l := newLab(t)
		l.open()
		p := thinParams
		p.ThinRate = r
		if l.e.Start(l.now, l.key, p) == nil {
			t.Errorf("%v was taken", r)
		}
	}
}

func TestThinHotPathAllocatesNothing(t *testing.T) {
	l := newLab(t)
	l.start(thinParams)
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
		l.e.Handle(l.now, v, Meta{CsumNotReady: true})
		if at, ok := l.e.NextDeadline(); ok && !at.After(l.now) {
			l.e.Advance(l.now)
		}
		l.e.TakeInjected()
	}
	for range 1000 {
		step()
	}
	before := l.stats().Thinned
	if n := testing.AllocsPerRun(2000, step); n != 0 {
		t.Errorf("%v allocations for data and ACK", n)
	}
	if l.stats().Thinned == before {
		t.Error("nothing was dropped")
	}
}

// narrow is a path whose box stands at the receiver, before a narrow way back.
func narrow(t testing.TB, seed uint64, back float64) *sim {
	s := newSim(t, seed)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift = 1448, 16, 7
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 1<<20
	s.src.total = 1 << 30
	s.up.rate, s.up.delay, s.up.queue = 20e6/8, 50*time.Millisecond, 0
	s.down.rate, s.down.delay, s.down.queue = back/8, 50*time.Millisecond, 64<<10
	s.wan.delay, s.back.delay = 100*time.Microsecond, 100*time.Microsecond
	s.wan.rate, s.back.rate = 125e6, 125e6
	return s
}

// A source without a box of its own has all of the path when ACKs are thinned,
// where without that the narrow way back gives it a part, at each rate.
func TestThinAloneIsGoodForTheSource(t *testing.T) {
	t.Parallel()
	share := func(back float64, p *Params) (float64, *sim) {
		s := narrow(t, 3, back)
		if s.useEngine = p != nil; s.useEngine {
			return s.goodput(*p, true), s
		}
		return s.goodput(Params{Rate: 20e6 / 8}, false), s
	}
	for _, back := range some(50e3, 200e3, 5e6) {
		plain, _ := share(back, nil)
		for _, rate := range some(0.0, 1000) {
			p := Params{Thin: true, ThinRate: rate, Rate: 20e6 / 8, Bucket: 64e3}
			got, s := share(back, &p)
			st, _ := s.eng.Flow(s.key)
			t.Logf("way back of %.0f kbit/s, thinned to %.0f byte/s: %.3f of the path, plain %.3f; %d of %d ACKs were dropped; %d timeouts",
				back/1e3, rate, got, plain, st.Thinned, s.back.sent, s.src.rtos)
			// A rate of 1000 makes an ACK wait for longer than a source alone
			// is promised.
			if want := []float64{0.9, plain}[min(int(rate), 1)]; got < plain*0.97 || got < want {
				t.Errorf("way back of %.0f kbit/s, thinned to %.0f: %.3f of the path, plain %.3f", back/1e3, rate, got, plain)
			}
			if st.Thinned == 0 {
				t.Error("nothing was dropped")
			}
		}
	}
}

// A source that its receiver's window limits is not slowed either, whatever is
// left of the way back.
func TestThinKeepsWindowsOpen(t *testing.T) {
	t.Parallel()
	for _, buf := range some(16<<10, 64<<10, 120<<10) {
		var got [2]float64
		for i := range got {
			s := narrow(t, 4, 5e6)
			s.rcv.buf, s.useEngine = buf, i == 1
			got[i] = s.goodput(Params{Thin: i == 1, Rate: 20e6 / 8, Bucket: 64e3}, s.useEngine)
		}
		t.Logf("window of %d: %.3f of the path, plain %.3f", buf, got[1], got[0])
		if got[1] < 0.95*got[0] {
			t.Errorf("window of %d: %.3f of the path, plain %.3f", buf, got[1], got[0])
		}
	}
}

// Whatever the two ways do, every byte arrives and the connection ends. The
// losses are others in each run, so it is the median that shows whether it
// takes longer.
func TestThinDeliversEveryByte(t *testing.T) {
	t.Parallel()
	var ratios []float64
	thinned := uint64(0)
	for seed := range few(300) {
		took := [2]time.Duration{}
		for i := range took {
			s := newSim(t, seed)
			s.eng = New(Limits{Linger: time.Second})
			_, p := s.schedule()
			s.src.total *= 4
			s.back.load = nil
			s.up.delay, s.wan.delay = s.wan.delay, s.up.delay
			s.down.delay, s.back.delay = s.back.delay, s.down.delay
			s.down.loss, s.back.loss = min(s.back.loss, 0.3), 0
			p = Params{Thin: i == 1, Rate: p.Rate, Bucket: p.Bucket}
			if seed%3 == 0 {
				p.ThinRate = []float64{600, 1000, 5000}[seed/3%3]
			}
			if s.useEngine = i == 1; s.useEngine {
				s.begin(0, p)
			} else {
				s.rng.IntN(2)
				s.rcv.isn = packet.Seq(s.rng.Uint32())
				s.src.start(packet.Seq(s.rng.Uint32()))
			}
			ok := s.run(3*time.Hour, func() bool { return s.src.finAcked && s.rcv.una == s.rcv.nxt.Add(1) })
			took[i] = s.now
			if i == 0 && !ok {
				break // the model of a source has lost its way by itself
			}
			if !ok || s.rcv.bytes != s.src.total || s.src.reset {
				st, _ := s.eng.Flow(s.key)
				t.Fatalf("seed %d, params %+v: ended %v, %d of %d bytes; %+v", seed, p, ok, s.rcv.bytes, s.src.total, st)
			}
			thinned += s.eng.Totals().Thinned
		}
		if took[1] > 0 {
			ratios = append(ratios, float64(took[1])/float64(took[0]))
		}
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	t.Logf("%d schedules, %d ACKs dropped; the time it takes, as a share of that without: median %.3f, quartiles %.3f and %.3f",
		len(ratios), thinned, median, ratios[len(ratios)/4], ratios[len(ratios)*3/4])
	if thinned == 0 {
		t.Error("nothing was dropped")
	}
	if median > 1.05 && !testing.Short() { // the median of a few says nothing
		t.Error("it takes longer")
	}
}
