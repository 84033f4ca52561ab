package tcpcheat

import (
	"container/heap"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var fillSeed = flag.Uint64("fillseed", 0, "the only seed of TestFillRandomSchedules to run; 0: all")

// fillModel is a source, a filler and a receiver under virtual time, in
// offsets of the stream. Fake is what the filler made, real what the source sent.
type fillModel struct {
	t      *testing.T
	rng    *rand.Rand
	f      *filler
	now    time.Duration
	events simQueue
	n      int
	fails  int

	total          int
	mss            int
	sack, sackFIN  bool
	overwrite      bool // in-order data wins over what waits behind a hole, as in Linux
	repeats        float64
	loss, lanLoss  float64
	backLoss       float64
	jitter, dup    time.Duration
	delay, lan     time.Duration
	window         int
	wake           time.Duration
	packets, timed int

	got           []byte // 0: missing
	made          []bool // bytes that were ever in a fake segment
	next, top     int    // of the receiver
	latest        int
	delayed       int
	fin, finAcked bool
	last          int // last window edge
}

const (
	modelReal = 1
	modelFake = 2
)

func (m *fillModel) after(d time.Duration, run func()) {
	m.n++
	heap.Push(&m.events, simEvent{at: m.now + max(d, 0), n: m.n, run: run})
}

func (m *fillModel) fail(format string, args ...any) {
	m.t.Helper()
	if m.fails++; m.fails < 4 {
		m.t.Errorf("at %v: "+format, append([]any{m.now}, args...)...)
	}
}

func (m *fillModel) seq(off int) packet.Seq { return fillISN.Add(off) }

// send has the source send [from, to) and perhaps its FIN.
func (m *fillModel) send(from, to int, fin bool) {
	if m.rng.Float64() < m.loss {
		if !fin && m.rng.Float64() < m.repeats {
			m.after(time.Duration(m.rng.Int64N(int64(300*time.Millisecond))), func() { m.send(from, to, fin) })
		}
		return
	}
	d := m.delay
	if m.jitter > 0 {
		d += time.Duration(m.rng.Int64N(int64(m.jitter)))
	}
	pass := func() {
		end := m.seq(to)
		if fin {
			end = end.Add(1)
		}
		m.packets++
		m.f.data(m.now, m.seq(from), end, fin)
		for off := from; off < to || off == from && fin; off += m.mss { // a super-packet is cut
			e := min(off+m.mss, to)
			m.toReceiver(off, e, fin && e == to, modelReal)
		}
		m.poll()
	}
	m.after(d, pass)
	if m.dup > 0 && m.rng.IntN(10) == 0 {
		m.after(d+m.dup, pass)
	}
}

func (m *fillModel) toReceiver(from, to int, fin bool, kind byte) {
	if m.rng.Float64() >= m.lanLoss {
		m.after(m.lan, func() { m.receive(from, to, fin, kind) })
	}
}

// poll takes what the filler makes, and sets its timer.
func (m *fillModel) poll() {
	for range maxBurst {
		from, to, ok := m.f.next(m.now)
		if !ok {
			break
		}
		m.inject(from.Diff(fillISN), to.Diff(fillISN))
	}
	if at := m.f.deadline(m.now); at != never && (m.wake <= m.now || at < m.wake) {
		m.wake = max(at, m.now+1)
		m.after(m.wake-m.now, func() { m.timed++; m.poll() })
	}
}

func (m *fillModel) inject(from, to int) {
	switch {
	case to <= from || to-from > m.mss:
		m.fail("a segment of %d bytes", to-from)
	case from < 0 || to > m.total:
		m.fail("[%d, %d) is made of %d bytes", from, to, m.total)
	case m.f.edge.Diff(fillISN) < to:
		m.fail("[%d, %d) is beyond the right edge", from, to)
	}
	for i := from; i < to; i++ {
		m.made[i] = true
	}
	m.toReceiver(from, to, false, modelFake)
	trickle := int(m.now/fillTrickle) + 1
	if k := maxFillCredit/4 + fillCredit*m.packets + trickle; int(m.f.report.segments) > k {
		m.fail("%d segments made, %d allowed", m.f.report.segments, k)
	}
}

func (m *fillModel) receive(from, to int, fin bool, kind byte) {
	hole := m.top > m.next || m.fin
	if to > m.last && hole || from > m.last {
		m.ack()
		return
	}
	m.top = max(m.top, to)
	fresh := to > m.next
	inOrder := from <= m.next
	for i := max(from, m.next); i < to; i++ {
		if m.got[i] == 0 || inOrder && m.overwrite {
			m.got[i] = kind
		}
	}
	if fresh || fin {
		m.latest = from
	}
	if fin && (m.sackFIN || from <= m.next && to >= m.next) {
		m.fin = true
	}
	was := m.next
	for m.next < m.total && m.got[m.next] != 0 {
		m.next++
	}
	m.delayed++
	if hole || m.next == was || m.delayed >= 2 || m.fin && m.next == m.total {
		m.ack()
		return
	}
	m.after(40*time.Millisecond, func() {
		if m.delayed > 0 {
			m.ack()
		}
	})
}

// ack has the receiver acknowledge.
func (m *fillModel) ack() {
	m.delayed = 0
	at := m.next
	if m.fin && at == m.total {
		at++
	}
	m.last = max(m.last, m.next+m.window)
	a := fillAck{ack: m.seq(at), edge: m.seq(m.last), bare: true}
	if m.sack {
		a.blocks = m.blocks()
	}
	if m.rng.Float64() < m.backLoss {
		return
	}
	m.after(m.lan, func() {
		m.packets++
		m.f.acked(m.now, a)
		if at > m.total {
			m.after(m.delay, func() { m.finAcked = true })
		}
		m.poll()
	})
}

// blocks are up to three, that of the latest segment first (RFC 2018 section 4).
func (m *fillModel) blocks() []packet.SACKBlock {
	var list []packet.SACKBlock
	n := m.top
	if m.fin {
		n = m.total + 1
	}
	has := func(i int) bool { return i < m.total && m.got[i] != 0 || i == m.total && m.fin }
	for i := m.next; i < n; i++ {
		if !has(i) || i > m.next && has(i-1) || i == m.next {
			continue
		}
		j := i
		for j < n && has(j) {
			j++
		}
		list = append(list, packet.SACKBlock{Left: m.seq(i), Right: m.seq(j)})
	}
	m.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for i, b := range list {
		if b.Left.AtMost(m.seq(m.latest)) && m.seq(m.latest).Before(b.Right) {
			list[0], list[i] = list[i], list[0]
		}
	}
	return list[:min(len(list), 3)]
}

// setup draws a schedule.
func (m *fillModel) setup() {
	g := m.rng
	pick := func(v ...float64) float64 { return v[g.IntN(len(v))] }
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+g.IntN(hi-lo+1)) * time.Millisecond }
	m.total, m.mss = 1+g.IntN(30_000), []int{300, 536, 1448}[g.IntN(3)]
	m.sack, m.sackFIN, m.overwrite = g.IntN(3) > 0, g.IntN(4) > 0, g.IntN(2) == 0
	m.loss, m.lanLoss, m.backLoss = pick(0.01, 0.05, 0.3), pick(0, 0, 0.02, 0.1), pick(0, 0, 0.1)
	m.repeats = pick(0, 0, 0.7)
	m.delay, m.lan = ms(1, 100), ms(0, 5)
	if g.IntN(3) == 0 {
		m.jitter = ms(1, 60)
	}
	if g.IntN(4) == 0 {
		m.dup = ms(0, 50)
	}
	m.window = []int{8000, 60_000, 1 << 20}[g.IntN(3)]
	p := fillParams{after: ms(0, 50), rate: pick(20e3, 1e6, 1e7), mss: m.mss, sack: m.sack}
	m.f = newFiller(p, 0, fillISN, fillISN.Add(m.window), fillISN, 0, &filled{})
	m.f.timing(p.after, m.delay*2, rtt{smooth: 2 * m.lan})
	m.last = m.window
	m.got, m.made = make([]byte, m.total), make([]bool, m.total)
	gap := time.Duration(float64(m.mss) / pick(1e5, 1e6) * 1e9)
	super := 1 + g.IntN(4)
	at, off := time.Duration(0), 0
	for off < m.total {
		to := min(off+1+g.IntN(m.mss*super), m.total)
		if g.IntN(3) > 0 {
			to = min(off+m.mss*(1+g.IntN(super)), m.total)
		}
		from, fin := off, to == m.total && g.IntN(2) == 0
		m.after(at, func() { m.send(from, to, fin) })
		at, off = at+gap, to
	}
	var finish func(time.Duration)
	finish = func(again time.Duration) {
		if !m.finAcked {
			m.send(m.total, m.total, true)
			m.after(again, func() { finish(min(2*again, 30*time.Second)) })
		}
	}
	m.after(at+ms(0, 200), func() { finish(200 * time.Millisecond) })
}

