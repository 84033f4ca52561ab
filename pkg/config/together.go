package config

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
)

// This file finds a policy that never matches because several earlier ones
// together take all that it would. One that takes all alone is found by covers.

// maxSteps bounds the search for one policy, and maxOverlaps how many earlier ones
// it looks at. Beyond that nothing is said: the check is a help, and not a rule.
const (
	maxSteps    = 2000
	maxOverlaps = 64
)

// span is a range with both ends in it.
type span[T any] struct{ first, last T }

// line is an ordered set of values that have neighbours.
type line[T any] struct {
	compare    func(a, b T) int
	next, prev func(T) T
}

var (
	numbers   = line[uint32]{cmp.Compare[uint32], func(v uint32) uint32 { return v + 1 }, func(v uint32) uint32 { return v - 1 }}
	addresses = line[netip.Addr]{netip.Addr.Compare, netip.Addr.Next, netip.Addr.Prev}
)

// split returns what of some spans is in others, and what is not. Both lists are
// sorted and their spans are apart.
func (l line[T]) split(list, by []span[T]) (in, out []span[T]) {
	for _, s := range list {
		rest, left := s, true
		for _, b := range by {
			if !left || l.compare(b.last, rest.first) < 0 {
				continue
			}
			if l.compare(b.first, rest.last) > 0 {
				break
			}
			if l.compare(b.first, rest.first) > 0 {
				out = append(out, span[T]{rest.first, l.prev(b.first)})
				rest.first = b.first
			}
			if l.compare(b.last, rest.last) >= 0 {
				in, left = append(in, rest), false
				continue
			}
			in = append(in, span[T]{rest.first, b.last})
			rest.first = l.next(b.last)
		}
		if left {
			out = append(out, rest)
		}
	}
	return in, out
}

// overlap tells whether two lists have anything in common.
func (l line[T]) overlap(a, b []span[T]) bool {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case l.compare(a[i].last, b[j].first) < 0:
			i++
		case l.compare(b[j].last, a[i].first) < 0:
			j++
		default:
			return true
		}
	}
	return false
}

// space is the packets of one IP version that a policy matches: all that have
// each of these in the spans.
type space struct {
	from, to               []span[netip.Addr]
	protocol, source, dest []span[uint32]
}

func (r *reach) space(version int) space {
	s := space{source: portSpans(r.fromPort), dest: portSpans(r.toPort), from: addrSpans(r.from[version]), to: addrSpans(r.to[version])}
	s.protocol = []span[uint32]{{uint32(r.protocol), uint32(r.protocol)}}
	if r.protocol == 0 {
		s.protocol = []span[uint32]{{0, 255}}
	}
	return s
}

func portSpans(list [][2]uint16) (out []span[uint32]) {
	for _, p := range list {
		out = append(out, span[uint32]{uint32(p[0]), uint32(p[1])})
	}
	return out
}

func addrSpans(list []netip.Prefix) (out []span[netip.Addr]) {
	for _, p := range list {
		last := p.Addr().AsSlice()
		for i := range last {
			if n := p.Bits() - 8*i; n < 8 {
				last[i] |= 0xff >> max(n, 0)
			}
		}
		end, _ := netip.AddrFromSlice(last)
		out = append(out, span[netip.Addr]{p.Addr(), end})
	}
	return out
}

// touches tells whether two spaces have anything in common.
func (s *space) touches(o *space) bool {
	return numbers.overlap(s.protocol, o.protocol) && numbers.overlap(s.source, o.source) && numbers.overlap(s.dest, o.dest) &&
		addresses.overlap(s.from, o.from) && addresses.overlap(s.to, o.to)
}

// without returns what of s is not in o, which it touches, in spaces that are
// apart.
func (s *space) without(o *space) (rest []space) {
	in := *s
	add := func(p space, n int) {
		if n > 0 {
			rest = append(rest, p)
		}
	}
	var p space
	p = in
	in.protocol, p.protocol = numbers.split(in.protocol, o.protocol)
	add(p, len(p.protocol))
	p = in
	in.source, p.source = numbers.split(in.source, o.source)
	add(p, len(p.source))
	p = in
	in.dest, p.dest = numbers.split(in.dest, o.dest)
	add(p, len(p.dest))
	p = in
	in.from, p.from = addresses.split(in.from, o.from)
	add(p, len(p.from))
	p = in
	in.to, p.to = addresses.split(in.to, o.to)
	add(p, len(p.to))
	return rest
}

// coveredBy tells whether all of s is in some of the others. False as well when
// that takes too many steps.
func (s *space) coveredBy(others []*space, steps *int) bool {
	for i, o := range others {
		if *steps--; *steps < 0 {
			return false
		}
		if !s.touches(o) {
			continue
		}
		rest := s.without(o)
		for j := range rest {
			if !rest[j].coveredBy(others[i+1:], steps) {
				return false
			}
		}
		return true
	}
	return false
}

// touches tells whether some packet is in both.
func (r *reach) touches(o *reach) bool {
	return r.spaces[0].touches(&o.spaces[0]) || r.spaces[1].touches(&o.spaces[1])
}

// together lists the earlier policies that take all of r together, none of which
// could be left out; nothing: they do not, or nobody knows.
func (r *reach) together(earlier []reach) []*reach {
	var list []*reach
	for i := range earlier {
		if r.touches(&earlier[i]) {
			list = append(list, &earlier[i])
		}
		if len(list) > maxOverlaps {
			return nil
		}
	}
	if len(list) < 2 || !r.coveredByAll(list) {
		return nil
	}
	for i := 0; i < len(list); {
		but := append(append([]*reach(nil), list[:i]...), list[i+1:]...)
		if r.coveredByAll(but) {
			list = but
		} else {
			i++
		}
	}
	return list
}

func (r *reach) coveredByAll(list []*reach) bool {
	for v := range r.from {
		if len(r.from[v]) == 0 {
			continue
		}
		others := make([]*space, len(list))
		for i, o := range list {
			others[i] = &o.spaces[v]
		}
		steps := maxSteps
		if !r.spaces[v].coveredBy(others, &steps) {
			return false
		}
	}
	return true
}

// unreachable reports a policy that several others take everything from.
func (d *decoder) unreachable(p *rawPolicy, name string, by []*reach) {
	words := make([]string, len(by))
	for i, e := range by {
		words[i] = e.policy.name.v + " (line " + strconv.Itoa(e.policy.at.line) + ")"
	}
	d.errorf(p.at, "policy %s can never match: policies %s come first and match all of its traffic together; put this one before them, or narrow one of them",
		name, strings.Join(words, ", "))
}
