package reliable

import (
	"bytes"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// kept is a Path or Resv that came with a MESSAGE_ID: what an entry of a
// Srefresh stands for.
type kept struct {
	nb     *neighbor
	keys   []stateKey
	id     epochID
	raw    []byte
	packet Packet // without Payload
	life   time.Duration
	until  time.Time
	timer  timer
}

// keep remembers a Path or Resv. If there is no room its Srefresh will be
// answered by a NACK, and the neighbour sends it whole.
func (l *Layer) keep(now time.Time, nb *neighbor, p Packet, m *wire.Message, list []stateKey) {
	id := epochID{m.MessageID.Epoch, m.MessageID.ID}
	raw := wire.Bare(p.Payload, m.SendTTL)
	if r := nb.byID[id]; r != nil && sameKeys(r, list) {
		if !bytes.Equal(r.raw, raw) {
			r.raw = raw
		}
		r.packet = p
		r.packet.Payload = nil
		r.refreshed(l, now)
		return
	}
	l.forget(nb.byID[id])
	for _, k := range list {
		l.forget(nb.kept[k])
	}
	if len(list) == 0 {
		return
	}
	if !l.received.Take(int(nb.key.iface)) {
		l.count.LimitReceived++
		return
	}
	r := &kept{nb: nb, keys: list, id: id, raw: raw, packet: p}
	r.packet.Payload = nil
	r.life = softstate.Lifetime(softstate.Period(m.TimeValues, softstate.DefaultRefresh), l.cfg.K)
	r.timer.Owner = r
	nb.byID[id] = r
	for _, k := range list {
		nb.kept[k] = r
	}
	r.refreshed(l, now)
}

func sameKeys(r *kept, list []stateKey) bool {
	if len(r.keys) != len(list) {
		return false
	}
	for i := range list {
		if r.keys[i] != list[i] {
			return false
		}
	}
	return true
}

// refreshed extends the life of what is kept, as the machine does with the
// state. The timer finds out by itself.
func (r *kept) refreshed(l *Layer, now time.Time) {
	r.until = now.Add(r.life)
	if !r.timer.Armed() {
		l.timers.Set(&r.timer, r.until)
	}
}

func (r *kept) fire(l *Layer, now time.Time) {
	if r.until.After(now) {
		l.timers.Set(&r.timer, r.until)
		return
	}
	l.forget(r)
}

// forget removes what is kept; its Srefresh is answered by a NACK from now on.
func (l *Layer) forget(r *kept) {
	if r == nil {
		return
	}
	l.timers.Stop(&r.timer)
	delete(r.nb.byID, r.id)
	for _, k := range r.keys {
		if r.nb.kept[k] == r {
			delete(r.nb.kept, k)
		}
	}
	l.received.Give(int(r.nb.key.iface), 1)
}

// summarized takes a Srefresh: each identifier is as good as the message that
// brought it, or is answered by a NACK (RFC 2961 sections 5.3 and 5.4).
func (l *Layer) summarized(now time.Time, nb *neighbor, p Packet, m *wire.Message) {
	l.count.SummariesIn++
	for i := range m.Lists {
		list := &m.Lists[i]
		for _, e := range list.IDs {
			l.count.SummarizedIn++
			r := nb.byID[epochID{list.Epoch, e.ID}]
			if r == nil {
				group := e.Dst
				if list.Kind == wire.SourceList {
					group = p.Dst
				}
				if list.Kind == wire.IDList || l.env.Forwards(e.Src, group, p.Iface) {
					l.acknowledge(now, nb, p.Dst, wire.MessageIDAck{Epoch: list.Epoch, ID: e.ID, Nack: true})
				}
				continue
			}
			r.refreshed(l, now)
			l.redeliver(r)
		}
	}
}

// redeliver hands the machine the message that a summary stands for.
func (l *Layer) redeliver(r *kept) {
	m, err := all.Parse(r.raw)
	if err != nil {
		l.forget(r)
		return
	}
	m.MessageID, m.Acks = nil, nil
	p := r.packet
	l.in = append(l.in, softstate.Received{
		Iface: p.Iface, Src: p.Src, Dst: p.Dst, TTL: p.TTL, RouterAlert: p.RouterAlert, Hidden: p.Hidden, Msg: m,
	})
}