func (m *fillModel) run() {
	for steps := 0; len(m.events) > 0 && m.fails == 0; steps++ {
		e := heap.Pop(&m.events).(simEvent)
		m.now = e.at
		if m.now > time.Hour || steps > 500_000 {
			m.fail("no end: %d of %d bytes, FIN %v", m.next, m.total, m.finAcked)
			return
		}
		e.run()
	}
}

// check holds the filler to what it promises, afterwards.
func (m *fillModel) check() {
	if m.next != m.total || !m.finAcked {
		m.fail("%d of %d bytes are delivered, FIN %v", m.next, m.total, m.finAcked)
		return
	}
	told, sum := make([]bool, m.total), uint64(0)
	for _, r := range m.f.report.list {
		for i := r.From; i < r.To; i++ {
			told[i] = true
			sum++
		}
	}
	if m.f.report.more == 0 && sum != m.f.report.bytes {
		m.fail("the ranges have %d bytes, reported are %d", sum, m.f.report.bytes)
	}
	for i := range m.got {
		switch {
		case m.f.report.more == 0 && told[i] != m.made[i]:
			m.fail("byte %d: made %v, reported %v", i, m.made[i], told[i])
		case m.got[i] == modelFake && !m.made[i]:
			m.fail("byte %d was never made", i)
		}
		if m.fails > 0 {
			return
		}
	}
	if at := m.f.deadline(m.now); at != never {
		m.fail("a deadline is left: %v", at)
	}
}

