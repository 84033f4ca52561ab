package tcpcheat

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The simulation: source - LAN - box - WAN - receiver, under virtual time.

var simEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type simEvent struct {
	at  time.Duration
	n   int
	run func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// link is one direction of a path: rate, delay, drop-tail queue, faults.
type link struct {
	s                   *sim
	rate                float64 // bytes/s; 0: infinite
	delay, jitter       time.Duration
	queue               int // bytes; 0: endless
	loss, dup           float64
	outage              [2]time.Duration // everything is lost in it
	busy                time.Duration
	load                func(now time.Duration) int // bytes of other traffic before each packet
	deliver             func([]byte)
	sent, lost, carried int
	police              func(p []byte) bool // whether it conforms
}

func (l *link) send(p []byte) {
	l.sent++
	if l == l.s.wan && l.s.watchWAN != nil {
		l.s.watchWAN(len(p))
	}
	now := l.s.now
	if l.police != nil && !l.police(p) {
		return
	}
	if now >= l.outage[0] && now < l.outage[1] || l.s.rng.Float64() < l.loss {
		l.lost++
		return
	}
	at := now
	if l.rate > 0 {
		l.busy = max(l.busy, now)
		if l.load != nil {
			l.busy += time.Duration(float64(l.load(now)) / l.rate * 1e9)
		}
		if l.queue > 0 && (l.busy-now).Seconds()*l.rate+float64(len(p)) > float64(l.queue) {
			l.lost++
			return
		}
		l.busy += time.Duration(float64(len(p)) / l.rate * 1e9)
		at = l.busy
	}
	l.carried += len(p)
	copies := 1
	if l.s.rng.Float64() < l.dup {
		copies = 2
	}
	for range copies {
		d := l.delay
		if l.jitter > 0 {
			d += time.Duration(l.s.rng.Int64N(int64(l.jitter)))
		}
		b := append([]byte(nil), p...)
		l.s.after(at-now+d, func() { l.deliver(b) })
	}
}

type sim struct {
	t      testing.TB
	rng    *rand.Rand
	now    time.Duration
	events simQueue
	n      int
	key    packet.FlowKey // of the data

	src *simSource
	rcv *simReceiver
	eng *Engine
	up, down,
	wan, back *link // source to box and back; box to receiver and back

	reply     func([]byte) // what the receiver sends
	useEngine bool
	paced     *pacedCheck // other promises, of a paced source
	lastEdge  packet.Seq
	haveEdge  bool
	wake      time.Duration
	fails     int
	steps     int
	segsIn    int         // segments that came to the box; those of a super-packet count one by one
	injected  int         // packets that the engine made
	watchWAN  func(n int) // sees the size of each packet that leaves for the receiver
	honour    bool        // no prediction: the receiver's edge is a limit
}

func newSim(t testing.TB, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), useEngine: true,
		key: packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:80")),
	}
	s.src = &simSource{s: s}
	s.rcv = &simReceiver{s: s}
	s.up = &link{s: s, delay: 100 * time.Microsecond, rate: 125e6}
	s.down = &link{s: s, delay: 100 * time.Microsecond, rate: 125e6}
	s.wan = &link{s: s, delay: 50 * time.Millisecond}
	s.back = &link{s: s, delay: 50 * time.Millisecond}
	s.up.deliver = func(p []byte) { s.box(p) }
	s.back.deliver = func(p []byte) { s.box(p) }
	s.down.deliver = func(p []byte) { s.src.receive(p) }
	s.wan.deliver = func(p []byte) { s.rcv.receive(p) }
	s.reply = s.back.send
	return s
}

func (s *sim) after(d time.Duration, run func()) {
	s.n++
	heap.Push(&s.events, simEvent{at: s.now + max(d, 0), n: s.n, run: run})
}

func (s *sim) time() time.Time { return simEpoch.Add(s.now) }

// run handles events until the time or until done says so.
func (s *sim) run(until time.Duration, done func() bool) bool {
	for len(s.events) > 0 && s.events[0].at <= until {
		if s.steps++; s.steps > 3_000_000 {
			s.fail("termination: no end in sight")
			return false
		}
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.run()
		if done != nil && done() {
			return true
		}
		if s.fails > 3 {
			return false
		}
	}
	s.now = max(s.now, until)
	return done == nil
}

func (s *sim) fail(format string, args ...any) {
	s.t.Helper()
	s.fails++
	if s.fails <= 3 {
		s.t.Errorf("at %v: "+format, append([]any{s.now}, args...)...)
	}
}

// stormFactor is how many packets the engine may make for one that comes in.
const stormFactor = 4

// box is box 1's forward hook.
func (s *sim) box(p []byte) {
	v, err := packet.Parse(p)
	if err != nil {
		s.fail("parse: %v", err)
		return
	}
	fromSource := v.Key() == s.key
	s.segsIn += max((len(v.TCP().Payload())+s.src.mss-1)/s.src.mss, 1)
	if s.paced != nil {
		s.paced.in++
		if !fromSource {
			s.paced.receiver(v)
		}
	}
	a := Accept
	if s.useEngine {
		a = s.eng.Handle(s.time(), v, Meta{})
	}
	if a == Modified && !v.TCPChecksumOK() {
		s.fail("edited packet has a bad checksum")
	}
	s.flush()
	if a == Drop {
		return
	}
	if fromSource {
		s.toWAN(v)
	} else {
		s.check(v, a == Modified)
		s.down.send(p)
	}
}

