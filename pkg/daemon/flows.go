package daemon

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// flowTable knows what becomes of each flow that a policy claims, and why. It
// decides and remembers; it does no IO, so that its rules can be tested
// without a kernel. Safe for concurrent use.
type flowTable struct {
	mu       sync.Mutex
	conns    map[connKey]*conn
	branches map[packet.FlowKey][]*conn // of flows to groups, by canonical key
	lastID   uint64
	limit    int
	full     uint64 // packets of flows that found no room

	frames   frames // what a bridge knows of them; set before the first packet comes
	file     string // of the configuration, for reasons
	policies *policies
	hand     *handTable          // comes before the policies
	zones    map[int]config.Zone // by interface index
	shards   int
	crowded  func(shard int) bool // that cheat queue takes no new connections
	draining bool                 // nothing new is cheated
	matched  map[string]uint64    // flows by policy; names are the configuration's, so it is bounded
}

func newFlowTable(limit, shards int) *flowTable {
	return &flowTable{conns: make(map[connKey]*conn), branches: map[packet.FlowKey][]*conn{}, limit: limit, shards: shards, policies: newPolicies(&config.Config{}), hand: newHandTable(), matched: map[string]uint64{}, crowded: func(int) bool { return false }}
}

// configure swaps in a generation of policies. Flows keep the decision that
// was made for them until they are asked about again (see reload.go).
func (t *flowTable) configure(file string, p *policies, zones map[int]config.Zone) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file, t.policies, t.zones = file, p, zones
}

// decision is what the worker of first packets has to do.
type decision struct {
	known  bool             // the flow was in the table: it is only settled again
	ended  bool             // its last packet: to be forgotten
	settle []packet.FlowKey // to be queued no more, until the set's timeout
	by     *policies        // that decided it
	// stranger: the flow is not in the table, which has no use or no room for it.
	stranger bool
	watch    packet.FlowKey // the direction of data that shall be cheated
	plain    bool           // or rather touched without taking a byte in hand
	fill     bool           // and its holes may have to be filled
	shard    int            // cheat queue for the connection; -1: none
	count    []flow         // install counters, or the static treatment
	ask      []flow         // ask RSVP for a reservation
	looked   bool           // whether packets of our own can be sent to its ends
	cannot   error          // why not
}

// first decides about a flow whose packet was queued because a policy might
// claim it.
func (t *flowTable) first(now time.Time, v packet.View, in, out int) decision {
	key := v.Key()
	d := decision{shard: -1, settle: []packet.FlowKey{key}, stranger: true}
	t.lookAhead(v, &d)
	t.mu.Lock()
	defer t.mu.Unlock()
	d.by = t.policies
	if v.IsTCP() && !straggler(v) {
		d.settle = bothWays(key)
	}
	c := t.conns[keyOf(key, out)]
	if c == nil {
		if straggler(v) {
			return d
		}
		if len(t.conns) >= t.limit {
			t.full++
			return d
		}
		if c = t.add(now, key, in, out, v.IsTCP()); c == nil {
			return d
		}
		if v.IsTCP() {
			t.decideTCP(c, v, &d)
		} else {
			c.dir(key).ttl = v.TTL()
			d.add(c.dir(key))
		}
	} else if f := c.dir(key); !f.present {
		// The first packet in the other direction of something that is not TCP.
		t.claim(now, f, in, out)
		d.add(f)
	} else {
		d.known = true
		if why := t.elsewhere(f, in, out); why != "" && v.IsTCP() && c.shard < 0 {
			c.avoid(why)
		} else {
			t.again(c, f, v, &d)
		}
		if f.ttl == 0 && f.role == roleSender && toGroup(key) {
			// It was spoken for before there was a packet: PATH has its scope now.
			f.ttl = v.TTL()
			d.ask = append(d.ask, *f)
		}
	}
	c.seen = now
	d.shard, d.stranger = c.shard, false
	return d
}