// Whatever is lost, late, repeated or reordered before and behind the box: the
// receiver's stream is complete in length, the bytes outside of the reported
// ranges are the source's, the ranges are those that were made, no more segments
// are made than the packets that were seen allow, and all comes to an end.
func TestFillRandomSchedules(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= few(12_000); seed++ {
		if *fillSeed != 0 {
			seed = *fillSeed
		}
		m := &fillModel{t: t, rng: rand.New(rand.NewPCG(seed, 4))}
		m.setup()
		m.run()
		if m.fails == 0 {
			m.check()
		}
		if t.Failed() {
			t.Fatalf("seed %d (-fillseed): sack %v/%v, mss %d, held %+v, seen %+v, ack %d, max %d, dups %d", seed, m.sack, m.sackFIN,
				m.mss, m.f.held.s, m.f.seen.s, m.f.ack.Diff(fillISN), m.f.max.Diff(fillISN), m.f.dups)
		}
		if *fillSeed != 0 {
			return
		}
	}
}

// A path that loses nothing and reorders by less than the wait needs no filling.
func TestFillLeavesAWorkingPathAlone(t *testing.T) {
	for seed := range few(500) {
		m := &fillModel{t: t, rng: rand.New(rand.NewPCG(seed, 5))}
		m.setup()
		m.loss, m.lanLoss, m.backLoss, m.repeats, m.window, m.dup = 0, 0, 0, 0, 1<<20, 0
		m.last = m.window
		m.f.timing(50*time.Millisecond, 0, rtt{})
		m.jitter = min(m.jitter, 40*time.Millisecond)
		m.run()
		m.check()
		if m.f.report.segments != 0 || t.Failed() {
			t.Fatalf("seed %d: %d segments are made for nothing: %+v, sack %v, FIN %v, jitter %v", seed, m.f.report.segments, m.f.report, m.sack, m.sackFIN, m.jitter)
		}
	}
}
