package netstack

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// frame is a packet on its way. half: its checksum is half a sum; mss: of the
// parts of a super-packet.
type frame struct {
	b    []byte
	half bool
	mss  int
}

// link is one direction of a piece of the way.
type link struct {
	w             *world
	rate          float64 // bytes/s; 0: infinite
	delay, jitter time.Duration
	queue         int // bytes
	loss, dup     float64
	busy          time.Duration
	deliver       func(f frame)
	lost          int
}

func (l *link) send(f frame) {
	w, size := l.w, float64(len(f.b))
	if w.rng.Float64() < l.loss {
		l.lost++
		return
	}
	at := w.now
	if l.rate > 0 {
		l.busy = max(l.busy, at)
		if l.queue > 0 && (l.busy-at).Seconds()*l.rate+size > float64(l.queue) {
			l.lost++
			return
		}
		l.busy += time.Duration(size / l.rate * 1e9)
		at = l.busy
	}
	copies := 1
	if w.rng.Float64() < l.dup {
		copies = 2
	}
	for range copies {
		d := l.delay
		if l.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(l.jitter)))
		}
		c := f
		c.b = append([]byte(nil), f.b...)
		w.after(at-w.now+d, func() { l.deliver(c) })
	}
}

// box is a box on the way, as pkg/daemon feeds the engine from its queue: each
// packet of the connection to Handle, then what Handle made.
type box struct {
	w        *world
	name     string
	e        *tcpcheat.Engine // nil: it forwards only
	key      packet.FlowKey   // of the data
	toB, toA func(f frame)
	wake     *event
	in, made int             // packets
	final    *tcpcheat.Stats // its last word on the connection
}

// handle takes a packet from one side to the other.
func (x *box) handle(f frame) {
	v, err := packet.Parse(f.b)
	if err != nil {
		x.w.fail("%s: %v", x.name, err)
		return
	}
	x.in += max((len(v.TCP().Payload())+mtu)/mtu, 1)
	a := tcpcheat.Accept
	if x.e != nil {
		a = x.e.Handle(x.w.time(), v, tcpcheat.Meta{CsumNotReady: f.half, GSO: len(f.b) > mtu})
	}
	x.flush()
	if a == tcpcheat.Drop {
		return
	}
	for _, q := range parts(v, f) {
		x.pass(q, v.Key() == x.key)
	}
}

func (x *box) pass(p []byte, fromA bool) {
	if fromA {
		x.toB(frame{b: p})
	} else {
		x.toA(frame{b: p})
	}
}

// parts are the packets that a super-packet becomes behind the box, with whole
// checksums.
func parts(v packet.View, f frame) [][]byte {
	t := v.TCP()
	pay := t.Payload()
	if len(v.Bytes()) <= mtu {
		if f.half {
			v.SetTCPChecksum()
		}
		return [][]byte{v.Bytes()}
	}
	var list [][]byte
	for off := 0; off < len(pay); off += f.mss {
		end := min(off+f.mss, len(pay))
		flags := t.Flags()
		if end < len(pay) {
			flags &^= packet.FlagFIN | packet.FlagPSH
		}
		list = append(list, packet.AppendTCP(nil, &packet.Segment{
			Key: v.Key(), TTL: v.TTL(), TOS: v.TOS(), ID: v.ID(), DF: v.DF(), FlowLabel: v.FlowLabel(), Seq: t.Seq().Add(off),
			Ack: t.Ack(), Flags: flags, Window: t.Window(), Options: t.Options(), Payload: pay[off:end],
		}))
	}
	return list
}

// stormFactor is how many packets a box may make for one that comes in.
const stormFactor = 4

// flush sends what the engine made and sets its timer.
func (x *box) flush() {
	if x.e == nil {
		return
	}
	for _, in := range x.e.TakeInjected() {
		x.made++
		x.pass(append([]byte(nil), in.Packet...), in.Toward == tcpcheat.ToReceiver)
	}
	for _, ev := range x.e.TakeEvents() {
		if ev.Kind == tcpcheat.EventEnded || ev.Kind == tcpcheat.EventReset {
			x.final = &ev.Final
		}
		if ev.Kind == tcpcheat.EventLeftAlone && ev.Recalled {
			x.final = &ev.Final
			x.e.Forget(x.key) // its packets pass by from now on
		}
	}
	if most := 100 + stormFactor*x.in + int(10*x.w.now.Seconds()); x.made > most {
		x.w.fail("%s made %d packets for %d", x.name, x.made, x.in)
	}
	at, ok := x.e.NextDeadline()
	if !ok {
		return
	}
	d := max(at.Sub(epoch), x.w.now)
	if x.wake != nil && x.wake.run != nil {
		if x.wake.at <= d {
			return
		}
		x.wake.run = nil
	}
	x.wake = x.w.after(d-x.w.now, func() {
		if at, ok := x.e.NextDeadline(); ok && at.Sub(epoch) <= x.w.now {
			x.e.Advance(x.w.time())
			if at, ok := x.e.NextDeadline(); ok && at.Sub(epoch) <= x.w.now {
				x.w.fail("%s: the deadline does not advance", x.name)
			}
		}
		x.flush()
	})
}

// stats are of the connection, or were when it ended.
func (x *box) stats() (st tcpcheat.Stats) {
	switch {
	case x.e == nil:
	case x.final != nil:
		st = *x.final
	default:
		st, _ = x.e.Flow(x.key)
	}
	return st
}

// start begins the treatment, and stop ends it.
func (x *box) start(p tcpcheat.Params) {
	if x.e == nil {
		return // it has died
	}
	_ = x.e.Start(x.w.time(), x.key, p) // it may be closing, or draining still
	x.flush()
}

func (x *box) stop() {
	x.e.Stop(x.w.time(), x.key)
	x.flush()
}