// lookAhead asks what a bridge knows of a connection's frames, which takes several
// system calls: nobody shall wait for the table meanwhile. It does so where a policy may
// have the connection engaged.
func (t *flowTable) lookAhead(v packet.View, d *decision) {
	key := v.Key()
	if t.frames.learned == nil || !v.IsTCP() || straggler(v) || !engages(t.policyOf(key)) && !engages(t.policyOf(key.Reverse())) {
		return
	}
	d.looked, d.cannot = true, t.frames.servable(key)
}

// cannot tells why packets of our own could not be sent to a connection's ends. It looks
// itself where the policies have changed since it was looked ahead.
func (t *flowTable) cannot(key packet.FlowKey, d *decision) error {
	if !d.looked {
		d.looked, d.cannot = true, t.frames.servable(key)
	}
	return d.cannot
}

// again looks at a packet of a connection that is known and not cheated: its
// ports may be used anew, or it may end.
func (t *flowTable) again(c *conn, f *flow, v packet.View, d *decision) {
	if !v.IsTCP() || c.shard >= 0 {
		return
	}
	switch flags := v.TCP().Flags(); {
	case flags&(packet.FlagSYN|packet.FlagACK) == packet.FlagSYN:
		for i := range c.dirs {
			c.dirs[i].fin, c.dirs[i].caveat, c.dirs[i].last = false, "", nil
		}
		t.choose(c, true, d)
	case flags&packet.FlagRST != 0:
		d.ended = true
	case flags&packet.FlagFIN != 0:
		f.fin = true
		d.ended = c.dirs[0].fin && c.dirs[1].fin
	}
}

// straggler tells whether a packet of an unknown connection is not worth a
// reservation: the last words of one that has ended, or a bare ACK, whose
// connection shows itself by its data.
func straggler(v packet.View) bool {
	if !v.IsTCP() {
		return false
	}
	f := v.TCP().Flags()
	return f&(packet.FlagFIN|packet.FlagRST) != 0 || f&packet.FlagSYN == 0 && len(v.TCPPayload()) == 0
}

func bothWays(key packet.FlowKey) []packet.FlowKey { return []packet.FlowKey{key, key.Reverse()} }

// add makes the table's entry; nil if no policy claims either direction.
func (t *flowTable) add(now time.Time, key packet.FlowKey, in, out int, tcp bool) *conn {
	c := &conn{shard: -1, seen: now}
	c.dirs[0].key, c.dirs[1].key = key, key.Reverse()
	t.claim(now, &c.dirs[0], in, out)
	claimed := c.dirs[0].policy != nil
	if tcp {
		t.claim(now, &c.dirs[1], out, in)
		claimed = claimed || c.dirs[1].policy != nil
	}
	if !claimed {
		return nil
	}
	t.insert(c)
	return c
}

func (t *flowTable) insert(c *conn) {
	t.lastID++
	c.id = t.lastID
	k := keyOf(c.dirs[0].key, c.dirs[0].out)
	t.conns[k] = c
	if toGroup(k.FlowKey) {
		t.branches[k.FlowKey] = append(slices.Clip(t.branches[k.FlowKey]), c)
	}
}

// decideTCP chooses the direction to cheat, if one shall be, and collects what
// has to be done for both.
func (t *flowTable) decideTCP(c *conn, v packet.View, d *decision) {
	t.choose(c, v.TCP().Flags()&(packet.FlagSYN|packet.FlagACK) == packet.FlagSYN, d)
	for i := range c.dirs {
		d.add(&c.dirs[i])
	}
}

// choose finds the direction to cheat, or else one whose ACKs or holes are to
// be seen to, and the queue for it. The engine knows one direction of a
// connection's data.
func (t *flowTable) choose(c *conn, syn bool, d *decision) {
	for i := range c.dirs {
		if f := &c.dirs[i]; f.speaks() {
			t.engage(c, f, syn, d)
		}
	}
	for i := range c.dirs {
		if f := &c.dirs[i]; f.touches() {
			t.engage(c, f, true, d)
		}
	}
}