// flush sends what the engine has made, and sets its timer.
func (s *sim) flush() {
	if !s.useEngine {
		return
	}
	got := s.eng.TakeInjected()
	s.injected += len(got)
	// No packet storms: at once, and in all. Beside what answers to packets
	// there is what a timer sends, a few each second at most.
	if most := maxBurst*(1+(s.src.mss+522)/523) + 3 + s.src.gso*s.src.mss/523; len(got) > most { // the last: a super-packet in pieces
		s.fail("no storms: %d packets injected at once", len(got))
	}
	if most := 100 + stormFactor*s.segsIn + int(10*s.now.Seconds()); s.injected > most {
		s.fail("no storms: %d packets injected for %d that came in", s.injected, s.segsIn)
	}
	for _, in := range got {
		v, err := packet.Parse(in.Packet)
		if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
			s.fail("injected packet is broken: %v", err)
			continue
		}
		if in.Toward == ToSource {
			s.check(v, true)
			s.down.send(in.Packet)
		} else {
			s.wan.send(in.Packet)
		}
	}
	if at, ok := s.eng.NextDeadline(); ok {
		d := at.Sub(simEpoch)
		if s.wake <= s.now || d < s.wake {
			s.wake = max(d, s.now)
			s.after(s.wake-s.now, func() {
				if at, ok := s.eng.NextDeadline(); ok && at.Sub(simEpoch) <= s.now {
					s.eng.Advance(s.time())
					if at, ok := s.eng.NextDeadline(); ok && at.Sub(simEpoch) <= s.now {
						s.fail("the deadline does not advance")
					}
				}
				s.flush()
			})
		}
	}
}

// toWAN splits super-packets, as the kernel does behind the box.
func (s *sim) toWAN(v packet.View) {
	t := v.TCP()
	pay := t.Payload()
	for off := 0; off == 0 || off < len(pay); off += s.src.mss {
		end := min(off+s.src.mss, len(pay))
		flags := t.Flags()
		if end < len(pay) {
			flags &^= packet.FlagFIN | packet.FlagPSH
		}
		s.wan.send(packet.AppendTCP(nil, &packet.Segment{
			Key: s.key, TTL: v.TTL(), TOS: v.TOS(), ID: v.ID(), DF: v.DF(), Seq: t.Seq().Add(off),
			Ack: t.Ack(), Flags: flags, Window: t.Window(), Options: t.Options(), Payload: pay[off:end],
		}))
	}
}

// check holds the promises of a segment to the source.
func (s *sim) check(v packet.View, ours bool) {
	t := v.TCP()
	if s.paced != nil {
		s.paced.check(v)
		return
	}
	if !t.Has(packet.FlagACK) || t.Has(packet.FlagSYN) || t.Has(packet.FlagRST) {
		return
	}
	ack := t.Ack()
	if ack.After(s.src.max) {
		s.fail("honest: ack %d beyond what the source sent by %d", ack, ack.Diff(s.src.max))
	}
	c := s.eng.find(s.key)
	if c == nil {
		return
	}
	if ch := c.ch; ch != nil && ch.Mode == Reliable && ack.After(packet.MaxSeq(ch.next, s.rcv.ackNum())) {
		s.fail("honest: acknowledged %d bytes that are neither held nor delivered", ack.Diff(ch.next))
	}
	if ch := c.ch; ours && s.honour && ch != nil && ch.active && c.state == Cheated && ch.Mode == Realtime && ack.After(s.rcv.maxEdge) {
		s.fail("honest: acknowledged %d bytes beyond what the receiver offered to take", ack.Diff(s.rcv.maxEdge))
	}
	if s.src.fin && ack.After(s.src.finSeq) && !s.rcv.gotFIN {
		s.fail("honest: the FIN was acknowledged for the receiver")
	}
	shift := 0
	if c.scaled {
		shift = int(c.rcv.shift)
	}
	edge := ack.Add(int(t.Window()) << shift)
	if !ours && (c.ch == nil || !c.ch.active) && s.haveEdge && edge.Before(s.lastEdge) {
		return // an old ACK of the receiver itself
	}
	if s.haveEdge && ours && s.lastEdge.Diff(edge) >= 1<<shift && !ack.Before(c.passed) {
		s.fail("monotonic: right edge moved left by %d (ack %d, passed %d, offered %d, win %d) %+v", s.lastEdge.Diff(edge), ack.Diff(s.src.isn), c.passed.Diff(s.src.isn), c.offered.Diff(s.src.isn), t.Window(), c.snapshot())
	}
	if !s.haveEdge || edge.After(s.lastEdge) {
		s.lastEdge, s.haveEdge = edge, true
	}
}

// The stream repeats itself only after more bytes than any window has, so any
// shift or swap shows. It is copied and compared in whole segments: byte by byte
// that was a third of a simulation's time, and more with the race detector.
const streamPeriod = 4<<20 - 3

var simStream = func() []byte {
	b := make([]byte, streamPeriod, streamPeriod+64<<10)
	for i := range b {
		x := uint32(i) * 2654435761
		b[i] = byte(x>>24) ^ byte(x>>11)
	}
	return append(b, b[:64<<10]...)
}()

// content is the byte at offset i of the stream.
func content(i int) byte { return contents(i, 1)[0] }

// contents are n bytes of the stream, 64 kB at most, only to be read.
func contents(from, n int) []byte {
	if from %= streamPeriod; from < 0 {
		from += streamPeriod
	}
	return simStream[from : from+n : from+n]
}

func key6() packet.FlowKey {
	return packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("[fd00:1::2]:4000"), netip.MustParseAddrPort("[fd00:2::2]:80"))
}
