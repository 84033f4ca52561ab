package tcpcheat

import (
	"testing"
	"time"
)

// peakOf is what a policer of (p, M) finds in the data of a paced source, once
// the source has used what its receiver offered before (RFC 2215 section 3.6:
// over any time T no more than M + pT).
func peakOf(s *sim, q *simPolicer, peak, depth float64, from time.Duration) *simPolicer {
	out := &simPolicer{s: s, rate: peak, depth: depth, tokens: depth, first: from}
	s.up.police = func(b []byte) bool {
		out.conforms(b)
		return q.conforms(b)
	}
	return out
}

// A source whose reservation has a peak rate is clocked by single segments at
// that rate at most, and has r all the same, with the box on either side. Where
// no peak was declared it gets two segments and more at once.
func TestPacePeakRFC2215Section3_6(t *testing.T) {
	for _, cc := range simControls {
		for _, near := range some(true, false) {
			for _, peak := range []float64{0, 2e6} {
				p := Params{Mode: Pace, Rate: 1e6, Bucket: 80e3, Peak: peak, PaceLoose: !near}
				s, q := paced(t, 1, near, 40*time.Millisecond, p)
				s.src.gso = 1
				s.src.cc = cc.cc()
				m := peakOf(s, q, 2e6, 1500, 2*time.Second)
				s.beginPaced(p, 0)
				s.run(2*time.Second, nil)
				share := s.rateOver(5*time.Second, p)
				if share < 0.95 || share > 1.005 || q.lost > 0 {
					t.Errorf("%s, near the receiver %v, p %.0f: %.3f of the rate, %d lost at a policer", cc.name, near, peak, share, q.lost)
				}
				if over := float64(m.lost) / float64(m.passed+m.lost); peak > 0 && over > 0.001 || peak == 0 && over < 0.1 && cc.name != "bbr" {
					t.Errorf("%s, near the receiver %v, p %.0f: %d of %d beyond M + pT", cc.name, near, peak, m.lost, m.passed)
				}
			}
		}
	}
}

// A source that pauses has little ahead of it when it goes on, if the box is at
// its side: what it needs to send at p until it is given more.
func TestPacePeakAfterPauses(t *testing.T) {
	for _, peak := range []float64{2e6, 0} {
		p := Params{Mode: Pace, Rate: 1e6, Bucket: 80e3, Peak: peak, PaceLoose: true}
		s, q := paced(t, 1, false, 40*time.Millisecond, p)
		s.src.gso = 1
		talk := 100_000
		s.src.pause = func(sent int) time.Duration {
			if s.now < time.Second || sent < talk {
				return 0
			}
			talk = sent + 60_000
			return 300 * time.Millisecond
		}
		const ahead = 18e3 // two segments, and some 7 ms at p
		m := peakOf(s, q, 2e6, ahead, 2*time.Second)
		s.beginPaced(p, 0)
		s.run(2*time.Second, nil)
		before := s.rcv.have()
		s.run(12*time.Second, nil)
		n := s.rcv.have() - before
		if peak > 0 && m.lost > 0 || peak == 0 && m.lost == 0 {
			t.Errorf("p %.0f: %d of %d beyond %.0f + pT", peak, m.lost, m.passed, ahead)
		}
		// 60 kB take 30 ms at p, or 60 at r beyond the bucket, and the pause.
		if want := 60_000 * 10 / 0.36; float64(n) < 0.9*want {
			t.Errorf("p %.0f: %d bytes within ten seconds", peak, n)
		}
		t.Logf("p %.0f: %d of %d beyond %.0f + pT, %d bytes", peak, m.lost, m.passed, ahead, n)
	}
}

// The buckets of r and p: what is let through at once is a segment, what is let
// through over a time is p until the bucket of r is empty, and then r.
func TestPacerPeakBucket(t *testing.T) {
	p := pacer{}
	p.set(paceParams{rate: 1e6, depth: 30e3, peak: 4e6, burst: 1500, factor: 1000, mss: 1448, header: 52})
	p.begin(1, 0, 0, 0)
	p.tokens = p.depth
	now, edge := instant(1), p.sent
	var times []instant
	for len(times) < 60 {
		p.refill(now, time.Millisecond, edge)
		n := p.grant(edge, edge.Add(1<<20))
		if n > 1448 {
			t.Fatalf("%d bytes at once", n)
		}
		if n > 0 {
			edge = edge.Add(n)
			p.spend(p.cost(n))
			p.sent = edge // the source uses it at once
			times = append(times, now)
		}
		now = p.ready(1448)
	}
	for i, want := range map[int]float64{10: 1500 / 4e6, 55: 1500 / 1e6} {
		if got := (times[i] - times[i-1]).Seconds(); got < want*0.99 || got > want*1.01 {
			t.Errorf("segment %d after %.6f s, want %.6f", i, got, want)
		}
	}
}

// A box that is woken late each time lets through what it missed, so r stays r.
func TestPacerPeakWithLateTimers(t *testing.T) {
	p := pacer{}
	p.set(paceParams{rate: 1e6, depth: 30e3, peak: 2e6, burst: 1500, factor: 1000, mss: 1448, header: 52})
	p.begin(1, 0, 0, 0)
	now, edge := instant(1), p.sent
	for now < 5*time.Second {
		p.woken(now)
		p.refill(now, time.Millisecond, edge)
		if n := p.grant(edge, edge.Add(1<<20)); n > 0 {
			edge = edge.Add(n)
			p.spend(p.cost(n))
			p.sent = edge
		}
		p.due = p.ready(1448)
		now = p.due + 2*time.Millisecond
	}
	if got := p.cost(edge.Diff(0)) / 5; got < 0.98e6 || got > 1.02e6 {
		t.Errorf("%.0f bytes/s, want 1e6", got)
	}
	if top := p.top(); top > 1500+2e6*0.005 {
		t.Errorf("a bucket of %.0f", top)
	}
}