func (t *flowTable) engage(c *conn, f *flow, syn bool, d *decision) {
	switch {
	case t.draining:
		f.caveat = "; not cheated: the box is stopping"
	case !syn:
		f.caveat = "; not cheated: its handshake was not seen"
	case c.shard >= 0:
		f.caveat = "; not cheated: the other direction of this connection is"
	case t.cannot(f.key, d) != nil:
		f.caveat = "; not cheated: " + d.cannot.Error()
	case t.crowded(t.shard(f.key)):
		f.caveat = "; not cheated: " + tcpcheat.ErrOverload.Error()
	default:
		c.shard, c.data = t.shard(f.key), f.key
		d.watch, d.plain = f.key, !f.speaks()
		d.fill = f.policy.Fill && (d.plain || f.policy.TCP != config.TCPReliable)
	}
}

// shard is the cheat queue for a direction of data.
func (t *flowTable) shard(key packet.FlowKey) int { return int(key.Hash() % uint32(t.shards)) }

func (d *decision) add(f *flow) {
	d.count = append(d.count, *f)
	if f.role == roleSender {
		d.ask = append(d.ask, *f)
	}
}

// claim fills in what the policies say of one direction.
func (t *flowTable) claim(now time.Time, f *flow, in, out int) {
	*f = flow{key: f.key, present: true, in: in, out: out, state: stateLeftAlone, asked: now}
	f.astray = !t.home(in, out)
	p := t.match(t.policies, f.key)
	if p == nil {
		f.reason = "no policy is for this direction"
		return
	}
	f.policy = p
	if !isByHand(p) {
		t.matched[p.Name]++
	}
	if p.Reserve == nil {
		t.markOnly(f)
		return
	}
	src, dst := t.zones[in], t.zones[out]
	switch {
	case f.astray:
		f.reason = "it enters or leaves by an interface that the configuration does not have"
	case src == dst && src == config.ZoneHosts:
		f.reason = "both ends are on the hosts' side: nothing to reserve"
	case src == dst:
		f.reason = "neither end is on the hosts' side: its own edge speaks for it"
	case src == config.ZoneHosts && p.Reserve.HasSender():
		f.role, f.state, f.reason = roleSender, stateWatched, "PATH is sent, waiting for RESV ("+where(t.file, p)+")"
	case dst == config.ZoneHosts && p.Reserve.HasReceiver():
		f.role, f.state, f.reason = roleReceiver, stateWatched, "waiting for PATH from the sender's side ("+where(t.file, p)+")"
	default:
		f.reason = fmt.Sprintf("%s speaks only for the %s", where(t.file, p), p.Reserve.Role)
	}
}

// markOnly is what a policy without a reservation makes of a flow.
func (t *flowTable) markOnly(f *flow) {
	f.state, f.dscp, f.marked = stateManaged, f.policy.DSCP, f.policy.Marked
	f.reason = "marked as " + where(t.file, f.policy) + " says"
	if f.policy.Police != nil {
		f.reason = "policed as " + where(t.file, f.policy) + " says"
	}
}

// unreserve follows the end of a flow's reservation: what its policy says without
// one is left. look sees it then; false if the flow is not known.
func (t *flowTable) unreserve(key packet.FlowKey, out int, why string, look func(*conn, *flow)) bool {
	return t.updateOn(key, out, func(c *conn, f *flow) {
		f.reserved, f.class, f.marked, f.dscp, f.rate = time.Time{}, 0, false, 0, 0
		f.state, f.reason = stateWatched, why
		if f.policy != nil && f.policy.Reserve == nil {
			t.markOnly(f)
		}
		look(c, f)
	})
}

// update changes a flow, in all its branches, under the table's lock; false if it
// is not known.
func (t *flowTable) update(key packet.FlowKey, change func(*conn, *flow)) (known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.all(key) {
		if f := c.dir(key); f.present {
			change(c, f)
			known = true
		}
	}
	return known
}

// get returns a copy of a flow and the cheat queue whose engine is for its data.
func (t *flowTable) get(key packet.FlowKey) (f flow, shard int, ok bool) {
	ok = t.update(key, func(c *conn, g *flow) { f, shard = *g, c.engine(key) })
	return f, shard, ok
}

// updateAll calls change for every connection under the table's lock.
func (t *flowTable) updateAll(change func(*conn)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		change(c)
	}
}

