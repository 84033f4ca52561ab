package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Action is what becomes of a packet.
type Action uint8

// The actions.
const (
	Accept   Action = iota // goes on as it is
	Drop                   // absorbed
	Modified               // goes on as edited in place, its length unchanged
)

// Meta is what the kernel says of a packet beside its bytes.
type Meta struct {
	CsumNotReady bool // the checksum field holds half a sum
	GSO          bool // a super-packet
	In           int  // port of a bridge that it came in by; 0: a router's are of no matter
}

// Engine watches and cheats the connections of one worker. It is not safe for
// concurrent use.
type Engine struct {
	lim    Limits
	epoch  time.Time
	now    instant
	conns  map[packet.FlowKey]*conn // by canonical key
	timers timers
	pool   pool
	early  int // bytes of early segments
	out    outbox
	events []Event
	spare  []Event
	echoes []Echo
	serial uint64
	totals Totals

	stripECN bool

	recorder Recorder // nil: promises are not kept
	since    time.Time
	promise  Promise // scratch, for it

	odd bool // the packet being handled has what forbids cheating

	// Scratch space of the packet being handled.
	seg     packet.Segment
	opts    [40]byte
	blocks  [4]packet.SACKBlock
	scratch [65536]byte
}

// New makes an engine. It needs no randomness: every number in a packet that it
// makes is one that an end has used before.
func New(lim Limits) *Engine {
	lim.defaults()
	return &Engine{
		lim:   lim,
		conns: make(map[packet.FlowKey]*conn),
		pool:  pool{max: max(lim.Buffered/chunkSize, 1)},
	}
}

func (e *Engine) tick(now time.Time) {
	if e.epoch.IsZero() {
		// Not zero itself: an instant of 0 means that nothing happened yet.
		e.epoch = now.Add(-time.Second)
	}
	e.now = max(e.now, now.Sub(e.epoch))
}

func (e *Engine) find(key packet.FlowKey) *conn {
	k, _ := key.Canonical()
	return e.conns[k]
}

// Watch authorises a connection, by the key of its data's direction: its
// handshake is followed when its SYN comes.
func (e *Engine) Watch(now time.Time, key packet.FlowKey) error { return e.watch(now, key, false) }

// WatchNear is Watch for a connection that will not be cheated, but paced,
// thinned or filled: no copies of its data are kept, and one whose handshake
// was not seen is followed from its next packet on.
func (e *Engine) WatchNear(now time.Time, key packet.FlowKey) error { return e.watch(now, key, true) }

func (e *Engine) watch(now time.Time, key packet.FlowKey, plain bool) error {
	e.tick(now)
	if key.Proto != packet.ProtoTCP {
		return ErrNotTCP
	}
	if c := e.find(key); c != nil {
		switch {
		case c.state == Closed:
			e.remove(c, "")
		case c.key != key:
			return ErrOtherSide
		default:
			return nil
		}
	}
	if len(e.conns) >= e.lim.Flows {
		e.totals.TableFull++
		return ErrTableFull
	}
	c := &conn{key: key, plain: plain, heap: -1, last: e.now}
	k, _ := key.Canonical()
	e.conns[k] = c
	e.schedule(c)
	return nil
}

// NoFill tells of a connection that is watched that nobody wants its holes
// filled, so what its stream is need not be known, and its data is not looked at.
// If somebody wants it later all the same, only FillForce can.
func (e *Engine) NoFill(key packet.FlowKey) {
	if c := e.find(key); c != nil {
		c.unread, c.openings = true, nil
	}
}

// Start begins to cheat: the reservation is in place. A connection that is not
// established yet is cheated from then on. Calling it again changes
// the parameters of a cheated flow; its mode stays for its life.
func (e *Engine) Start(now time.Time, key packet.FlowKey, p Params) error {
	e.tick(now)
	if err := p.check(&e.lim); err != nil {
		return err
	}
	c := e.find(key)
	switch {
	case c == nil:
		return ErrUnknownFlow
	case c.key != key:
		return ErrOtherSide
	}
	switch c.state {
	case Expected, Opening:
		// The reservation came before the end of the handshake, whose SYN-ACK
		// may be seconds away on a congested reverse path; or before the first
		// packet that comes here, of a connection that is followed from the middle.
		c.want = &p
		return nil
	case LeftAlone:
		return c.why()
	case Draining, Recalled:
		return ErrDraining
	case Closed:
		return ErrClosing
	case Watched:
		switch {
		case c.src.finSeen:
			return ErrClosing
		case c.midway && p.Mode.cheats():
			return ErrNoHandshake
		}
		e.begin(c, p)
	case Cheated:
		e.change(c, p)
	}
	e.pump(c)
	return nil
}

