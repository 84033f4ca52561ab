package route

import (
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// maxEntries bounds the copy of the multicast forwarding cache, some 200 bytes
// each.
const maxEntries = 1 << 16

// Multicast is a copy of the kernel's multicast forwarding cache, of its default
// table. It is safe for concurrent use.
type Multicast struct {
	mu      sync.RWMutex
	entries map[flowOf]entry
	limited uint64
}

// flowOf is what the cache looks packets up by.
type flowOf struct{ group, source netip.Addr }

// inDefault says whether an entry is of the table that the kernel uses without
// rules for others: they have different numbers in the two families.
func (e *entry) inDefault() bool {
	if e.Group.Is4() {
		return e.Table == unix.RT_TABLE_DEFAULT
	}
	return e.Table == unix.RT_TABLE_MAIN // RT6_TABLE_DFLT
}

func newMulticast() *Multicast { return &Multicast{entries: map[flowOf]entry{}} }

// Limited counts the entries that found no room: their groups are not forwarded
// for all that is known here.
func (m *Multicast) Limited() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.limited
}

// Routes tells by which interfaces the kernel forwards packets from a source to
// a group that come in by an interface; 0: by the right one. None where the
// kernel has no entry, or a packet has come by another interface than it expects.
// The rules are those of ip_mr_forward in the kernel.
func (m *Multicast) Routes(group, source netip.Addr, in int) []Oif {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e, ok := m.entries[flowOf{group, source}]; ok {
		if e.In == 0 || in != 0 && in != e.In {
			return nil
		}
		return slices.Clone(e.Out)
	}
	none := netip.IPv4Unspecified()
	if !group.Is4() {
		none = netip.IPv6Unspecified()
	}
	shared, ok := m.entries[flowOf{group, none}]
	tree, static := m.entries[flowOf{none, none}] // what a static tree has for all groups
	switch {
	case ok && in == 0:
		return slices.Clone(shared.Out)
	case ok:
		within := static && tree.has(shared.In) && tree.has(in)
		if !shared.has(in) && !within || in != shared.In && !within {
			return nil
		}
		return shared.but(in)
	case static && in != 0 && in != tree.In && tree.has(in) && tree.has(tree.In):
		// For groups without an entry such a tree forwards towards its root alone.
		return []Oif{{Index: tree.In, Threshold: tree.threshold(tree.In)}}
	default:
		return nil
	}
}

func (e *entry) threshold(index int) uint8 {
	for _, o := range e.Out {
		if o.Index == index {
			return o.Threshold
		}
	}
	return noForward
}

// set notes an entry and says what has changed.
func (m *Multicast) set(e entry) (changed netip.Prefix, ok bool) {
	if !e.inDefault() {
		return netip.Prefix{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := flowOf{e.Group, e.Source}
	old, known := m.entries[k]
	switch {
	case known && same(old, e):
		return netip.Prefix{}, false
	case !known && len(m.entries) >= maxEntries:
		m.limited++
		return netip.Prefix{}, false
	}
	m.entries[k] = e
	return groups(e.Group), true
}

// remove forgets an entry.
func (m *Multicast) remove(e entry) (changed netip.Prefix, ok bool) {
	if !e.inDefault() {
		return netip.Prefix{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k := flowOf{e.Group, e.Source}
	if _, known := m.entries[k]; !known {
		return netip.Prefix{}, false
	}
	delete(m.entries, k)
	return groups(e.Group), true
}

// replace takes a whole new copy, and tells what is different.
func (m *Multicast) replace(list []entry) (changed []netip.Prefix) {
	fresh := make(map[flowOf]bool, len(list))
	for _, e := range list {
		fresh[flowOf{e.Group, e.Source}] = e.inDefault() || fresh[flowOf{e.Group, e.Source}]
	}
	m.mu.RLock()
	var gone []entry
	for k, e := range m.entries {
		if !fresh[k] {
			gone = append(gone, e)
		}
	}
	m.mu.RUnlock()
	for _, e := range gone {
		if p, ok := m.remove(e); ok {
			changed = add(changed, p)
		}
	}
	for _, e := range list {
		if p, ok := m.set(e); ok {
			changed = add(changed, p)
		}
	}
	return changed
}

func same(a, b entry) bool { return a.In == b.In && slices.Equal(a.Out, b.Out) }

// groups are the destinations that an entry is for.
func groups(group netip.Addr) netip.Prefix {
	switch {
	case !group.IsUnspecified():
		return netip.PrefixFrom(group, group.BitLen())
	case group.Is4():
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4)
	default:
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)
	}
}
