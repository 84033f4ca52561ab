package reliable

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func (l *Layer) receive(now time.Time, p Packet) {
	if !wire.IsBundle(p.Payload) {
		l.message(now, p, nil)
		return
	}
	h, subs, err := wire.SplitBundle(p.Payload)
	if err != nil {
		l.deliver(p, nil, err)
		return
	}
	l.count.BundlesIn++
	l.hears(now, neighborKey{p.Iface, p.Src}, h.Flags)
	for _, sub := range subs {
		l.count.BundledIn++
		p.Payload = sub
		l.message(now, p, &h)
	}
}

// message takes one message in; bundle is the header of that it came in.
func (l *Layer) message(now time.Time, p Packet, bundle *wire.Message) {
	m, err := l.cfg.Parse(p)
	if m != nil && bundle != nil {
		m.SendTTL = bundle.SendTTL // RFC 2961 section 3.4
	}
	if err != nil { // never acknowledged (RFC 2961 section 4.5)
		l.deliver(p, m, err)
		return
	}
	var nb *neighbor
	if m.Type != wire.ResvConf { // its IP source may be far away
		nb = l.hears(now, neighborKey{p.Iface, generator(m, p)}, m.Flags)
	}
	l.takeAcks(now, nb, m)
	if l.refusal(now, nb, m) {
		return
	}
	switch {
	case m.Type == wire.Ack:
		return
	case m.Type == wire.Srefresh:
		if nb != nil {
			l.follow(now, nb, m)
			l.summarized(now, nb, p, m)
			l.acknowledgeIf(now, nb, p, m)
		} else {
			l.stranger(now, p, m)
		}
		return
	case nb == nil:
	case m.MessageID == nil:
		for _, k := range stateOf(m) {
			l.forget(nb.kept[k]) // no identifier stands for it any more
		}
	case !l.inOrder(now, nb, p, m):
		return
	}
	if m.Type == wire.PathTear {
		l.pathEnds(p, m)
	}
	m.MessageID, m.Acks = nil, nil
	l.deliver(p, m, nil)
}

// pathEnds: with a sender's path ends what is reserved for it, at the neighbour too
// and without a ResvTear (RFC 2205 section 3.1.5), which a Srefresh must not bring
// back. Where the machine has more to say to that neighbour, it goes whole first.
func (l *Layer) pathEnds(p Packet, m *wire.Message) {
	if m.SenderTemplate == nil {
		return
	}
	for _, f := range []wire.Filter{*m.SenderTemplate, {}} { // a RESV of its own, or a shared one
		k := stateKey{kind: wire.Resv, session: m.Session.Key(), filter: f}
		if e := l.states[sentKey(k, p.Iface, generator(m, p))]; e != nil {
			l.leave(e)
		}
	}
}

func (l *Layer) deliver(p Packet, m *wire.Message, err error) {
	l.in = append(l.in, softstate.Received{
		Iface: p.Iface, Src: p.Src, Dst: p.Dst, TTL: p.TTL, RouterAlert: p.RouterAlert, Hidden: p.Hidden, Msg: m, Err: err,
	})
}

func (l *Layer) acknowledgeIf(now time.Time, nb *neighbor, p Packet, m *wire.Message) {
	if id := m.MessageID; id != nil && id.AckDesired {
		l.acknowledge(now, nb, p.Dst, wire.MessageIDAck{Epoch: id.Epoch, ID: id.ID})
	}
}

// stateOf is what a message installs, changes or removes at its receiver.
// Errors travel the other way.
func stateOf(m *wire.Message) []stateKey {
	if m.Type == wire.PathErr || m.Type == wire.ResvErr {
		return nil
	}
	return keys(m)
}

// inOrder is the ordering of RFC 2961 section 4.5. It says whether m is to be
// handed on, and sees to its acknowledgment.
func (l *Layer) inOrder(now time.Time, nb *neighbor, p Packet, m *wire.Message) bool {
	id := *m.MessageID
	l.epochOf(now, nb, id.Epoch)
	list := stateOf(m)
	for _, k := range list {
		if r := nb.kept[k]; r != nil && r.id.epoch == id.Epoch && id.Before(wire.MessageID{ID: r.id.id}) {
			l.count.OutOfOrder++
			return false
		}
	}
	l.acknowledgeIf(now, nb, p, m)
	switch {
	case m.Type == wire.Path || m.Type == wire.Resv:
		l.keep(now, nb, p, m, list)
		return true
	case nb.copyOf(epochID{id.Epoch, id.ID}):
		l.count.Duplicates++
		return false
	}
	for _, k := range list {
		l.forget(nb.kept[k])
	}
	return true
}

// epochOf notes a neighbour's epoch: another one is a restart.
func (l *Layer) epochOf(now time.Time, nb *neighbor, epoch uint32) {
	if nb.epochSeen && nb.epoch != epoch {
		l.count.Restarts++
		l.restarted(now, nb)
	}
	nb.epoch, nb.epochSeen = epoch, true
}

// follow takes the epoch from a Srefresh, which may be the first that is heard
// of a neighbour since it has started.
func (l *Layer) follow(now time.Time, nb *neighbor, m *wire.Message) {
	switch {
	case m.MessageID != nil:
		l.epochOf(now, nb, m.MessageID.Epoch)
	case len(m.Lists) > 0:
		l.epochOf(now, nb, m.Lists[0].Epoch)
	}
}

// restarted: a neighbour that comes with another epoch has lost what we told
// it. It gets it again, spread over a second, instead of a Srefresh that it
// could not understand.
func (l *Layer) restarted(now time.Time, nb *neighbor) {
	if now.Sub(nb.restarted) < time.Second && !nb.restarted.IsZero() {
		return
	}
	nb.restarted = now
	for _, e := range l.states {
		if e.peer == nb && e.acked && !e.once {
			l.again(e)
			l.timers.Set(&e.timer, now.Add(time.Duration(l.rng.Int64N(int64(time.Second)))))
		}
	}
}

// again marks e as not told yet.
func (l *Layer) again(e *sent) {
	l.leave(e)
	e.acked, e.given, e.rk = false, false, 0
}