// begin sets a watched connection up for what its reservation allows.
func (e *Engine) begin(c *conn, p Params) {
	c.state, c.reason = Cheated, ""
	e.setEcho(c, p.Echo)
	if p.near() {
		c.near = newNear(c, p)
		e.setPace(c)
		e.setFill(c)
		c.reason = c.near.what()
	}
	if p.Mode.cheats() {
		if !e.place(c, p.Mode) {
			e.endNear(c)
			c.state = Watched
			e.leave(c, ErrUnrecorded)
			return
		}
		e.cheat(c, p)
	}
	e.event(c, EventStarted, "")
	if c.ch != nil {
		e.takeOver(c)
		return
	}
	e.forgetEarly(c)
	e.refuseFill(c)
}

// change takes over new parameters of a connection that is in treatment.
func (e *Engine) change(c *conn, p Params) {
	e.setEcho(c, p.Echo)
	switch {
	case c.ch != nil:
		p.Mode = c.ch.Mode
		c.ch.Params = p
		c.ch.bucket.set(e.now, &p, float64(c.ch.cost(c.ch.quantum())))
	case p.Mode.cheats():
		p.Mode = c.near.Mode
	}
	switch {
	case !p.near():
		e.endNear(c)
	case c.near == nil:
		c.near = newNear(c, p)
	default:
		if c.near.Mode == Pace && p.Mode != Pace {
			e.endPace(c)
			c.near.pace = pacing{}
		}
		c.near.Params = p
	}
	e.setPace(c)
	e.setFill(c)
	if c.ch == nil {
		c.reason = c.near.what()
	}
	e.refuseFill(c)
}

// cheat sets a connection up for cheating. What the source has sent so
// far belongs to the two ends; the engine answers for what follows, and only
// once the receiver has acknowledged the rest.
func (e *Engine) cheat(c *conn, p Params) {
	mss, header := c.segment()
	ch := &cheat{
		Params: p, mss: mss, header: header,
		base: c.src.max, next: c.rcv.ack, released: c.rcv.ack,
		recentTS: c.src.tsval, progress: e.now, alive: e.now,
	}
	ch.predict.level = c.edge.Diff(c.rcv.ack)
	ch.bucket.at = e.now
	ch.bucket.set(e.now, &p, float64(ch.cost(ch.quantum())))
	ch.hold.base, ch.flight.start = c.rcv.ack, c.rcv.ack
	ch.flight.extend(c.src.max, ch.mss, sent{at: e.now, flags: sentAbsent})
	ch.rto.detectAt, ch.rto.base = never, e.now
	ch.rto.top, ch.rto.copied = c.src.max, c.rcv.ack
	ch.active = !ch.next.Before(ch.base)
	c.ch = ch
}

// orDefault is RFC 9293 section 3.7.1: 536 where the SYN has no MSS.
func orDefault(mss uint16) uint16 {
	if mss == 0 {
		return 536
	}
	return mss
}

// Stop ends the cheating of a flow: nothing new is taken in hand, what is in
// hand is delivered, and then the flow is given back to its ends.
func (e *Engine) Stop(now time.Time, key packet.FlowKey) {
	e.tick(now)
	c := e.find(key)
	if c == nil {
		return
	}
	e.stop(c)
}

func (e *Engine) stop(c *conn) {
	c.want = nil
	switch {
	case c.state != Cheated:
	case c.ch == nil:
		e.giveBack(c, reasonStopped)
	default:
		e.endNear(c)
		e.drain(c, reasonStopped)
		e.pump(c)
	}
}

// Drain stops all flows.
func (e *Engine) Drain(now time.Time) {
	e.tick(now)
	for _, c := range e.conns {
		e.stop(c)
	}
}

