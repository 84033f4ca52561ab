package daemon

import (
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

// This file is about flows to multicast groups. One may leave by several
// interfaces, and each of these branches has its own first packet, counters and
// reservation: in the flow table it is a connection of its own.

// toGroup says whether a flow is to a multicast group, in either direction of
// its key.
func toGroup(key packet.FlowKey) bool { return groupAddr(key.Dst) || groupAddr(key.Src) }

func groupAddr(a [16]byte) bool {
	if a[10] == 0xff && a[11] == 0xff && a[0] == 0 { // IPv4
		return a[12]>>4 == 14
	}
	return a[0] == 0xff
}

// connKey is what the table finds a connection by: its canonical key, and for a
// flow to a group the interface that its packets leave by.
type connKey struct {
	packet.FlowKey
	out int
}

func keyOf(key packet.FlowKey, out int) connKey {
	canon, _ := key.Canonical()
	if !toGroup(key) {
		out = 0
	}
	return connKey{canon, out}
}

// all lists what is known of a flow: one connection, or the branches of a flow to
// a group.
func (t *flowTable) all(key packet.FlowKey) []*conn {
	k := keyOf(key, 0)
	if toGroup(key) {
		return t.branches[k.FlowKey]
	}
	if c := t.conns[k]; c != nil {
		return []*conn{c}
	}
	return nil
}

// drop takes a connection out of the table.
func (t *flowTable) drop(c *conn) {
	k := keyOf(c.dirs[0].key, c.dirs[0].out)
	delete(t.conns, k)
	if !toGroup(k.FlowKey) {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(t.branches[k.FlowKey]), func(o *conn) bool { return o == c })
	if t.branches[k.FlowKey] = rest; len(rest) == 0 {
		delete(t.branches, k.FlowKey)
	}
}

// updateOn is update for the branch that leaves by one interface; of a flow that
// is not to a group it is the same.
func (t *flowTable) updateOn(key packet.FlowKey, out int, change func(*conn, *flow)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[keyOf(key, out)]
	if c == nil || !c.dir(key).present {
		return false
	}
	change(c, c.dir(key))
	return true
}

// getOn is get for one branch.
func (t *flowTable) getOn(key packet.FlowKey, out int) (f flow, shard int, ok bool) {
	ok = t.updateOn(key, out, func(c *conn, g *flow) { f, shard = *g, c.engine(key) })
	return f, shard, ok
}

// sender returns a copy of a flow whose sender is spoken for: of a flow to a group
// that may be so on some branches only.
func (t *flowTable) sender(key packet.FlowKey) (f flow, ok bool) {
	t.update(key, func(_ *conn, g *flow) {
		if g.role == roleSender {
			f, ok = *g, true
		}
	})
	return f, ok
}

// unwanted lists the branches of a flow that nothing keeps in the table, by the
// interfaces that they leave by.
func (t *flowTable) unwanted(key packet.FlowKey) (outs []int) {
	t.update(key, func(c *conn, f *flow) {
		if c.unwanted() {
			outs = append(outs, f.out)
		}
	})
	return outs
}

// removeOn forgets one branch and returns what it was.
func (t *flowTable) removeOn(key packet.FlowKey, out int) (was conn, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[keyOf(key, out)]
	if c == nil {
		return conn{}, false
	}
	t.drop(c)
	return *c, true
}

// toGroups lists the flows to any of these groups.
func (t *flowTable) toGroups(groups []netip.Prefix) (keys []packet.FlowKey) {
	if len(groups) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.branches {
		key := list[0].dirs[0].key
		if slices.ContainsFunc(groups, func(p netip.Prefix) bool { return p.Contains(key.DstAddr()) }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// lastBranch says whether nothing else is known of a flow.
func (t *flowTable) lastBranch(key packet.FlowKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all(key)) <= 1
}

// place is where traffic control finds a flow's reservation. A flow has one,
// wherever it leaves, but to a group one for each branch.
func place(iface string, key packet.FlowKey) shaper.FlowID {
	if !toGroup(key) {
		iface = ""
	}
	return shaper.FlowID{Interface: iface, Key: key}
}

// of lists the reservations of a flow. t.mu is held.
func (t *trafficControl) of(key packet.FlowKey) (list []*reservation) {
	if !toGroup(key) {
		if r := t.byKey[place("", key)]; r != nil {
			list = append(list, r)
		}
		return list
	}
	for _, l := range t.links().list {
		if r := t.byKey[place(l.Name, key)]; r != nil {
			list = append(list, r)
		}
	}
	return list
}

// index of an interface; 0 if it is not in the configuration.
func (l *links) index(name string) int {
	if k := l.named(name); k != nil {
		return k.Index
	}
	return 0
}
