package reliable

import (
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// dueAck is an acknowledgment that waits for a message to carry it.
type dueAck struct {
	ack wire.MessageIDAck
	at  time.Time // not before
}

const (
	ackSize   = 12 // bytes of a MESSAGE_ID_ACK object
	messageID = 12 // bytes of a MESSAGE_ID object
	header    = 8  // bytes of the common header
	maxQueue  = 256
	maxDue    = 16384 // acknowledgments that wait; as many as one Srefresh can ask for
)

// bundles says whether s may go into a Bundle to nb (RFC 2961 section 3.3).
// A ResvConf is matched with its IP destination; a Srefresh is a bundle itself.
func (l *Layer) bundles(nb *neighbor, direct bool, s *softstate.Send) bool {
	return nb != nil && nb.capable && direct && !s.Hidden && l.cfg.BundleDelay > 0 &&
		s.Msg.Type.Known() && s.Msg.Type != wire.ResvConf && !s.Dst.IsMulticast() && !s.Msg.Session.Dst.IsMulticast()
}

// carries says whether acknowledgments for nb may travel in s: its IP
// destination is the neighbour (RFC 2961 section 4.6).
func carries(nb *neighbor, s *softstate.Send) bool {
	return nb != nil && s.Dst == nb.key.addr && !s.Msg.Type.NeedsRouterAlert() && !s.RouterAlert
}

// transmit sends a message: in a bundle if there is somebody to read that, else
// by itself with what acknowledgments it can carry. The first one after a pause
// does not wait for company: only those that come soon after it do.
func (l *Layer) transmit(now time.Time, nb *neighbor, direct bool, s softstate.Send) {
	if l.bundles(nb, direct, &s) && !nb.idle(now, l.cfg.BundleDelay) {
		nb.queue = append(nb.queue, s)
		if len(nb.queue) >= maxQueue {
			l.flush(now, nb, false)
		} else {
			l.timers.Sooner(&nb.flush, now.Add(l.cfg.BundleDelay))
		}
		return
	}
	if carries(nb, &s) && len(nb.due) > 0 {
		l.carry(nb, &s, nb.take(now, false))
	}
	if nb != nil {
		nb.left = now
	}
	l.out = append(l.out, s)
}

// idle says whether nothing has been sent to nb, or waits for it, for so long.
func (nb *neighbor) idle(now time.Time, d time.Duration) bool {
	return len(nb.queue) == 0 && now.Sub(nb.left) >= d
}

// acknowledge queues an acknowledgment. Those of multicast wait at random, so
// that not all receivers answer at once (RFC 2961 section 4.7).
func (l *Layer) acknowledge(now time.Time, nb *neighbor, dst netip.Addr, a wire.MessageIDAck) {
	if len(nb.due) >= maxDue {
		l.count.LimitAcks++
		return
	}
	at, delay := now, max(l.cfg.AckDelay, 0)
	if dst.IsMulticast() && l.cfg.MulticastAck > 0 {
		delay = time.Duration(l.rng.Int64N(int64(l.cfg.MulticastAck)))
		at = now.Add(delay)
	}
	nb.due = append(nb.due, dueAck{a, at})
	l.timers.Sooner(&nb.flush, now.Add(delay))
}

// take removes the acknowledgments that may leave.
func (nb *neighbor) take(now time.Time, all bool) (list []wire.MessageIDAck) {
	rest := nb.due[:0]
	for _, d := range nb.due {
		if all || !d.at.After(now) {
			list = append(list, d.ack)
		} else {
			rest = append(rest, d)
		}
	}
	if nb.due = rest; len(rest) == 0 {
		nb.due = nil
	}
	return list
}

// carry puts acknowledgments into s as far as there is room, the rest back.
func (l *Layer) carry(nb *neighbor, s *softstate.Send, list []wire.MessageIDAck) {
	n := min(max(l.room(s.Out, s.Dst)-s.Msg.Length(), 0)/ackSize, len(list))
	if n > 0 {
		m := *s.Msg
		m.Acks = append(slices.Clip(m.Acks), list[:n]...)
		s.Msg = &m
		l.counted(list[:n])
	}
	for _, a := range list[n:] {
		nb.due = append(nb.due, dueAck{ack: a})
	}
}

func (l *Layer) counted(list []wire.MessageIDAck) {
	for _, a := range list {
		if a.Nack {
			l.count.NacksOut++
		} else {
			l.count.AcksOut++
		}
	}
}

func (nb *neighbor) fire(l *Layer, now time.Time) { l.flush(now, nb, false) }

// flush sends what waits for nb.
func (l *Layer) flush(now time.Time, nb *neighbor, all bool) {
	l.timers.Stop(&nb.flush)
	list := nb.queue
	nb.queue = nil
	if len(list) > 0 {
		nb.left = now
	}
	acks := nb.take(now, all)
	for i := range list {
		if len(acks) > 0 && carries(nb, &list[i]) {
			l.carry(nb, &list[i], acks)
			acks = nb.take(now, all)
			break
		}
	}
	out, src := nb.key.iface, l.addr(nb.key.iface, nb.key.addr)
	for len(acks) > 0 {
		n := min((l.room(out, nb.key.addr)-header)/ackSize, len(acks))
		l.count.AckMessages++
		l.counted(acks[:n])
		list = append(list, softstate.Send{
			Out: out, Src: src, Dst: nb.key.addr, TTL: l.cfg.TTL,
			Msg: &wire.Message{Type: wire.Ack, Flags: wire.RefreshReduction, SendTTL: l.cfg.TTL, Acks: acks[:n:n]},
		})
		acks = acks[n:]
	}
	l.pack(nb, src, list)
	for _, d := range nb.due {
		l.timers.Sooner(&nb.flush, d.at)
	}
}

// pack sends list in as few packets as it can. A bundle's messages have the
// bundle's TTL (RFC 2961 section 3.4), so that only those of one TTL go
// together: a PATH in a loop has to die.
func (l *Layer) pack(nb *neighbor, src netip.Addr, list []softstate.Send) {
	grows := l.cfg.Overhead(nb.key.iface)
	room := l.room(nb.key.iface, nb.key.addr) + grows
	for len(list) > 0 {
		ttl, size := list[0].TTL, header
		var in []softstate.Send
		var rest []softstate.Send
		for _, s := range list {
			if n := s.Msg.Length() + grows; s.TTL == ttl && (len(in) == 0 || size+n <= room) {
				in = append(in, s)
				size += n
			} else {
				rest = append(rest, s)
			}
		}
		list = rest
		if len(in) == 1 || !nb.capable || l.cfg.BundleDelay <= 0 {
			l.out = append(l.out, in...)
			continue
		}
		l.count.BundlesOut++
		l.count.BundledOut += uint64(len(in))
		m := &wire.Message{Type: wire.Bundle, Flags: wire.RefreshReduction, SendTTL: ttl}
		for _, s := range in {
			m.Bundle = append(m.Bundle, s.Msg)
		}
		l.out = append(l.out, softstate.Send{Out: nb.key.iface, Src: src, Dst: nb.key.addr, TTL: ttl, Msg: m})
	}
}
