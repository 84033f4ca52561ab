package reliable

import (
	"math"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// targetKey is what the messages that one Srefresh may refresh have in common
// (RFC 2961 section 5.3).
type targetKey struct {
	out      softstate.IfIndex
	src, dst netip.Addr
	alert    bool // dst is a session's, not the neighbour's
}

// target is where Srefresh messages go.
type target struct {
	key   targetKey
	list  []*sent
	next  int // of the list, while a round is on
	least time.Duration
	timer timer
}

const (
	// burst is how many Srefresh messages leave at once, pause the time between
	// bursts: the receiver has to take in some 350 states from each.
	burst = 4
	pause = 10 * time.Millisecond
)

// summaryFor tells where e can be refreshed by a Srefresh. Path state of
// multicast sessions is refreshed by whole messages, and so is what crosses an
// aggregation region: another router may take it one day, and those inside must
// see nothing of it.
func (l *Layer) summaryFor(e *sent) (targetKey, bool) {
	if e.send.Hidden || !e.acked || e.once || !e.keyed || e.peer == nil || !e.peer.capable || e.send.Dst.IsMulticast() {
		return targetKey{}, false
	}
	k := targetKey{out: e.send.Out, src: l.addr(e.send.Out, e.peer.key.addr), dst: e.peer.key.addr}
	if e.key.kind == wire.Path && (!e.direct || e.nb != e.peer) {
		// Changes of the next hop would not be noticed: the primary method.
		k.dst, k.alert = e.send.Dst, true
	}
	return k, k.src.IsValid()
}

func (l *Layer) join(now time.Time, e *sent) {
	k, ok := l.summaryFor(e)
	if !ok || e.target != nil && e.target.key == k {
		return
	}
	l.leave(e)
	t := l.targets[k]
	if t == nil {
		t = &target{key: k}
		t.timer.Owner = t
		l.targets[k] = t
	}
	e.target, e.position = t, len(t.list)
	t.list = append(t.list, e)
	if !t.timer.Armed() || t.timer.At().After(now.Add(e.r*3/2)) {
		l.timers.Set(&t.timer, now.Add(softstate.Jitter(l.rng, e.r)))
	}
}

func (l *Layer) leave(e *sent) {
	t := e.target
	if t == nil {
		return
	}
	hole, last := e.position, len(t.list)-1
	fill := func(from int) {
		t.list[hole] = t.list[from]
		t.list[hole].position = hole
		hole = from
	}
	if hole < t.next { // a round is on: those before next have been told of, and no others
		t.next--
		fill(t.next)
	}
	fill(last)
	t.list[last] = nil
	t.list = t.list[:last]
	e.target = nil
	if last == 0 {
		l.timers.Stop(&t.timer)
		delete(l.targets, t.key)
	}
}

// fire sends a round of Srefresh messages, a burst at a time. All that one
// target has goes together, whenever the node itself would have refreshed it:
// never later than that.
func (t *target) fire(l *Layer, now time.Time) {
	if t.next == 0 {
		t.least = math.MaxInt64
	}
	size := wire.MaxListed(l.room(t.key.out, t.key.dst) - messageID)
	for range burst {
		ids := make([]wire.ListedID, 0, min(size, len(t.list)-t.next))
		var peer *neighbor
		for ; t.next < len(t.list) && len(ids) < size; t.next++ {
			e := t.list[t.next]
			t.least = min(t.least, e.r)
			if e.peer.capable && now.Sub(e.alive) <= e.r*3/2+time.Second {
				ids, peer = append(ids, wire.ListedID{ID: e.id}), e.peer
			}
		}
		if len(ids) > 0 {
			l.summary(now, t.key, peer, ids)
		}
		if t.next >= len(t.list) {
			t.next = 0
			l.timers.Set(&t.timer, now.Add(softstate.Jitter(l.rng, t.least)))
			return
		}
	}
	l.timers.Set(&t.timer, now.Add(pause))
}

// summary sends a Srefresh: with Router Alert to a session's address, without
// to a neighbour (RFC 2961 section 5.2). It stands for all that is reserved
// with that neighbour, so that a few that are lost in a row would end it all:
// it has a MESSAGE_ID of its own and is repeated until it is acknowledged.
func (l *Layer) summary(now time.Time, k targetKey, peer *neighbor, ids []wire.ListedID) {
	l.count.SummariesOut++
	l.count.SummarizedOut += uint64(len(ids))
	l.reliably(now, softstate.Send{
		Out: k.out, Src: k.src, Dst: k.dst, TTL: l.cfg.TTL, RouterAlert: k.alert,
		Msg: &wire.Message{
			Type: wire.Srefresh, Flags: wire.RefreshReduction, SendTTL: l.cfg.TTL,
			Lists: []wire.MessageIDList{{Epoch: l.epoch, IDs: ids}},
		},
	}, peer, !k.alert, nil)
}