// remove forgets a connection, or all branches of a flow to a group, and returns
// what it was.
func (t *flowTable) remove(key packet.FlowKey) (was []conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range slices.Clone(t.all(key)) {
		t.drop(c)
		was = append(was, *c)
	}
	return was
}

// each calls visit with copies of all connections, outside the lock.
func (t *flowTable) each(visit func(conn)) {
	t.mu.Lock()
	all := make([]conn, 0, len(t.conns))
	for _, c := range t.conns {
		all = append(all, *c)
	}
	t.mu.Unlock()
	for i := range all {
		visit(all[i])
	}
}

// matches returns how many flows each policy has claimed.
func (t *flowTable) matches() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.matched)
}

// size returns how many connections are known, and how many packets found the
// table full.
func (t *flowTable) size() (conns int, full uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns), t.full
}

// policyOf finds the policy for data in the direction of key; nil if none.
func (t *flowTable) policyOf(key packet.FlowKey) *config.Policy {
	return t.match(t.current(), key)
}

// match finds what a flow's reservation by hand says, or else a policy; nil if
// there is neither.
func (t *flowTable) match(p *policies, key packet.FlowKey) *config.Policy {
	if h := t.hand.policy(key); h != nil {
		return h
	}
	return p.match(key)
}

// moved is what becomes of a flow whose policy is another one now.
type moved uint8

const (
	movedNot    moved = iota // it is not known, or its policy is the same
	movedInside              // its row says what the new policy wants
	movedOff                 // nobody wants to know of it any more
	movedAnew                // it has to be decided anew
)

// repolicy looks whether another policy claims a flow now. A flow that is not
// cheated, by neither of them, keeps its row.
func (t *flowTable) repolicy(key packet.FlowKey) moved {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := movedNot
	for _, c := range t.all(key) {
		out = max(out, t.repolicyOne(c, key))
	}
	return out
}

func (t *flowTable) repolicyOne(c *conn, key packet.FlowKey) moved {
	if !c.dir(key).present {
		return movedNot
	}
	f := c.dir(key)
	next := t.match(t.policies, key)
	switch {
	case f.policy == next:
		return movedNot
	case c.shard >= 0 || engages(f.policy) || engages(next):
		return movedAnew
	}
	t.reclaim(f)
	if c.unwanted() {
		return movedOff
	}
	return movedInside
}

// reclaim has the policies of now claim a direction, and keeps what is in place for it.
func (t *flowTable) reclaim(f *flow) {
	was := *f
	t.claim(was.asked, f, was.in, was.out)
	f.treated, f.counts, f.fin, f.ttl = was.treated, was.counts, was.fin, was.ttl
	f.class, f.dscp, f.marked, f.rate, f.reserved = was.class, was.dscp, was.marked, was.rate, was.reserved
	if !f.reserved.IsZero() {
		f.state, f.reason = was.state, was.reason
	}
}

// unwanted says whether nothing keeps a connection in the table.
func (c *conn) unwanted() bool {
	return !c.claimed() && c.dirs[0].reserved.IsZero() && c.dirs[1].reserved.IsZero()
}

// claimed says whether a policy or a reservation by hand has one of the
// directions.
func (c *conn) claimed() bool { return c.dirs[0].policy != nil || c.dirs[1].policy != nil }

// ensure makes an entry for a flow that RSVP knows before a packet was queued,
// so that it is shown and counted. It does nothing where the table is full.
func (t *flowTable) ensure(now time.Time, key packet.FlowKey, in, out int, p *config.Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[keyOf(key, out)]
	if c == nil && len(t.conns) < t.limit {
		if c = t.add(now, key, in, out, key.Proto == packet.ProtoTCP); c == nil {
			c = &conn{shard: -1, seen: now}
			c.dirs[0] = flow{key: key, present: true, policy: p, in: in, out: out, state: stateWatched, asked: now}
			c.dirs[1].key = key.Reverse()
			t.insert(c)
		}
	}
	if c != nil && !c.dir(key).present {
		t.claim(now, c.dir(key), in, out)
	}
}

// drain has nothing new cheated from now on.
func (t *flowTable) drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}
