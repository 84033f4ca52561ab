package reliable

import (
	"bytes"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// sent is a message that went out with a MESSAGE_ID: state that is refreshed,
// or something that waits for its acknowledgment.
type sent struct {
	send   softstate.Send // without Msg
	raw    []byte         // the message without what is of RFC 2961
	id     uint32
	key    stateKey
	keyed  bool      // in states
	once   bool      // a tear, an error or a Srefresh: nothing to refresh
	nb     *neighbor // that it goes to
	direct bool      // nb is known to be the next hop
	peer   *neighbor // that acknowledged it

	summary bool // a Srefresh: nobody waits for its end

	acked    bool
	given    bool          // up: Rl was reached
	rk       time.Duration // retransmission interval that runs; 0: send first
	tries    int
	sentAt   time.Time
	alive    time.Time     // the node refreshed it
	r        time.Duration // refresh period
	timer    timer
	target   *target
	position int // in target
}

func (e *sent) flying() bool { return !e.acked && !e.given }

// plain sends as RFC 2205 has it.
func (l *Layer) plain(now time.Time, nb *neighbor, s softstate.Send) {
	l.count.Plain++
	m := *s.Msg
	m.Flags |= wire.RefreshReduction
	s.Msg = &m
	l.transmit(now, nb, false, s)
}

// probe sends to those who may not listen: once, without a MESSAGE_ID, which
// nobody would acknowledge, and an RSVP of RFC 2205 alone would refuse (RFC 2961
// section 4.8). The flag tells one that listens what we can (section 2). Nothing
// is kept: an earlier answer is history.
func (l *Layer) probe(now time.Time, s softstate.Send) {
	for _, k := range keys(s.Msg) {
		l.drop(l.states[sentKey(k, s.Out, s.Dst)])
	}
	l.count.Probes++
	l.plain(now, nil, s)
}

// sendState is for Path and Resv: new, changed, or a refresh.
func (l *Layer) sendState(now time.Time, s softstate.Send) {
	nb, direct := l.towards(&s)
	list := keys(s.Msg)
	if len(list) == 0 {
		l.plain(now, nb, s)
		return
	}
	k := sentKey(list[0], s.Out, s.Dst)
	e := l.states[k]
	if nb == nil || !nb.takesIDs() {
		l.drop(e)
		l.plain(now, nb, s)
		return
	}
	raw, err := s.Msg.Append(make([]byte, 0, s.Msg.Length()))
	if err != nil { // let the transmission tell
		l.plain(now, nb, s)
		return
	}
	if e == nil || e.once || s.Fresh || e.nb != nb || e.send.Src != s.Src || e.send.Out != s.Out || !bytes.Equal(e.raw, raw) {
		l.drop(e)
		l.trigger(now, s, raw, nb, direct, &k, false)
		return
	}
	e.alive, e.direct = now, direct
	switch {
	case e.flying():
		l.count.Suppressed++
	case e.acked && e.target != nil && e.peer.capable && !silent(now, e.peer, e.r):
		l.count.Suppressed++
	case e.acked && e.target != nil && e.peer.capable:
		// Is it still there? If not, this goes through what is a router without
		// RSVP now, and the next hop behind it answers.
		l.count.Full++
		l.nack(now, e)
	case e.acked:
		l.count.Full++
		l.resend(now, e, false)
		l.join(now, e) // in case that the neighbour has become capable
	case nb.capable || nb.acks:
		l.count.Full++
		l.resend(now, e, true)
	default: // nobody has answered: perhaps MESSAGE_ID is why
		l.plain(now, nb, s)
	}
}

// sendTear is for PathTear and ResvTear: what they end is repeated no more.
func (l *Layer) sendTear(now time.Time, s softstate.Send) {
	nb, direct := l.towards(&s)
	list := keys(s.Msg)
	for _, k := range list {
		k = sentKey(k, s.Out, s.Dst)
		if e := l.states[k]; e != nil {
			if e.peer != nil && e.peer != nb && k.kind == wire.Path && e.nb == nb {
				direct = false // behind a router that does not speak RSVP
			}
			l.drop(e)
		}
	}
	if len(list) == 0 {
		l.reliably(now, s, nb, direct, nil)
		return
	}
	k := sentKey(list[0], s.Out, s.Dst)
	l.reliably(now, s, nb, direct, &k)
}

// sendOnce is for errors, which belong to nobody's state here.
func (l *Layer) sendOnce(now time.Time, s softstate.Send) {
	nb, direct := l.towards(&s)
	l.reliably(now, s, nb, direct, nil)
}

func (l *Layer) reliably(now time.Time, s softstate.Send, nb *neighbor, direct bool, k *stateKey) {
	if nb == nil || !nb.takesIDs() {
		l.plain(now, nb, s)
		return
	}
	raw, err := s.Msg.Append(make([]byte, 0, s.Msg.Length()))
	if err != nil {
		l.plain(now, nb, s)
		return
	}
	l.trigger(now, s, raw, nb, direct, k, true)
}

// trigger sends something new. Its identifier is above all earlier ones (RFC
// 2961 section 4.5).
func (l *Layer) trigger(now time.Time, s softstate.Send, raw []byte, nb *neighbor, direct bool, k *stateKey, once bool) {
	if len(l.byID) >= l.cfg.Limits.Sent {
		l.count.LimitSent++
		l.plain(now, nb, s)
		return
	}
	l.count.Triggers++
	l.lastID++
	e := &sent{send: s, raw: raw, id: l.lastID, nb: nb, direct: direct, once: once, summary: s.Msg.Type == wire.Srefresh, alive: now}
	e.send.Msg = nil
	e.timer.Owner = e
	if s.Msg.TimeValues != nil {
		e.r = softstate.Period(s.Msg.TimeValues, softstate.DefaultRefresh)
	}
	l.byID[e.id] = e
	nb.sent++
	if k != nil {
		e.key, e.keyed = *k, true
		l.states[*k] = e
	}
	e.sentAt, e.rk, e.tries = now, l.first(nb), 1
	l.timers.Set(&e.timer, now.Add(e.rk))
	m := *s.Msg
	l.dispatch(now, e, &m, true)
}

// resend sends the whole message again.
func (l *Layer) resend(now time.Time, e *sent, ack bool) {
	m, err := all.Parse(e.raw)
	if err != nil { // we made it: only a fault of the codec gets here
		l.drop(e)
		return
	}
	l.dispatch(now, e, m, ack)
}

func (l *Layer) dispatch(now time.Time, e *sent, m *wire.Message, ack bool) {
	m.Flags |= wire.RefreshReduction
	m.MessageID = &wire.MessageID{Epoch: l.epoch, ID: e.id, AckDesired: ack}
	s := e.send
	s.Msg = m
	l.transmit(now, e.nb, e.direct && !silent(now, e.nb, e.r), s)
}

// silent says whether a neighbour has not spoken for two refresh periods. One
// that only listens may do so; then a single message that it has to acknowledge
// tells that it is alive, where its Srefresh would only vanish if it were not.
// Nor would a Bundle get behind it (RFC 2961 section 3.3).
func silent(now time.Time, nb *neighbor, r time.Duration) bool { return now.Sub(nb.seen) > 2*r }

// drop forgets a message.
func (l *Layer) drop(e *sent) {
	if e == nil {
		return
	}
	l.timers.Stop(&e.timer)
	l.leave(e)
	delete(l.byID, e.id)
	if e.keyed && l.states[e.key] == e {
		delete(l.states, e.key)
	}
	e.nb.sent--
	l.setPeer(e, nil)
}

func (l *Layer) setPeer(e *sent, nb *neighbor) {
	if e.peer != nil {
		e.peer.sent--
	}
	if e.peer = nb; nb != nil {
		nb.sent++
	}
}

// fire is the retransmission algorithm of RFC 2961 section 6.3, and for state
// that was acknowledged or given up the watch for a node that has no use for it
// any more.
func (e *sent) fire(l *Layer, now time.Time) {
	switch {
	case !e.flying():
		end := e.alive.Add(2 * e.r)
		if !end.After(now) {
			l.drop(e)
			return
		}
		l.timers.Set(&e.timer, end)
	case e.rk == 0: // a first transmission that was put off
		e.rk, e.sentAt, e.tries = l.first(e.nb), now, 1
		l.timers.Set(&e.timer, now.Add(e.rk))
		l.count.Retransmitted++
		l.resend(now, e, true)
	default:
		next := time.Duration(float64(e.rk) * (1 + l.cfg.Delta))
		if next > l.cfg.lastInterval()+time.Microsecond {
			l.giveUp(now, e)
			return
		}
		e.rk = next
		e.tries++
		l.timers.Set(&e.timer, now.Add(e.rk))
		l.count.Retransmitted++
		l.resend(now, e, true)
	}
}

// giveUp ends retransmission. A neighbour that has never shown that it takes
// MESSAGE_ID gets the message without it.
func (l *Layer) giveUp(now time.Time, e *sent) {
	l.count.GivenUp++
	e.given = true
	if !e.nb.capable && !e.nb.acks {
		if m, err := all.Parse(e.raw); err == nil {
			s := e.send
			s.Msg = m
			l.plain(now, e.nb, s)
		}
	}
	if e.once {
		l.drop(e)
		return
	}
	l.timers.Set(&e.timer, now.Add(2*e.r))
}
