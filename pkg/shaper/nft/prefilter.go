package nft

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// span is a range of addresses or ports, both ends included, big endian.
type span struct{ from, to []byte }

// prefilterRules gives the matches of one prefilter in one family: a rule for
// each protocol and direction that it asks for.
func (b *builder) prefilterRules(f plan.Prefilter) error {
	directions := []plan.Prefilter{f}
	if f.BothWays {
		directions = append(directions, f.Reversed())
	}
	protos := []uint8{f.Proto}
	if f.Proto == 0 && f.HasPorts() {
		protos = []uint8{packet.ProtoTCP, packet.ProtoUDP} // what has ports
	}
	for _, d := range directions {
		for _, proto := range protos {
			match, possible, err := b.match(d, proto)
			if err != nil {
				return err
			}
			if possible {
				b.rule(b.policy, "first", match, b.queueTo(b.want.First))
			}
		}
	}
	return nil
}

// match is the matching part of a rule; false if no packet of this family can
// match.
func (b *builder) match(f plan.Prefilter, proto uint8) (e []expr.Any, possible bool, err error) {
	if proto != 0 {
		e = matchProto(expr.CmpOpEq, proto)
	}
	for _, part := range []struct {
		list int
		span []span
		load expr.Any
		typ  nftables.SetDatatype
	}{
		{len(f.From), b.addrSpans(f.From), b.lay.loadAddr(reg0, false), b.lay.addrType},
		{len(f.To), b.addrSpans(f.To), b.lay.loadAddr(reg0, true), b.lay.addrType},
		{len(f.FromPorts), portSpans(f.FromPorts), loadPort(reg0, false), nftables.TypeInetService},
		{len(f.ToPorts), portSpans(f.ToPorts), loadPort(reg0, true), nftables.TypeInetService},
	} {
		if part.list == 0 {
			continue
		}
		if len(part.span) == 0 {
			return nil, false, nil // addresses of the other family only
		}
		in, err := b.matchSpans(part.span, part.typ)
		if err != nil {
			return nil, false, err
		}
		e = append(append(e, part.load), in)
	}
	return e, true, nil
}

// matchSpans compares the register that was loaded: one span by a range, more
// by an interval set of their own.
func (b *builder) matchSpans(spans []span, typ nftables.SetDatatype) (expr.Any, error) {
	if len(spans) == 1 {
		return &expr.Range{Op: expr.CmpOpEq, Register: reg0, FromData: spans[0].from, ToData: spans[0].to}, nil
	}
	set := &nftables.Set{Table: b.table, Anonymous: true, Constant: true, Interval: true, KeyType: typ}
	var elements []nftables.SetElement
	for _, s := range spans {
		elements = append(elements, nftables.SetElement{Key: s.from})
		if end := next(s.to); end != nil { // else the interval is open to the end
			elements = append(elements, nftables.SetElement{Key: end, IntervalEnd: true})
		}
	}
	if err := b.conn.AddSet(set, elements); err != nil {
		return nil, err
	}
	return &expr.Lookup{SourceRegister: reg0, SetID: set.ID, SetName: set.Name}, nil
}

// addrSpans are the family's addresses among the prefixes.
func (b *builder) addrSpans(prefixes []netip.Prefix) []span {
	var spans []span
	for _, p := range prefixes {
		p = p.Masked()
		if p.Addr().Is4() != (b.lay.addrLen == 4) {
			continue
		}
		from := p.Addr().AsSlice()
		to := slices.Clone(from)
		for bit := p.Bits(); bit < len(to)*8; bit++ {
			to[bit/8] |= 0x80 >> (bit % 8)
		}
		spans = append(spans, span{from, to})
	}
	return merge(spans)
}

func portSpans(ports [][2]uint16) []span {
	var spans []span
	for _, r := range ports {
		spans = append(spans, span{
			binary.BigEndian.AppendUint16(nil, r[0]), binary.BigEndian.AppendUint16(nil, r[1]),
		})
	}
	return merge(spans)
}

// merge sorts spans and joins those that touch or overlap: the kernel's
// interval sets refuse both.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.from, b.from) })
	var out []span
	for _, s := range spans {
		if len(out) > 0 {
			last := &out[len(out)-1]
			end := next(last.to)
			if end == nil || bytes.Compare(s.from, end) <= 0 {
				if bytes.Compare(s.to, last.to) > 0 {
					last.to = s.to
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// next is b+1 as a number, nil if b is the highest.
func next(b []byte) []byte {
	n := slices.Clone(b)
	for i := len(n) - 1; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			return n
		}
	}
	return nil
}
