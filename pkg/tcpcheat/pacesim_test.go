package tcpcheat

import (
	"math"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// simPolicer is a token bucket that drops what exceeds it, as an edge router
// has one. It counts IP bytes, each segment of a super-packet with its headers.
type simPolicer struct {
	s            *sim
	rate, depth  float64
	tokens       float64
	at           time.Duration
	first        time.Duration // it looks away until then
	passed, lost int
	lostAt       []time.Duration
}

func (q *simPolicer) conforms(p []byte) bool {
	v, err := packet.Parse(p)
	if err != nil {
		return true
	}
	n := len(v.TCP().Payload())
	head := v.Len() - n
	cost := float64(n + max((n+q.s.src.mss-1)/q.s.src.mss, 1)*head)
	q.tokens = min(q.depth, q.tokens+(q.s.now-q.at).Seconds()*q.rate)
	q.at = q.s.now
	if cost > q.tokens && q.s.now >= q.first {
		q.lost++
		q.lostAt = append(q.lostAt, q.s.now)
		return false
	}
	q.tokens = max(q.tokens-cost, 0)
	q.passed++
	return true
}

// paced is a path with a box on the receiver's side, or on the sender's, and a
// policer behind the source.
func paced(t testing.TB, seed uint64, nearReceiver bool, rtt time.Duration, p Params) (*sim, *simPolicer) {
	s := newSim(t, seed)
	s.eng = New(Limits{})
	s.src.mss, s.src.gso, s.src.shift = 1448, 4, 7
	s.rcv.mss, s.rcv.shift, s.rcv.buf = 1448, 7, 4<<20
	s.src.total, s.src.handshake = 1<<30, rtt
	far, close := rtt/2-50*time.Microsecond, 50*time.Microsecond
	s.up.delay, s.down.delay, s.wan.delay, s.back.delay = close, close, far, far
	if nearReceiver {
		s.up.delay, s.down.delay, s.wan.delay, s.back.delay = far, far, close, close
	}
	q := &simPolicer{s: s, rate: p.Rate, depth: p.Bucket, tokens: p.Bucket}
	s.up.police = q.conforms
	return s, q
}

func (s *sim) beginPaced(p Params, after time.Duration) {
	s.t.Helper()
	if err := s.eng.WatchNear(s.time(), s.key); err != nil {
		s.t.Fatal(err)
	}
	s.after(after, func() {
		if err := s.eng.Start(s.time(), s.key, p); err != nil {
			s.t.Error(err)
		}
		s.flush()
	})
	s.src.start(packet.Seq(s.rng.Uint32()))
}

// rateOver is what the receiver gets from now on, in shares of the payload that
// the rate has room for.
func (s *sim) rateOver(d time.Duration, p Params) float64 {
	from := s.rcv.have()
	s.run(s.now+d, nil)
	return float64(s.rcv.have()-from) / d.Seconds() / (p.Rate * float64(s.src.mss) / float64(s.src.mss+52))
}

var simControls = []struct {
	name string
	cc   func() simCC
}{
	{"reno", func() simCC { return nil }},
	{"cubic", func() simCC { return &simCubic{} }},
	{"bbr", func() simCC { return &simBBR{} }},
}

// The rate converges to r within 5% and 5 round trips, beside those that the
// source takes to get there by itself, and nothing is lost at a policer of r
// and b, with the box on either side.
func TestPaceConverges(t *testing.T) {
	t.Parallel()
	for _, cc := range some(simControls...) {
		for _, near := range some(true, false) {
			for _, rtt := range some(20*time.Millisecond, 5*time.Millisecond, 100*time.Millisecond, 300*time.Millisecond) {
				p := Params{Mode: Pace, Rate: 1e6, Bucket: 80e3, PaceLoose: !near}
				s, q := paced(t, 1, near, rtt, p)
				s.src.cc = cc.cc()
				s.beginPaced(p, 0)
				slowStart := max(math.Log2(p.Rate*rtt.Seconds()/(10*1448)), 0)
				s.run(time.Duration((2+slowStart+5)*float64(rtt))+40*time.Millisecond, nil)
				first := s.rateOver(max(2*rtt, 100*time.Millisecond), p)
				share := s.rateOver(5*time.Second, p)
				if first < 0.95 || first > 1.05 || share < 0.95 || share > 1.005 {
					t.Errorf("%s, box near the receiver %v, %v: %.3f of the rate after 5 round trips, then %.3f", cc.name, near, rtt, first, share)
				}
				if q.lost > 0 || s.src.rtos > 0 {
					t.Errorf("%s, box near the receiver %v, %v: %d lost at the policer, first at %v; %d timeouts", cc.name, near, rtt, q.lost, q.lostAt[0], s.src.rtos)
				}
			}
		}
	}
}

// The reservation comes when the source is at full speed, and has been offered
// far more than the bucket: acknowledgement numbers are spaced then. An edge
// that was given stays, so what it takes is the time to use that up.
func TestPaceTakesOver(t *testing.T) {
	t.Parallel()
	for _, cc := range some(simControls...) {
		for _, near := range some(true, false) {
			p := Params{Mode: Pace, Rate: 1e6, Bucket: 64e3, PaceLoose: !near}
			s, q := paced(t, 7, near, 50*time.Millisecond, p)
			q.first = time.Hour // best effort takes what exceeds
			s.up.rate, s.rcv.buf = 4e6, 384<<10
			s.src.cc = cc.cc()
			s.beginPaced(p, 2*time.Second)
			s.run(4*time.Second, nil)
			if share := s.rateOver(3*time.Second, p); share < 0.95 || share > 1.25 {
				t.Errorf("%s, near the receiver %v: %.3f of the rate in the first seconds", cc.name, near, share)
			}
			s.run(s.now+6*time.Second, nil)
			if share := s.rateOver(3*time.Second, p); share < 0.95 || share > 1.05 {
				t.Errorf("%s, near the receiver %v: %.3f of the rate", cc.name, near, share)
			}
		}
	}
}

// Where both boxes pace, the second leaves alone what the first lets through.
func TestPaceTwiceCostsNothing(t *testing.T) {
	p := Params{Mode: Pace, Rate: 1e6, Bucket: 80e3}
	s, q := paced(t, 3, true, 60*time.Millisecond, p)
	second := New(Limits{})
	if err := second.WatchNear(s.time(), s.key); err != nil {
		t.Fatal(err)
	}
	loose := p
	loose.PaceLoose = true
	var edited int
	out := s.src.receive
	look := func(b []byte) bool {
		v, err := packet.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		a := second.Handle(s.time(), v, Meta{})
		second.TakeInjected()
		if a != Accept {
			edited++
		}
		return a != Drop
	}
	police := s.up.police
	s.up.police = func(b []byte) bool { look(b); return police(b) }
	s.down.deliver = func(b []byte) {
		if look(b) {
			out(b)
		}
		_ = second.Start(s.time(), s.key, loose)
	}
	s.beginPaced(p, 0)
	s.run(2*time.Second, nil)
	edited = 0
	before, _ := second.Flow(s.key)
	share := s.rateOver(10*time.Second, p)
	after, _ := second.Flow(s.key)
	if before.Mode != Pace || edited > 0 || after.FakeAcks != before.FakeAcks {
		t.Errorf("the second box (%v) changed %d ACKs and made %d", before.Mode, edited, after.FakeAcks-before.FakeAcks)
	}
	if share < 0.95 || q.lost > 0 {
		t.Errorf("%.3f of the rate, %d lost", share, q.lost)
	}
}

// pacedCheck holds the promises of pacing at every segment to the source.
type pacedCheck struct {
	s        *sim
	in       int        // packets that came to the box
	any      bool       // the receiver has spoken
	ack      packet.Seq // highest acknowledgement of the receiver
	edge     packet.Seq // its rightmost edge
	given    packet.Seq // the rightmost that the source was shown
	givenAck packet.Seq
	shown    bool
}

// receiver notes what the receiver says itself.
func (k *pacedCheck) receiver(v packet.View) {
	t := v.TCP()
	if !t.Has(packet.FlagACK) || t.Has(packet.FlagRST) {
		return
	}
	edge := t.Ack().Add(int(t.Window()) << k.shift(t))
	if !k.any {
		k.any, k.ack, k.edge = true, t.Ack(), edge
	}
	k.ack, k.edge = packet.MaxSeq(k.ack, t.Ack()), packet.MaxSeq(k.edge, edge)
}

func (k *pacedCheck) shift(t packet.TCP) int {
	if t.Has(packet.FlagSYN) {
		return 0
	}
	return k.s.rcv.shift
}

func (k *pacedCheck) check(v packet.View) {
	t := v.TCP()
	if !t.Has(packet.FlagACK) || t.Has(packet.FlagRST) {
		return
	}
	edge := t.Ack().Add(int(t.Window()) << k.shift(t))
	if t.Ack().After(k.ack) {
		k.s.fail("acknowledged %d bytes more than the receiver", t.Ack().Diff(k.ack))
	}
	if edge.After(k.edge) {
		k.s.fail("the edge is %d bytes beyond the receiver's own", edge.Diff(k.edge))
	}
	// RFC 7323 section 2.4: the receiver itself may lose what is less than a unit.
	if k.shown && !t.Ack().Before(k.givenAck) && k.given.Diff(edge) >= 1<<k.s.rcv.shift {
		k.s.fail("the right edge moved left by %d", k.given.Diff(edge))
	}
	if !k.shown {
		k.shown, k.given, k.givenAck = true, edge, t.Ack()
	}
	k.given, k.givenAck = packet.MaxSeq(k.given, edge), packet.MaxSeq(k.givenAck, t.Ack())
}

// Whatever happens on the way, a paced connection delivers every byte and ends,
// and the promises of pacedCheck hold at every step: the edge never moves left
// (RFC 9293 SHLD-14) nor beyond the receiver's own, nothing is acknowledged
// that the receiver has not acknowledged, and the box makes no packet storm.
func TestPaceKeepsItsPromises(t *testing.T) {
	forSchedules(t, 0, schedules, func(t *testing.T, seed uint64) bool {
		onePaced(t, seed)
		return !t.Failed()
	})
}

// onePaced is one random schedule.
func onePaced(t *testing.T, seed uint64) {
	t.Helper()
	s := newSim(t, 5e6+seed)
	s.paced = &pacedCheck{s: s}
	s.eng = New(Limits{NoProgress: time.Hour, Linger: time.Second})
	at, p := s.schedule()
	p.Mode, p.PaceLoose, p.Predict = Pace, s.rng.IntN(2) == 0, false
	p.PaceFactor = []float64{0, 1, 2, 8}[s.rng.IntN(4)]
	s.src.total = 1 + s.rng.IntN(60_000)
	if seed%20 == 0 {
		s.src.total *= 8
	}
	s.src.cc = simControls[seed%3].cc()
	s.back.loss = min(s.back.loss, 0.3)
	if s.rng.IntN(3) == 0 {
		s.up, s.wan = s.wan, s.up // a box at the receiver's side
		s.down, s.back = s.back, s.down
		s.down.load = nil // it looks at the other link
		s.up.deliver, s.wan.deliver = s.wan.deliver, s.up.deliver
		s.down.deliver, s.back.deliver = s.back.deliver, s.down.deliver
	}
	s.pacedRun(t, seed, at, p)
	if t.Failed() {
		t.Fatalf("seed %d, params %+v", seed, p)
	}
}

func (s *sim) pacedRun(t *testing.T, seed uint64, at time.Duration, p Params) {
	t.Helper()
	midway := seed%10 == 3
	s.rcv.isn = packet.Seq(s.rng.Uint32())
	if !midway {
		if err := s.eng.WatchNear(s.time(), s.key); err != nil {
			t.Fatal(err)
		}
	} else {
		s.after(500*time.Millisecond, func() { _ = s.eng.WatchNear(s.time(), s.key) })
		at = max(at, time.Second)
	}
	s.after(at, func() {
		_ = s.eng.Start(s.time(), s.key, p) // too late, perhaps: closed already
		s.flush()
	})
	if seed%5 == 0 {
		s.after(time.Duration(s.rng.IntN(4000))*time.Millisecond, func() {
			s.eng.Stop(s.time(), s.key)
			s.flush()
		})
	}
	s.src.start(packet.Seq(0xffffffff).Add(-s.rng.IntN(100_000)))
	ok := s.run(3*time.Hour, func() bool { return s.src.finAcked && s.rcv.una == s.rcv.nxt.Add(1) })
	st, _ := s.eng.Flow(s.key)
	if !ok || s.rcv.bytes != s.src.total || s.src.reset {
		t.Errorf("seed %d: ended %v at %v, %d of %d bytes, una %d nxt %d edge %d fin %v; %+v", seed, ok, s.now, s.rcv.bytes, s.src.total,
			s.src.una.Diff(s.src.isn), s.src.nxt.Diff(s.src.isn), s.src.edge.Diff(s.src.isn), s.src.finAcked, st)
	}
	if made := int(st.FakeAcks); made > s.paced.in+20 {
		t.Errorf("seed %d: %d packets made for %d that came", seed, made, s.paced.in)
	}
	s.run(s.now+3*time.Hour, nil)
	if got := s.eng.Totals(); got.Flows != 0 {
		t.Errorf("seed %d: left behind: %+v; %+v", seed, got, st)
	}
}
