package tcpcheat

import (
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The filler is the paper's receiver TCP cheating: where bytes are missing at
// the receiver and nobody will send them again, it makes some up, so that the
// rest of the stream is delivered. It keeps none of the source's bytes.
//
// What it goes by is two sets. Seen is what passed here towards the receiver;
// held is what the receiver has behind a hole, as its SACK blocks say or, where
// those were not negotiated, as its duplicate ACKs allow to conclude from what
// was seen. A hole is filled, from its first missing byte up to the next one
// held, when it has been known for long enough that a real repetition would
// have come, and only if the data behind it passed here too.

// Bounds of the filler.
const (
	// fillCredit segments are made for each packet of the connection that is
	// seen, so that no storm comes of it; maxFillCredit of them may be saved up.
	fillCredit    = 4
	maxFillCredit = 64
	// fillTrickle is the pause after which one segment is made without.
	fillTrickle = 100 * time.Millisecond
	// A hole that stays is filled again, later and later, and then given up.
	minRefill     = 20 * time.Millisecond
	maxRefill     = 10 * time.Second
	maxFillRounds = 14
	// slowDup is how long fewer than three duplicate ACKs must stand where only
	// they say that something that was seen here is missing (RFC 5681 section 3.2).
	slowDup = 300 * time.Millisecond
	dupAcks = 3
	// tailTime is what a source gets to send the end of its data again that only
	// the number of a later segment without data tells of: the first timeout of
	// RFC 6298 section 2.1.
	tailTime = time.Second
)

// fillParams is the treatment of one flow.
type fillParams struct {
	after time.Duration // that a hole must stay
	rate  float64       // bytes/s that are made at most
	mss   int           // payload of a made segment at most
	sack  bool          // the connection has SACK
}

// fillAck is what the filler wants to know of a segment of the receiver.
type fillAck struct {
	ack, edge packet.Seq // acknowledged, and right edge of the window
	blocks    []packet.SACKBlock
	bare      bool // no data, no FIN, the window that the one before had
}

// filler is the state of one flow.
type filler struct {
	fillParams
	ack, edge packet.Seq // the receiver's
	pos       uint64     // stream offset of ack
	max       packet.Seq // end of what passed here
	fin       packet.Seq // of the source's FIN
	shown     packet.Seq // end of its data, as a segment without any showed it
	wait      time.Duration
	refill    time.Duration
	dups      int
	inferred  packet.Seq // duplicate ACKs spoke of data up to here
	seen      stretches
	held      stretches
	cuts      cuts
	bucket    bucket
	credit    int
	sentAt    instant
	below     packet.Seq // nothing is filled beyond, if bounded
	bounded   bool
	finSeen   bool
	hasShown  bool
	guessed   bool  // that there is no hole but the one at the end
	refused   error // why nothing is filled

	report *filled
	odd    uint64 // SACK blocks for what never passed here
}

// newFiller makes the filler of a connection whose receiver has acknowledged
// up to ack, which is offset pos of the stream, and whose source sent up to sent.
// What was filled is written into report.
func newFiller(p fillParams, now instant, ack, edge, sent packet.Seq, pos uint64, report *filled) *filler {
	f := &filler{fillParams: p, report: report, ack: ack, edge: edge, pos: pos, max: sent, credit: maxFillCredit / 4, inferred: ack}
	if sent.After(ack) {
		f.seen.add(ack, sent, now) // what was lost of it, SACK or its ACKs will say
	}
	f.bucket.at = now
	f.setRate(now, p.rate)
	f.timing(p.after, 0, rtt{})
	return f
}

func (f *filler) setRate(now instant, rate float64) {
	f.rate = rate
	burst := float64(maxBurst * f.mss)
	f.bucket.set(now, &Params{Rate: rate, Bucket: burst, Peak: math.Inf(1)}, burst)
}

// timing takes how long a hole must stay, and the round trips: of the path, of
// which a quarter is the reordering to be expected (RFC 8985 section 6.2), and
// to the receiver.
func (f *filler) timing(after, path time.Duration, receiver rtt) {
	f.wait = max(after, minReorder, path/4)
	f.refill = max(f.wait, 2*receiver.smooth+4*receiver.dev, minRefill)
}

// data notes a segment that goes on to the receiver; end counts its FIN.
func (f *filler) data(now instant, seq, end packet.Seq, fin bool) {
	f.credit = min(f.credit+fillCredit, maxFillCredit)
	data := end
	if fin {
		data = end.Add(-1)
		if !f.finSeen {
			f.finSeen, f.fin = true, data
		}
	}
	if end == seq {
		f.show(now, seq)
		return
	}
	if end.AtMost(f.ack) {
		return
	}
	f.cuts.add(now, seq, data)
	l := packet.MaxSeq(seq, f.ack)
	f.seen.add(l, end, now)
	f.max = packet.MaxSeq(f.max, end)
	if n := len(f.held.s); n > 0 && l.Before(f.held.s[n-1].left) {
		// The real bytes: they get their chance. A receiver that has nothing
		// behind the hole may delay their acknowledgement.
		at := now
		if f.guessed {
			at += slowDup
		}
		f.held.spare(f.ack, l, end, at)
	}
}

// show notes a segment without data. Its number is where the source's data ends
// so far, and may tell of some that did not come: as a FIN does.
func (f *filler) show(now instant, seq packet.Seq) {
	seq = packet.MinSeq(seq, f.edge)
	if !seq.After(f.max) || f.finSeen {
		return
	}
	if seq.After(f.ack) && len(f.held.s) == 0 {
		f.shown, f.hasShown = seq, true
		f.seen.add(seq, seq.Add(1), now+tailTime)
	}
	f.max = seq
}

// acked takes a segment of the receiver.
func (f *filler) acked(now instant, a fillAck) {
	f.credit = min(f.credit+fillCredit, maxFillCredit)
	if a.ack.Before(f.ack) || a.ack.After(f.max) {
		return
	}
	f.edge = a.edge
	news := a.ack.After(f.ack)
	if news {
		f.advance(now, a.ack)
	}
	blocks := 0
	for _, b := range a.blocks {
		switch {
		case b.Right.AtMost(f.ack) || b.Left.AtMost(f.ack) || !b.Left.Before(b.Right):
			// A duplicate's (RFC 2883), or nonsense.
		case b.Right.After(f.max):
			f.odd++
		default:
			f.held.add(b.Left, b.Right, now)
			blocks++
		}
	}
	switch {
	case news || !a.bare || blocks > 0 || !f.max.After(f.ack):
	case f.sack:
		f.tail(now)
	default:
		f.dups++
		f.infer(now)
	}
}

// advance follows the receiver.
func (f *filler) advance(now instant, ack packet.Seq) {
	f.pos += uint64(ack.Diff(f.ack))
	f.ack, f.dups = ack, 0
	f.seen.trim(ack)
	f.held.trim(ack)
	switch {
	case len(f.held.s) > 0 && f.held.s[0].left == ack:
		// It was taken for held and is missing after all, as duplicate ACKs
		// could not tell (RFC 6582 section 3.2 step 3), or is on its way yet;
		// or the receiver has changed its mind (RFC 2018 section 8).
		f.cut(now)
	case !f.sack && ack.Before(f.inferred):
		f.infer(now)
	}
}

// tail is a hole at the end of the data, which no SACK block tells of: a FIN or
// a segment without data does, or duplicate ACKs if what came last was lost
// behind this box.
func (f *filler) tail(now instant) {
	f.dups++
	end := f.max
	switch {
	case f.finSeen:
		end = f.fin
	case f.hasShown && f.shown.After(f.ack):
		end = f.shown
	case f.dups < dupAcks:
		return
	}
	if f.ack.AtLeast(end) || len(f.held.s) > 0 && f.held.s[0].left.Before(end) {
		return
	}
	f.guessed = true
	f.infer(now)
}

// infer concludes from duplicate ACKs, without SACK: the receiver gets data, so
// it has what passed here, but for the beginning.
func (f *filler) infer(now instant) {
	f.inferred = packet.MaxSeq(f.inferred, f.max)
	front, ok := f.missing()
	if !ok {
		return
	}
	var since instant
	switch {
	case f.seen.s[0].left.After(f.ack):
		since = f.seen.s[0].gap.since // it cannot have what never passed
	case f.dups < dupAcks:
		since = max(f.lostSince(now), now+slowDup)
	default:
		since = f.lostSince(now)
	}
	if len(f.held.s) > 0 {
		front = f.held.s[0].left
		g := &f.held.s[0].gap
		g.since = min(g.since, max(since, now))
	}
	for i := range f.seen.s {
		s := &f.seen.s[i]
		if l := packet.MaxSeq(s.left, front); l.Before(s.right) {
			at := s.gap.since
			if l == front {
				at = since
			}
			f.held.add(l, s.right, at)
		}
	}
}

// missing is where the data that the receiver waits for ends, as far as what
// was seen tells: at the next data, or with the segment if it was lost behind
// this box.
func (f *filler) missing() (packet.Seq, bool) {
	s := f.seen.s
	switch {
	case len(s) == 0:
		return 0, false
	case s[0].left.After(f.ack):
		return s[0].left, true
	}
	end := packet.MinSeq(f.cutAt(f.ack), s[0].right)
	if f.finSeen {
		end = packet.MinSeq(end, f.fin)
	}
	switch {
	case end.Before(s[0].right):
		return end, true
	case len(s) > 1:
		return s[1].left, true
	}
	return 0, false
}

// cut opens a hole at the beginning of what was held.
func (f *filler) cut(now instant) {
	end, ok := f.missing()
	if !ok {
		f.held.s = f.held.s[:0]
		return
	}
	f.held.trim(end)
	if len(f.held.s) > 0 {
		f.held.s[0].gap = hole{since: f.lostSince(now)}
	}
}

// lostSince is the time from which the clock of a hole runs whose bytes passed
// here: they may be under way, or in a queue behind this box, for as long as a
// segment takes to be acknowledged.
func (f *filler) lostSince(now instant) instant {
	if _, at, ok := f.cuts.find(f.ack); ok {
		return at + f.refill - f.wait
	}
	return now
}

// cutAt is the end of the segment that began at, or held, the byte at seq.
func (f *filler) cutAt(seq packet.Seq) packet.Seq {
	end := seq.Add(f.mss)
	if c, _, ok := f.cuts.find(seq); ok {
		end = packet.MinSeq(end, c)
	}
	return end
}

// next is a piece to be made now; false if there is none. It counts as made.
func (f *filler) next(now instant) (from, to packet.Seq, ok bool) {
	if f.refused != nil || len(f.held.s) == 0 {
		return 0, 0, false
	}
	f.bucket.refill(now)
	if f.credit <= 0 && now < f.sentAt+fillTrickle || !f.bucket.has(float64(f.mss)) {
		return 0, 0, false
	}
	left := f.ack
	for i := range f.held.s {
		s := &f.held.s[i]
		g := &s.gap
		l, r := f.open(left, s.left)
		left = s.right
		if now < f.dueAt(g) || l.AtLeast(r) {
			continue
		}
		from = l
		if g.begun {
			from = packet.MaxSeq(l, g.at)
		}
		if from.AtLeast(r) {
			f.round(now, g)
			continue
		}
		to = packet.MinSeq(from.Add(f.mss), r)
		f.count(now, from, to, g.tries > 0)
		g.begun, g.at = true, to
		if to == r {
			f.round(now, g)
		}
		return from, to, true
	}
	return 0, 0, false
}

// round ends a filling of a hole. What is still missing after a while is filled
// again, as long as the hole stays.
func (f *filler) round(now instant, g *hole) {
	g.begun = false
	g.next = now + min(f.refill<<min(g.tries, 16), maxRefill)
	if g.tries++; g.tries == maxFillRounds {
		f.report.givenUp++
	}
}

func (f *filler) count(now instant, from, to packet.Seq, again bool) {
	f.credit = max(f.credit-1, 0)
	f.sentAt = now
	f.bucket.take(float64(to.Diff(from)))
	f.seen.add(from, to, now) // it goes the way of the others
	f.cuts.add(now, from, to)
	at := f.pos + uint64(from.Diff(f.ack))
	f.report.add(at, at+uint64(to.Diff(from)))
	f.report.segments++
	if again {
		f.report.again++
	}
}

func (f *filler) dueAt(g *hole) instant {
	if g.tries >= maxFillRounds {
		return never
	}
	return max(g.since+f.wait, g.next)
}

// open is what may be filled of the hole [l, r): nothing if the data behind it
// did not pass here or if the FIN is in it, and only as far as the receiver has
// room. (A connection with urgent data is left alone as a whole.)
func (f *filler) open(l, r packet.Seq) (packet.Seq, packet.Seq) {
	switch {
	case !f.seen.covers(r), f.finSeen && r.After(f.fin):
		return l, l
	}
	r = packet.MinSeq(r, f.edge)
	if f.bounded {
		r = packet.MinSeq(r, f.below)
	}
	return l, r
}

// deadline is when next wants to be asked again.
func (f *filler) deadline(now instant) instant {
	at, left := never, f.ack
	if f.refused != nil {
		return never
	}
	for i := range f.held.s {
		s := &f.held.s[i]
		if d := f.dueAt(&s.gap); d < at {
			if l, r := f.open(left, s.left); l.Before(r) {
				at = d
			}
		}
		left = s.right
	}
	if at == never {
		return never
	}
	if f.credit <= 0 {
		at = max(at, f.sentAt+fillTrickle)
	}
	f.bucket.refill(now)
	return max(at, now+f.bucket.wait(float64(f.mss)))
}

// content writes the made-up bytes at stream offset at into dst: the same at
// each try.
func fillContent(dst, pattern []byte, at uint64) {
	if len(pattern) == 0 {
		clear(dst)
		return
	}
	k := int(at % uint64(len(pattern)))
	for n := 0; n < len(dst); k = 0 {
		n += copy(dst[n:], pattern[k:])
	}
}

// cuts remembers where segments ended, and when they passed. Where SACK blocks do
// not, it says how much is missing behind this box, and since when at least.
type cuts struct {
	ring [128]struct {
		at       instant
		seq, end packet.Seq
	}
	n uint64
}

func (c *cuts) add(now instant, seq, end packet.Seq) {
	e := &c.ring[c.n%uint64(len(c.ring))]
	e.at, e.seq, e.end = now, seq, end
	c.n++
}

// find is the end of the latest segment that held seq, and when it passed.
func (c *cuts) find(seq packet.Seq) (packet.Seq, instant, bool) {
	for k := uint64(1); k <= min(c.n, uint64(len(c.ring))); k++ {
		e := &c.ring[(c.n-k)%uint64(len(c.ring))]
		if e.seq.AtMost(seq) && seq.Before(e.end) {
			return e.end, e.at, true
		}
	}
	return 0, 0, false
}
