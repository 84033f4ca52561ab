package netstack

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// kind is what a test's schedules have in common.
type kind struct {
	name string
	base uint64 // of the seeds
	// draw chooses what the kind is about: which box does what, and faults that
	// it cannot bear.
	draw func(s *schedule)
	acts []act // without these in any schedule the test would prove nothing
}

// act is something that the boxes at the source's and the receiver's side do.
type act struct {
	name string
	of   func(a, b tcpcheat.Stats) uint64
}

var (
	fakes     = act{"fake ACKs", func(a, _ tcpcheat.Stats) uint64 { return a.FakeAcks }}
	repeats   = act{"retransmissions", func(a, _ tcpcheat.Stats) uint64 { return a.Retransmits }}
	edges     = act{"edges of its own", func(a, b tcpcheat.Stats) uint64 { return a.Rewritten + a.WindowUpdates + b.Rewritten + b.WindowUpdates }}
	thinnings = act{"thinned ACKs", func(_, b tcpcheat.Stats) uint64 { return b.Thinned }}
	fillings  = act{"filled bytes", func(_, b tcpcheat.Stats) uint64 { return b.FilledBytes }}
)

// schedule is what is drawn for one run.
type schedule struct {
	*world
	kind   *kind
	seed   uint64
	a2b    packet.FlowKey
	params [2]*tcpcheat.Params // of the box at the source's side, and the one at the receiver's; nil: none
	limits tcpcheat.Limits

	up, wan, last    *link // source, box 0, box 1, receiver
	lastBack, back   *link
	down             *link
	startAt          time.Duration
	stopAt, againAt  time.Duration
	resetAt          time.Duration
	resetBy          *host
	noTS, noScale    bool
	crash            *crash // of the box at the source's side; nil: none
	pauseAt, pauseTo time.Duration
	text             string // what was drawn, for people

	wrong []span // bytes at the receiver that are not the source's
}

type span struct{ from, to int }

func pick[T any](g *rand.Rand, v ...T) T { return v[g.IntN(len(v))] }

func (s *schedule) ms(lo, hi int) time.Duration {
	return time.Duration(lo+s.rng.IntN(hi-lo+1)) * time.Millisecond
}

func newSchedule(t testing.TB, k *kind, seed uint64) *schedule {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 2))}
	w.checks = &checks{w: w}
	s := &schedule{world: w, kind: k, seed: seed}
	g := w.rng
	addrA, addrB := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	if g.IntN(2) == 0 {
		addrA, addrB = netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:2::2")
	}
	tune := func() tuning {
		return tuning{
			cc: pick(g, "cubic", "reno"), sack: g.IntN(3) > 0, rack: g.IntN(2) == 0, gso: g.IntN(3) == 0,
			buf: pick(g, 8<<10, 32<<10, 128<<10, 1<<20), autotune: g.IntN(3) == 0,
		}
	}
	ta, tb := tune(), tune()
	w.a, w.b = w.newHost("the source", addrA, ta), w.newHost("the receiver", addrB, tb)
	s.a2b = packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(addrA, 4000), netip.AddrPortFrom(addrB, 80))
	s.noTS, s.noScale = g.IntN(4) == 0, g.IntN(8) == 0

	s.apps()
	s.path()
	s.limits = tcpcheat.Limits{NoProgress: 30 * time.Second, Linger: time.Second}
	if g.IntN(7) == 0 {
		s.limits.Buffered = 64 << 10
	}
	if g.IntN(2) == 0 {
		s.startAt = s.ms(0, 1500)
	}
	k.draw(s)
	s.connectBoxes()
	s.text = fmt.Sprintf("A %+v, %d bytes; B %+v, %d bytes, reads at %.0f/s; no TS %v, no scale %v; paused %v-%v; start %v, stop %v, again %v; reset %v; up %s; wan %s; back %s; boxes %+v %+v; limits %+v",
		ta, len(w.a.app.send), tb, len(w.b.app.send), w.b.app.readRate, s.noTS, s.noScale, s.pauseAt, s.pauseTo, s.startAt, s.stopAt, s.againAt, s.resetAt,
		s.up, s.wan, s.back, s.params[0], s.params[1], s.limits)
	return s
}

func (l *link) String() string {
	return fmt.Sprintf("%v+%v %.0f/s loss %.3f dup %.3f", l.delay, l.jitter, l.rate, l.loss, l.dup)
}

