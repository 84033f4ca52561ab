package config

import (
	"cmp"
	"net/netip"
	"slices"
)

// reach is the set of packets that a policy matches, in a form in which one
// set can be asked whether it covers another.
type reach struct {
	policy           *rawPolicy
	protocol         uint8
	from, to         [2][]netip.Prefix // IPv4, IPv6; empty: that version is not matched
	fromPort, toPort [][2]uint16       // merged and sorted
	spaces           [2]space          // the same by IP version, see together.go
}

// reachable reports a policy that never matches, because an earlier one takes
// everything it would, or several do. It returns the list with this policy added.
func (d *decoder) reachable(p *rawPolicy, out *Policy, earlier []reach) []reach {
	r := makeReach(p, &out.Match)
	for i := range earlier {
		if e := &earlier[i]; e.covers(&r) {
			d.errorf(p.at, "policy %s can never match: policy %s in line %d comes first and matches all of its traffic; put this one before it, or narrow that one",
				out.Name, e.policy.name.v, e.policy.at.line)
			return append(earlier, r)
		}
	}
	if by := r.together(earlier); len(by) > 0 {
		d.unreachable(p, out.Name, by)
	}
	return append(earlier, r)
}

func makeReach(p *rawPolicy, m *Match) reach {
	r := reach{policy: p, protocol: m.Protocol, fromPort: mergePorts(m.FromPort), toPort: mergePorts(m.ToPort)}
	from, to := byVersion(m.From), byVersion(m.To)
	for v := range from {
		if len(from[v]) > 0 && len(to[v]) > 0 {
			r.from[v], r.to[v] = from[v], to[v]
		}
		r.spaces[v] = r.space(v)
	}
	return r
}

func (r *reach) covers(q *reach) bool {
	if r.protocol != 0 && r.protocol != q.protocol ||
		!coversPorts(r.fromPort, q.fromPort) || !coversPorts(r.toPort, q.toPort) {
		return false
	}
	for v := range q.from {
		if !coversAll(r.from[v], q.from[v]) || !coversAll(r.to[v], q.to[v]) {
			return false
		}
	}
	return true
}

// byVersion splits a list of prefixes; no list is all addresses.
func byVersion(list []netip.Prefix) [2][]netip.Prefix {
	if len(list) == 0 {
		return [2][]netip.Prefix{
			{netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
			{netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
		}
	}
	var out [2][]netip.Prefix
	for _, p := range list {
		v := 0
		if p.Addr().Is6() {
			v = 1
		}
		out[v] = append(out[v], p)
	}
	for v := range out {
		out[v] = aggregate(out[v])
	}
	return out
}

// aggregate returns the fewest prefixes for the same addresses, sorted: what
// lies in another is dropped, and two halves become their whole.
func aggregate(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range list {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // sorted, so that the one before is the larger
		}
		out = append(out, p)
		for len(out) >= 2 {
			a, b := out[len(out)-2], out[len(out)-1]
			if a.Bits() != b.Bits() || a.Bits() == 0 {
				break
			}
			whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}

// coversAll reports whether every prefix of q is inside one of the aggregated
// list: an aggregated list holds a whole block as one prefix.
func coversAll(list, q []netip.Prefix) bool {
	for _, p := range q {
		i, found := slices.BinarySearchFunc(list, p, func(e, t netip.Prefix) int { return e.Addr().Compare(t.Addr()) })
		if !found {
			i--
		}
		if i < 0 || list[i].Bits() > p.Bits() || !list[i].Contains(p.Addr()) {
			return false
		}
	}
	return true
}

// mergePorts sorts ranges and joins those that touch; no list is all ports.
func mergePorts(list [][2]uint16) [][2]uint16 {
	if len(list) == 0 {
		return [][2]uint16{{0, 65535}}
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b [2]uint16) int { return cmp.Compare(a[0], b[0]) })
	out := sorted[:1]
	for _, r := range sorted[1:] {
		if last := &out[len(out)-1]; uint32(r[0]) <= uint32(last[1])+1 {
			last[1] = max(last[1], r[1])
		} else {
			out = append(out, r)
		}
	}
	return out
}

func coversPorts(list, q [][2]uint16) bool {
	for _, r := range q {
		if !slices.ContainsFunc(list, func(e [2]uint16) bool { return e[0] <= r[0] && r[1] <= e[1] }) {
			return false
		}
	}
	return true
}
