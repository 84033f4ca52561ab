package reliable

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// takeAcks takes the acknowledgments that a message carries, and those that it
// implies: errors SHOULD be treated so (RFC 2961 section 4.5).
func (l *Layer) takeAcks(now time.Time, nb *neighbor, m *wire.Message) {
	if nb == nil {
		return
	}
	for _, a := range m.Acks {
		if a.Nack {
			l.count.NacksIn++
		} else {
			l.count.AcksIn++
		}
		e := l.byID[a.ID]
		switch {
		case e == nil || a.Epoch != l.epoch || !e.from(nb):
			l.count.AcksUnknown++
		case a.Nack:
			l.nack(now, e)
		default:
			l.ack(now, e, nb)
		}
	}
	if m.Type != wire.PathErr && m.Type != wire.ResvErr {
		return
	}
	for _, e := range l.concerns(nb, m) {
		if e.flying() { // arrived, but perhaps not kept: refreshed by whole messages
			e.given = true
			l.timers.Set(&e.timer, now.Add(2*e.r))
		}
	}
}

// from says whether nb can have got e. Who a PATH reaches is not known for sure.
func (e *sent) from(nb *neighbor) bool {
	return e.nb == nb || e.send.RouterAlert || e.send.Dst == nb.key.addr
}

// concerns returns the messages that an error from nb is about.
func (l *Layer) concerns(nb *neighbor, m *wire.Message) (list []*sent) {
	for _, k := range keys(m) {
		if e := l.states[sentKey(k, nb.key.iface, nb.key.addr)]; e != nil && !e.once && e.from(nb) {
			list = append(list, e)
		}
	}
	return list
}

func (l *Layer) ack(now time.Time, e *sent, nb *neighbor) {
	if !e.acked && e.tries == 1 && e.rk != 0 { // after a repetition it could be either's
		nb.measured(now.Sub(e.sentAt))
		if e.nb != nb {
			e.nb.measured(now.Sub(e.sentAt))
		}
	}
	nb.acks = true
	if e.once || !e.keyed {
		l.drop(e)
		return
	}
	if e.acked && e.peer == nb {
		return
	}
	e.acked, e.given = true, false
	l.setPeer(e, nb)
	l.timers.Set(&e.timer, now.Add(2*e.r))
	l.join(now, e)
}

// nack answers a NACK with the whole message (RFC 2961 section 5.4).
func (l *Layer) nack(now time.Time, e *sent) {
	if !e.acked || e.once {
		return // it is being sent
	}
	l.count.Full++
	l.again(e)
	e.rk, e.sentAt, e.tries = l.first(e.nb), now, 1
	l.timers.Set(&e.timer, now.Add(e.rk))
	l.resend(now, e, true)
}

// refusal notices a neighbour that does not know MESSAGE_ID: what it refused is
// sent again without (RFC 2961 section 4.8). Such an error is about the last
// hop alone and is not handed on.
func (l *Layer) refusal(now time.Time, nb *neighbor, m *wire.Message) bool {
	if m.Type != wire.PathErr && m.Type != wire.ResvErr || m.ErrorSpec == nil ||
		m.ErrorSpec.Code != wire.ErrUnknownClass || wire.Class(m.ErrorSpec.Value>>8) != wire.ClassMessageID {
		return false
	}
	l.count.RefusedBy++
	if nb == nil {
		return true
	}
	nb.refused = true
	for _, e := range l.concerns(nb, m) {
		e.nb.refused = true
		whole, err := all.Parse(e.raw)
		s := e.send
		l.drop(e)
		if err == nil {
			s.Msg = whole
			l.plain(now, e.nb, s)
		}
	}
	return true
}
