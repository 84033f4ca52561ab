package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// farBox stands at the receiver's side: WAN - box - LAN - receiver.
type farBox struct {
	s            *sim
	e            *Engine
	lan, lanBack *link
	wake         time.Duration
	packets      int
	made         []bool // bytes that were ever in a fake segment
	segments     int
}

func (s *sim) putFar(e *Engine) *farBox {
	f := &farBox{s: s, e: e, made: make([]bool, s.src.total)}
	f.lan = &link{s: s, delay: 100 * time.Microsecond, deliver: func(p []byte) { s.rcv.receive(p) }}
	f.lanBack = &link{s: s, delay: 100 * time.Microsecond, deliver: f.handle}
	s.reply = f.lanBack.send
	s.wan.deliver = f.handle
	return f
}

func (f *farBox) handle(p []byte) {
	v, err := packet.Parse(p)
	if err != nil {
		f.s.fail("parse: %v", err)
		return
	}
	f.packets++
	a := f.e.Handle(f.s.time(), v, Meta{})
	if a != Drop {
		if v.Key() == f.s.key {
			f.lan.send(p)
		} else {
			f.s.back.send(p)
		}
	}
	f.flush()
}

func (f *farBox) flush() {
	s := f.s
	got := f.e.TakeInjected()
	if len(got) > maxBurst {
		s.fail("%d packets injected at once", len(got))
	}
	for _, in := range got {
		v, err := packet.Parse(in.Packet)
		if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() || in.Toward != ToReceiver {
			s.fail("injected packet is broken: %v", err)
			continue
		}
		t := v.TCP()
		off := t.Seq().Diff(s.src.isn.Add(1))
		if end := off + len(t.Payload()); off < 0 || end > s.src.total || len(t.Payload()) > s.src.mss {
			s.fail("a fake segment [%d, %d)", off, end)
			continue
		}
		if t.Seq().Add(len(t.Payload())).After(s.rcv.edge) {
			s.fail("a fake segment beyond the receiver's right edge")
		}
		for i := range t.Payload() {
			f.made[off+i] = true
		}
		f.segments++
		f.lan.send(in.Packet)
	}
	trickle := int(s.now/fillTrickle) + 1
	if k := maxFillCredit/4 + fillCredit*f.packets + trickle; f.segments > k {
		s.fail("%d segments made after %d packets", f.segments, f.packets)
	}
	if at, ok := f.e.NextDeadline(); ok {
		d := at.Sub(simEpoch)
		if f.wake <= s.now || d < f.wake {
			f.wake = max(d, s.now)
			s.after(f.wake-s.now, func() {
				if at, ok := f.e.NextDeadline(); ok && at.Sub(simEpoch) <= s.now {
					f.e.Advance(s.time())
					if at, ok := f.e.NextDeadline(); ok && at.Sub(simEpoch) <= s.now {
						s.fail("the deadline does not advance")
					}
				}
				f.flush()
			})
		}
	}
}

// Realtime at the source's side and filling at the receiver's, or a plain source
// and filling: under loss and reordering the receiver's stream is complete in
// length, and differs from what was sent in the reported ranges only.
func TestFillingCompletesTheStream(t *testing.T) {
	t.Parallel()
	for seed := range few(1500) {
		s := newSim(t, 3e6+seed)
		s.eng = New(Limits{NoProgress: time.Hour, Linger: time.Second})
		at, p := s.schedule()
		p.Mode = Realtime
		s.rcv.chatter = 0
		s.rcv.readRate, s.rcv.paused = 0, [2]time.Duration{}
		s.src.total = 1 + s.rng.IntN(150_000)
		s.back.loss = min(s.back.loss, 0.3)
		far := s.putFar(New(Limits{Linger: time.Second}))
		far.lan.loss = []float64{0, 0, 0.02}[s.rng.IntN(3)]
		s.rcv.store, s.rcv.stored = make([]byte, s.src.total), make([]bool, s.src.total)
		s.rcv.replaces = s.rng.IntN(2) == 0
		if s.rng.IntN(3) == 0 {
			s.useEngine = false // a plain source
		}
		fp := Params{Fill: true, FillAfter: time.Duration(s.rng.IntN(40)) * time.Millisecond, FillPattern: []byte("\x00\xff"), Rate: p.Rate, Bucket: p.Bucket}
		if err := far.e.WatchNear(s.time(), s.key); err != nil {
			t.Fatal(err)
		}
		if err := far.e.Start(s.time(), s.key, fp); err != nil {
			t.Error(err)
		}
		s.begin(at, p)
		ok := s.run(3*time.Hour, func() bool { return s.src.finAcked })
		st, _ := far.e.Flow(s.key)
		if !ok || s.rcv.bytes != s.src.total || s.src.reset {
			near, _ := s.eng.Flow(s.key)
			t.Errorf("seed %d: ended %v, %d of %d bytes, engine %v; filler %+v; cheat %+v", seed, ok, s.rcv.bytes, s.src.total, s.useEngine, st, near)
		}
		told := make([]bool, s.src.total)
		for _, r := range st.FilledRanges {
			for i := r.From; i < r.To; i++ {
				told[i] = true
			}
		}
		for i, b := range s.rcv.store {
			if st.FilledMore == 0 && (told[i] != far.made[i] || b != content(i) && !told[i]) || b != content(i) && !far.made[i] {
				t.Errorf("seed %d: byte %d: sent %x, got %x, made %v, reported %v", seed, i, content(i), b, far.made[i], told[i])
				break
			}
		}
		s.run(s.now+2*time.Minute, nil)
		if n := far.e.Totals().Flows; n != 0 {
			t.Errorf("seed %d: %d flows are left behind", seed, n)
		}
		if t.Failed() {
			t.Fatalf("seed %d, params %+v, filler %+v", seed, p, fp)
		}
	}
}
