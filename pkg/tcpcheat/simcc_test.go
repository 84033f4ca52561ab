package tcpcheat

import (
	"math"
	"time"
)

// simCC is the congestion control of a source that is not Reno.
type simCC interface {
	acked(c *simSource, bytes int)
	lost(c *simSource)
	rate(c *simSource) float64 // pacing rate, bytes/s; 0: none
}

// simCubic is RFC 9438, without its Reno-friendly region.
type simCubic struct {
	top, k float64 // segments, s
	epoch  time.Duration
}

func (q *simCubic) acked(c *simSource, bytes int) {
	if c.inRec {
		return
	}
	if c.cwnd < c.ssthresh {
		c.cwnd += float64(bytes)
		return
	}
	now := c.s.now
	w := c.cwnd / float64(c.mss)
	if q.epoch == 0 {
		q.epoch = now
		if q.top <= w {
			q.top, q.k = w, 0
		} else {
			q.k = math.Cbrt((q.top - w) / 0.4)
		}
	}
	t := (now - q.epoch + c.rtt.smooth).Seconds()
	want := 0.4*(t-q.k)*(t-q.k)*(t-q.k) + q.top
	if want > w {
		c.cwnd += min((want-w)/w, 0.5) * float64(bytes)
	}
}

func (q *simCubic) lost(c *simSource) {
	q.epoch, q.top = 0, c.cwnd/float64(c.mss)
	c.ssthresh = max(c.cwnd*0.7, float64(2*c.mss))
	c.cwnd = c.ssthresh
}

func (q *simCubic) rate(*simSource) float64 { return 0 }

// simBBR is what matters here of BBR version 1: it paces at the bandwidth that
// it has measured, with gains that probe for more, and keeps twice the
// bandwidth-delay product under way; losses do not count.
type simBBR struct {
	bw      [10]float64 // of the latest rounds, bytes/s
	round   int
	roundTo int // delivered bytes that end it
	since   time.Duration
	done    int
	minRTT  time.Duration
	full    float64
	flat    int
	filled  bool
	phase   int
	phaseAt time.Duration
	base    int
}

func (q *simBBR) acked(c *simSource, bytes int) {
	q.done += bytes
	if d := c.rtt.min; q.minRTT == 0 || d < q.minRTT {
		q.minRTT = d
	}
	if q.done < q.roundTo {
		q.window(c)
		return
	}
	if dt := c.s.now - q.since; q.since > 0 && dt > 0 {
		q.bw[q.round%len(q.bw)] = float64(q.done-q.base) / dt.Seconds()
	}
	q.round++
	q.since, q.base, q.roundTo = c.s.now, q.done, q.done+max(c.inflight(), c.mss)
	switch top := q.top(); {
	case q.filled || q.round < 3:
	case top > 1.25*q.full:
		q.full, q.flat = top, 0
	default:
		q.flat++
		q.filled = q.flat >= 3
	}
	q.window(c)
}

func (q *simBBR) top() (b float64) {
	for _, v := range q.bw {
		b = max(b, v)
	}
	return b
}

func (q *simBBR) window(c *simSource) {
	if b := q.top(); b > 0 {
		gain := 2.0
		if !q.filled {
			gain = 2.89
		}
		c.cwnd = max(gain*b*q.minRTT.Seconds()+float64(3*c.gso*c.mss), float64(4*c.mss))
		if !q.filled {
			c.cwnd = max(c.cwnd, float64(10*c.mss))
		}
	}
}

func (q *simBBR) lost(*simSource) {}

func (q *simBBR) rate(c *simSource) float64 {
	b := q.top()
	if b == 0 {
		return 2.89 * float64(10*c.mss) / max(c.rtt.smooth, time.Millisecond).Seconds()
	}
	if !q.filled {
		return 2.89 * b
	}
	if c.s.now-q.phaseAt > q.minRTT {
		q.phase, q.phaseAt = (q.phase+1)%8, c.s.now
	}
	switch q.phase {
	case 0:
		return 1.25 * b
	case 1:
		return 0.75 * b
	}
	return b
}