// apps draws what the two programs have to say, and how they behave.
func (s *schedule) apps() {
	g := s.rng
	a, b := &s.a.app, &s.b.app
	content := func(n int) []byte {
		c := make([]byte, n)
		for i := range c {
			c[i] = byte(g.Uint32())
		}
		if n > 0 {
			c[0] = 'D' // nothing that looks like TLS or the like
		}
		return c
	}
	a.send = content(1 + g.IntN(pick(g, 100, 10_000, 200_000)))
	b.send = content(g.IntN(pick(g, 1, 100, 10_000, 100_000)))
	a.want, b.want = b.send, a.send
	for _, p := range []*app{a, b} {
		p.chunk = pick(g, 100, 1448, 5000, 64<<10)
		if p.chunk*200 < len(p.send) {
			p.chunk = len(p.send)
		}
		if g.IntN(4) == 0 && p.chunk < len(p.send) {
			p.think = s.ms(1, 50)
		}
		if g.IntN(4) == 0 {
			p.readRate = pick(g, 50e3, 300e3, 2e6)
		}
	}
	a.h, b.h = s.a, s.b
	// Half-close in either order, or both at once.
	switch g.IntN(3) {
	case 0:
		a.closeAfterPeer = true
	case 1:
		b.closeAfterPeer = true
	}
	a.wrong = func(off int, _ []byte) { s.fail("wrong bytes at the source, %d on", off) }
	b.wrong = func(off int, got []byte) {
		for i, c := range got {
			if c == b.want[off+i] {
				continue
			}
			if n := len(s.wrong); n > 0 && s.wrong[n-1].to == off+i {
				s.wrong[n-1].to++
			} else {
				s.wrong = append(s.wrong, span{off + i, off + i + 1})
			}
		}
	}
	if g.IntN(4) == 0 {
		s.pauseAt = s.ms(0, 3000)
		s.pauseTo = s.pauseAt + s.ms(10, 8000)
	}
}

// path draws the links' faults. Those behind a box that keeps nothing are for
// the kinds to take back.
func (s *schedule) path() {
	g := s.rng
	l := func(d time.Duration) *link { return &link{w: s.world, delay: d} }
	s.up, s.down = l(100*time.Microsecond), l(100*time.Microsecond)
	s.last, s.lastBack = l(100*time.Microsecond), l(100*time.Microsecond)
	s.wan, s.back = l(s.ms(1, 120)), l(s.ms(1, 120))
	s.up.rate, s.down.rate = 125e6, 125e6
	s.up.loss, s.up.dup = pick(g, 0, 0, 0.01, 0.03), pick(g, 0, 0, 0.02)
	s.down.loss = pick(g, 0, 0, 0.01, 0.03)
	s.wan.loss, s.wan.dup = pick(g, 0, 0.005, 0.02, 0.05), pick(g, 0, 0, 0.02)
	s.back.loss, s.back.dup = pick(g, 0, 0.02, 0.1), pick(g, 0, 0, 0.03)
	if g.IntN(4) == 0 {
		s.up.jitter = s.ms(1, 3)
	}
	if g.IntN(3) == 0 {
		s.wan.jitter = s.ms(1, 40)
	}
	if g.IntN(4) == 0 {
		s.back.rate, s.back.queue = pick(g, 8e3, 32e3), 16<<10
	}
}

// reservation draws what a box is told.
func (s *schedule) reservation(m tcpcheat.Mode) *tcpcheat.Params {
	g := s.rng
	p := &tcpcheat.Params{Mode: m, Rate: pick(g, 20e3, 125e3, 1e6, 1e7), Bucket: pick(g, 6e3, 64e3)}
	if g.IntN(3) == 0 {
		p.Peak = 2 * p.Rate
	}
	return p
}

// reset has one end give up in the middle.
func (s *schedule) reset() {
	s.resetAt, s.resetBy = s.ms(0, 4000), pick(s.rng, s.a, s.b)
	s.checks.resets = true
}