// Abort resets both ends of every connection that has bytes in hand: the last
// resort of a box that must stop. The others are given back to their ends.
func (e *Engine) Abort(now time.Time) {
	e.tick(now)
	for _, c := range e.conns {
		switch {
		case c.recall != nil && c.recall.endAt != 0:
			e.broken(c)
		case c.recall != nil:
			// It is not known that it is broken: the next process will find out.
		case c.near != nil && c.ch == nil:
			e.giveBack(c, reasonStopped)
		case c.ch == nil:
		case c.passed.After(c.rcv.ack):
			e.abort(c, reasonStopped)
		default:
			e.handBack(c)
		}
	}
}

// Forget removes a connection at once, with whatever is held for it.
func (e *Engine) Forget(key packet.FlowKey) {
	if c := e.find(key); c != nil {
		e.endNear(c)
		e.remove(c, reasonForgotten)
	}
}

// Handle decides about one packet. The packet may be edited in place, and is
// not kept. Packets to be sent are in TakeInjected afterwards. ICMP errors about
// packets that were too big go on whatever they say, and are learnt from.
func (e *Engine) Handle(now time.Time, v packet.View, meta Meta) Action {
	e.tick(now)
	if !v.IsTCP() {
		e.fragment(v)
		e.tooBig(v)
		return Accept
	}
	key := v.Key()
	c := e.find(key)
	if c == nil {
		return Accept
	}
	c.last = e.now
	c.handled++
	t := v.TCP()
	o, ok := packet.ParseOptions(t.Options())
	h, peer := &c.src, &c.rcv
	if key != c.key {
		h, peer = peer, h
	}
	if e.strayed(c, h, peer, meta.In) {
		return Accept
	}
	if (c.treated() || c.recall != nil) && !meta.CsumNotReady && !v.TCPChecksumOK() {
		c.stats.BadChecksums++ // its receiver will discard it: nothing in it is to be believed
		return Accept
	}
	if t.Has(packet.FlagSYN) {
		if t.Has(packet.FlagRST) || t.Has(packet.FlagFIN) {
			return Accept
		}
		if t.Has(packet.FlagACK) {
			return e.synAck(c, h, peer, v, t, &o, ok)
		}
		a := Accept
		if e.stripECN && !c.plain && strip(v, meta) {
			a = Modified
		}
		e.syn(c, h, peer, v, t, &o, ok)
		return a
	}
	switch c.state {
	case Expected:
		if !c.plain {
			e.leave(c, ErrNoHandshake)
			return Accept
		}
		if !t.Has(packet.FlagACK) || t.Has(packet.FlagRST) {
			return Accept
		}
		e.pickUp(c, h == &c.src, t, &o)
	case Closed:
		return Accept
	case LeftAlone:
		c.lastWords(h, t)
		return Accept
	case Recalled:
		return e.overhear(c, h, v, t, &o)
	default:
	}
	if t.Has(packet.FlagRST) {
		return e.rst(c, h, peer, t)
	}
	err := c.vet(t, &o, ok)
	if e.odd = err != nil; e.odd {
		e.leave(c, err)
	}
	if c.oneWay(h, t) {
		e.leave(c, ErrOneWay)
	}
	e.third(c, h)
	e.awaited(c)
	e.lookAt(c, h, t.Seq(), t.Payload())
	if c.state == LeftAlone || c.state == Opening {
		return Accept
	}
	var a Action
	if h == &c.src {
		a = e.fromSource(c, v, t, &o, meta)
	} else {
		a = e.fromReceiver(c, v, t, &o, meta)
	}
	e.closing(c)
	e.pump(c)
	return a
}

// NextDeadline is when Advance wants to be called; false if there is no need.
func (e *Engine) NextDeadline() (time.Time, bool) {
	if len(e.timers) == 0 {
		return time.Time{}, false
	}
	return e.epoch.Add(e.timers[0].due), true
}

// Advance runs the timers that are due.
func (e *Engine) Advance(now time.Time) {
	e.tick(now)
	for len(e.timers) > 0 && e.timers[0].due <= e.now {
		c := e.timers[0]
		e.timers.remove(c)
		e.pump(c)
	}
}
