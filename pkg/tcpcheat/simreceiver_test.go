package tcpcheat

import (
	"bytes"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// simReceiver is a receiver as Linux 6.18 is one: delayed ACKs, SACK, a window
// whose right edge never moves left, and in-order data beyond it is dropped
// while the queue is not empty.
type simReceiver struct {
	s        *sim
	mss      int
	shift    int
	noSACK   bool
	noTS     bool
	buf      int     // bytes
	readRate float64 // bytes/s; 0: at once
	paused   [2]time.Duration
	isn      packet.Seq
	next     packet.Seq
	nxt      packet.Seq // own sequence number
	una      packet.Seq
	irs      packet.Seq
	edge     packet.Seq
	maxEdge  packet.Seq // as sent, in whole units of its window field
	ooo      simRanges
	unread   float64
	readAt   time.Duration
	tsRecent uint32
	delayed  int
	timer    int
	open     bool
	gotFIN   bool
	finSeq   packet.Seq
	finKnown bool
	updating bool
	sentFIN  bool
	bytes    int // payload bytes in order
	dropped  int
	dupBytes int
	chatter  time.Duration
	chatSent int
	dead     time.Duration // silent from then on; 0: never
	gotRST   bool
	store    []byte // where made-up bytes may come: what it got, and
	stored   []bool // which of it
	replaces bool   // in-order data replaces what waited behind a hole
}

// keep stores what came: the first copy, or as Linux does the one in order.
func (r *simReceiver) keep(off int, pay []byte, inOrder bool) {
	if r.store == nil {
		return
	}
	done := r.next.Diff(r.irs.Add(1))
	for i, b := range pay {
		if k := off + i; k >= done && k < len(r.store) && (!r.stored[k] || inOrder && r.replaces) {
			r.store[k], r.stored[k] = b, true
		}
	}
}

func (r *simReceiver) tsval() uint32 { return uint32(r.s.now/time.Millisecond) + 77 }

func (r *simReceiver) drain() {
	now := r.s.now
	if r.readRate == 0 {
		r.unread = 0
	} else {
		from, to := r.readAt, now
		if r.paused[1] > 0 { // cut the pause out
			if from >= r.paused[0] && from < r.paused[1] {
				from = min(to, r.paused[1])
			} else if from < r.paused[0] && to > r.paused[0] {
				from += min(to, r.paused[1]) - r.paused[0]
			}
		}
		r.unread = max(0, r.unread-(to-from).Seconds()*r.readRate)
	}
	r.readAt = now
}

func (r *simReceiver) window() int {
	r.drain()
	w := r.buf - int(r.unread)
	e := r.next.Add(max(w, 0))
	if e.Diff(r.edge) > r.mss || e.Diff(r.edge) > r.buf/2 { // SWS avoidance
		r.edge = e
	}
	return max(r.edge.Diff(r.next), 0)
}

func (r *simReceiver) send(seq packet.Seq, flags uint8, pay []byte, withSACK bool) {
	var o []byte
	if !r.noTS && !r.s.src.noTS {
		o = packet.AppendTimestamps(o, r.tsval(), r.tsRecent)
	}
	if withSACK && !r.noSACK && !r.s.src.noSACK && len(r.ooo.r) > 0 {
		var b [3]packet.SACKBlock
		n := r.ooo.sack(b[:])
		o = packet.AppendSACK(o, b[:n], 40-len(o))
	}
	r.delayed = 0
	r.timer++
	w := r.window()
	field := packet.ScaleWindow(w, int8(r.shift))
	r.maxEdge = packet.MaxSeq(r.maxEdge, r.next.Add(int(field)<<r.shift))
	r.s.reply(packet.AppendTCP(nil, &packet.Segment{
		Key: r.s.key.Reverse(), TTL: 60, DF: true, Seq: seq, Ack: r.ackNum(), Flags: flags,
		Window: field, Options: o, Payload: pay,
	}))
}

func (r *simReceiver) ackNum() packet.Seq {
	if r.gotFIN {
		return r.next.Add(1)
	}
	return r.next
}

func (r *simReceiver) ack() { r.send(r.nxt, packet.FlagACK, nil, true) }

func (r *simReceiver) receive(p []byte) {
	if r.dead > 0 && r.s.now >= r.dead {
		return
	}
	v, err := packet.Parse(p)
	if err != nil || !v.TCPChecksumOK() {
		r.s.fail("the receiver received a broken packet")
		return
	}
	t := v.TCP()
	o, _ := packet.ParseOptions(t.Options())
	if t.Has(packet.FlagRST) {
		if t.Seq() == r.ackNum() {
			r.gotRST = true
		}
		return
	}
	if t.Has(packet.FlagSYN) {
		if r.open {
			return
		}
		r.irs, r.next, r.tsRecent = t.Seq(), t.Seq().Add(1), o.TSVal
		r.una, r.nxt = r.isn, r.isn.Add(1)
		r.edge = r.next.Add(min(r.buf, 65535))
		r.maxEdge = r.edge
		so := []byte{2, 4, byte((r.mss + 12) >> 8), byte(r.mss + 12), 3, 3, byte(r.shift), 1}
		if !r.noSACK && !r.s.src.noSACK {
			so = append(so, 1, 1, 4, 2)
		}
		if !r.noTS && !r.s.src.noTS {
			so = append(so, packet.AppendTimestamps(nil, r.tsval(), o.TSVal)...)
		}
		r.s.reply(packet.AppendTCP(nil, &packet.Segment{
			Key: r.s.key.Reverse(), TTL: 60, DF: true, Seq: r.isn, Ack: r.next,
			Flags: packet.FlagSYN | packet.FlagACK, Window: uint16(min(r.buf, 65535)), Options: so,
		}))
		return
	}
	if !r.open {
		r.open = true
		if r.chatter > 0 {
			r.s.after(r.chatter, r.chat)
		}
	}
	if o.HasTimestamps {
		if int32(o.TSVal-r.tsRecent) < 0 {
			r.dropped++
			r.ack() // PAWS
			return
		}
	}
	if t.Ack().After(r.una) {
		r.una = t.Ack()
	}
	r.data(t, &o)
}

func (r *simReceiver) data(t packet.TCP, o *packet.TCPOptions) {
	pay := t.Payload()
	seq := t.Seq()
	end := seq.Add(len(pay))
	r.keep(seq.Diff(r.irs.Add(1)), pay, seq.AtMost(r.next))
	if off := seq.Diff(r.irs.Add(1)); r.store == nil && !bytes.Equal(pay, contents(off, len(pay))) {
		r.s.fail("of the stream's bytes [%d, %d) one is wrong", off, off+len(pay))
	}
	if t.Has(packet.FlagFIN) {
		r.finKnown, r.finSeq = true, end
	}
	if o.HasTimestamps && seq.AtMost(r.next) {
		r.tsRecent = o.TSVal
	}
	r.drain()
	if len(pay) == 0 && !t.Has(packet.FlagFIN) {
		if seq.Before(r.next) {
			r.ack() // a probe
		}
		return
	}
	now := true
	switch {
	case end.AtMost(r.next):
		r.dupBytes += len(pay)
	case end.After(r.edge) && (r.unread > 0 || len(r.ooo.r) > 0 || seq.After(r.edge)):
		r.dropped++
	case seq.After(r.next):
		r.ooo.add(seq, end)
	default:
		hole := len(r.ooo.r) > 0
		old := r.next
		r.next = r.ooo.advance(end)
		r.bytes += r.next.Diff(old)
		r.unread += float64(r.next.Diff(old))
		r.delayed++
		now = hole || r.delayed >= 2
	}
	if r.finKnown && r.next == r.finSeq && !r.gotFIN {
		r.gotFIN, now = true, true
	}
	if r.gotFIN && !r.sentFIN {
		r.sentFIN = true
		r.fin()
		return
	}
	if now {
		r.ack()
		r.updates()
		return
	}
	id := r.timer
	r.s.after(40*time.Millisecond, func() {
		if id == r.timer && r.delayed > 0 {
			r.ack()
		}
	})
	r.updates()
}

// updates sends a window update once the reader has made room.
func (r *simReceiver) updates() {
	if r.readRate == 0 || r.updating || r.edge.Diff(r.next) >= r.buf/2 {
		return
	}
	r.updating = true
	r.s.after(10*time.Millisecond, func() {
		r.updating = false
		old := r.edge
		if r.window(); r.edge.After(old) && old.Diff(r.next) < r.buf/2 {
			r.ack()
		} else if old.Diff(r.next) < r.buf/2 && !r.gotFIN {
			r.updates()
		}
	})
}

// chat sends data of the receiver's own, stop and wait.
func (r *simReceiver) chat() {
	if r.gotFIN || r.sentFIN {
		return
	}
	if r.una == r.nxt {
		r.send(r.nxt, packet.FlagACK|packet.FlagPSH, contents(7000+r.chatSent, 100), true)
		r.nxt, r.chatSent = r.nxt.Add(100), r.chatSent+100
	} else {
		r.send(r.nxt.Add(-100), packet.FlagACK|packet.FlagPSH, contents(7000+r.chatSent-100, 100), true)
	}
	r.s.after(r.chatter, r.chat)
}

func (r *simReceiver) fin() {
	if r.una == r.nxt.Add(1) || r.s.src.reset {
		return
	}
	if r.una.Before(r.nxt) { // chat data is still on its way
		r.send(r.nxt.Add(-100), packet.FlagACK|packet.FlagPSH, contents(7000+r.chatSent-100, 100), true)
	}
	r.send(r.nxt, packet.FlagACK|packet.FlagFIN, nil, true)
	r.s.after(500*time.Millisecond, r.fin)
}

// have counts what has arrived, behind holes too.
func (r *simReceiver) have() int {
	n := r.bytes
	for _, b := range r.ooo.r {
		n += b.Right.Diff(b.Left)
	}
	return n
}