func (s *schedule) connectBoxes() {
	names := [2]string{"box 1", "box 2"}
	for i, p := range s.params {
		x := &box{w: s.world, name: names[i], key: s.a2b}
		s.boxes = append(s.boxes, x)
		if p == nil || *plain {
			continue
		}
		x.e = tcpcheat.New(s.limits)
		watch := x.e.WatchNear
		if p.Mode == tcpcheat.Realtime || p.Mode == tcpcheat.Reliable {
			watch = x.e.Watch
			s.checks.speaks = true
		}
		if err := watch(s.time(), s.a2b); err != nil {
			s.t.Fatal(err)
		}
		if s.crash != nil && i == 0 {
			x.e.Record(&s.crash.kept, time.Unix(0, 0))
		}
	}
	one, two := s.boxes[0], s.boxes[1]
	s.a.out = func(f frame) {
		f.b = s.without(f.b)
		s.checks.says(&s.checks.a, f)
		s.up.send(f)
	}
	s.up.deliver = one.handle
	one.toB = s.wan.send
	s.wan.deliver = two.handle
	two.toB = func(f frame) { s.checks.toReceiver(f); s.last.send(f) }
	s.last.deliver = func(f frame) { s.arrives(f); s.b.receive(f.b) }
	s.b.out = func(f frame) {
		if s.b.app.ep == nil && tooEarly(f.b) {
			return
		}
		s.checks.says(&s.checks.b, f)
		s.lastBack.send(f)
	}
	s.lastBack.deliver = two.handle
	two.toA = s.back.send
	s.back.deliver = one.handle
	one.toA = func(f frame) { s.checks.toSource(f); s.down.send(f) }
	s.down.deliver = func(f frame) { s.arrives(f); s.a.receive(f.b) }
}

// tooEarly finds what gVisor answers to a repeated SYN in SYN-RECEIVED: an ACK whose
// window field is not scaled (handshake.synRcvdState), so that its peer takes it for
// as much as 128 times what the receiver has room for (RFC 7323 section 2.3).
func tooEarly(b []byte) bool {
	v, err := packet.Parse(b)
	return err == nil && v.TCP().Flags() == packet.FlagACK
}

func (s *schedule) arrives(f frame) {
	if !*traced {
		return
	}
	if v, err := packet.Parse(f.b); err == nil {
		who := "  A gets"
		if v.Key() == s.a2b {
			who = "  B gets"
		}
		s.trace(who, v)
	}
}

// without takes options out of the source's SYN: the stack has no switch for
// them, and with the SYN they are gone on both sides.
func (s *schedule) without(b []byte) []byte {
	v, err := packet.Parse(b)
	if err != nil || !v.TCP().Has(packet.FlagSYN) {
		return b
	}
	o := v.TCP().Options()
	for i := 0; i < len(o) && o[i] != packet.OptEnd; {
		if o[i] == packet.OptNop {
			i++
			continue
		}
		n := max(int(o[i+1]), 2)
		if o[i] == packet.OptTimestamps && s.noTS || o[i] == packet.OptWindowScale && s.noScale {
			for j := range n {
				o[i+j] = packet.OptNop
			}
		}
		i += n
	}
	v.SetTCPChecksum()
	return b
}

// begin opens the connection and sets what happens at its times.
func (s *schedule) begin() {
	ln := s.b.socket()
	s.b.must(ln.Bind(s.b.at(80)))
	s.b.must(ln.Listen(16))
	s.b.app.listener = ln
	ep := s.a.socket()
	s.a.must(ep.Bind(s.a.at(4000)))
	s.a.app.ep = ep
	if err := ep.Connect(s.b.at(80)); err != nil {
		if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
			s.a.must(err)
		}
	}
	s.a.busy, s.b.busy = true, true
	for i, p := range s.params {
		x := s.boxes[i]
		if p == nil || x.e == nil {
			continue
		}
		s.after(s.startAt, func() { x.start(*p) })
		if s.stopAt > 0 {
			s.after(s.stopAt, x.stop)
		}
		if s.againAt > 0 {
			s.after(s.againAt, func() { x.start(*p) })
		}
	}
	if s.pauseTo > 0 {
		s.after(s.pauseAt, func() { s.b.app.paused = true })
		s.after(s.pauseTo, func() { s.b.app.paused, s.b.busy = false, true })
	}
	if s.crash != nil {
		s.crash.happen(s)
	}
	if s.resetBy != nil {
		s.after(s.resetAt, func() {
			s.resetBy.app.reset()
			for _, h := range []*host{s.a, s.b} {
				if h != s.resetBy {
					h.keepalive()
				}
			}
		})
	}
}
