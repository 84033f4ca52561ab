package nft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// aliveTime is how long the rules work without a beat.
const aliveTime = time.Second

// aliveKey is the one element of set alive.
var aliveKey = []byte{0, 0, 0, 1}

// builder collects the messages that fill the table of one family.
type builder struct {
	conn   *conn
	want   plan.Queue
	lay    *layout
	native bool // the kernel has nf_tables' own queue expression
	table  *nftables.Table
	policy *nftables.Chain

	alive, settled *nftables.Set
	watched        *nftables.Set
	cheated        []*nftables.Set
}

// build collects sets, chains and rules of an empty table.
func (b *builder) build() error {
	if err := b.sets(); err != nil {
		return err
	}
	b.prerouting()
	if b.want.Reassemble {
		b.reassembly()
	}
	b.forward()
	return b.prefilters(b.want.Prefilters)
}

func (b *builder) sets() error {
	b.alive = &nftables.Set{
		Table: b.table, Name: "alive", KeyType: nftables.TypeInteger, HasTimeout: true, Timeout: aliveTime,
	}
	if err := b.conn.AddSet(b.alive, nil); err != nil { // the first beat is the caller's
		return fmt.Errorf("set alive: %w", err)
	}
	b.settled = &nftables.Set{
		Table: b.table, Name: "settled", KeyType: b.lay.keyType, Concatenation: true,
		HasTimeout: true, Timeout: b.want.SettledTimeout, Size: uint32(b.want.MaxSettled),
	}
	if err := b.conn.AddSet(b.settled, nil); err != nil {
		return fmt.Errorf("set settled: %w", err)
	}
	b.watched = &nftables.Set{
		Table: b.table, Name: "watched", KeyType: b.lay.keyType, Concatenation: true, Size: uint32(b.want.MaxCheated),
	}
	if err := b.conn.AddSet(b.watched, nil); err != nil {
		return fmt.Errorf("set watched: %w", err)
	}
	for i := range b.want.Cheat {
		set := &nftables.Set{
			Table: b.table, Name: fmt.Sprintf("cheated_%d", i), KeyType: b.lay.keyType, Concatenation: true,
			Size: uint32(b.want.MaxCheated),
		}
		if err := b.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("set %s: %w", set.Name, err)
		}
		b.cheated = append(b.cheated, set)
	}
	return nil
}

func (b *builder) chain(name string, hook *nftables.ChainHook) *nftables.Chain {
	c := &nftables.Chain{Table: b.table, Name: name}
	if hook != nil {
		c.Type, c.Hooknum, c.Priority = nftables.ChainTypeFilter, hook, nftables.ChainPriorityMangle
	}
	return b.conn.AddChain(c)
}

func (b *builder) rule(c *nftables.Chain, comment string, parts ...[]expr.Any) {
	var e []expr.Any
	for _, p := range parts {
		e = append(e, p...)
	}
	b.conn.AddRule(&nftables.Rule{
		Table: b.table, Chain: c, Exprs: e,
		UserData: userdata.AppendString(nil, userdata.TypeComment, comment),
	})
}

// queueTo counts a packet and hands it to a queue, or lets it go on if nobody
// listens there.
func (b *builder) queueTo(num uint16) []expr.Any {
	if b.native {
		return []expr.Any{&expr.Counter{}, &expr.Queue{Num: num, Total: 1, Flag: expr.QueueFlagBypass}}
	}
	// struct xt_NFQ_info_v3: first queue, number of queues, flags (1: bypass).
	info := binary.NativeEndian.AppendUint16(nil, num)
	info = binary.NativeEndian.AppendUint16(info, 1)
	info = binary.NativeEndian.AppendUint16(info, 1)
	target := xt.Unknown(append(info, 0, 0))
	return []expr.Any{&expr.Counter{}, &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &target}}
}

// guard opens the chain when the daemon stopped beating.
func (b *builder) guard(c *nftables.Chain) {
	b.rule(c, "no beat", []expr.Any{
		&expr.Immediate{Register: reg0, Data: aliveKey},
		&expr.Lookup{SourceRegister: reg0, SetID: b.alive.ID, SetName: b.alive.Name, Invert: true},
		verdict(expr.VerdictAccept),
	})
}

// prerouting catches RSVP before the TTL is decremented and before a local
// socket sees it.
func (b *builder) prerouting() {
	c := b.chain("prerouting", nftables.ChainHookPrerouting)
	b.guard(c)
	for _, proto := range []uint8{packet.ProtoRSVP, packet.ProtoRSVPE2E} {
		b.rule(c, "control", matchProto(expr.CmpOpEq, proto), b.queueTo(b.want.Control))
	}
	b.unreachable(c)
	// What reaches this box's own stack, by an interface that is none of ours or
	// while the rules are open, is not answered so either.
	b.unreachable(b.chain("output", nftables.ChainHookOutput))
}

// unreachable swallows the ICMP errors by which a host without RSVP answers a
// message: its peer would believe it. The quoted header starts at byte 8.
func (b *builder) unreachable(c *nftables.Chain) {
	drop := []expr.Any{&expr.Counter{}, verdict(expr.VerdictDrop)}
	for _, proto := range []uint8{packet.ProtoRSVP, packet.ProtoRSVPE2E} {
		if b.lay == layout4 {
			// RFC 792: destination unreachable, protocol unreachable.
			b.rule(c, "rsvp unreachable", matchProto(expr.CmpOpEq, packet.ProtoICMP),
				matchTransport(0, 3, 2), matchTransport(8+9, proto), drop)
			continue
		}
		// RFC 4443 section 3.4: parameter problem, unrecognized next header. A
		// PATH has a hop-by-hop header with the Router Alert, the others do not;
		// some stacks quote a fragment as it came.
		for _, headers := range [][]uint8{{}, {packet.ProtoHopByHop}, {packet.ProtoFragment}, {packet.ProtoHopByHop, packet.ProtoFragment}} {
			parts := [][]expr.Any{matchProto(expr.CmpOpEq, packet.ProtoICMPv6), matchTransport(0, 4, 1)}
			next := uint32(8 + 6)
			for i, h := range headers {
				parts = append(parts, matchTransport(next, h))
				next = uint32(8 + 40 + 8*i)
			}
			b.rule(c, "rsvp unreachable", append(parts, matchTransport(next, proto), drop)...)
		}
	}
}

// reassembly makes the kernel put fragments together before any rule of ours is
// looked at. It does so where a transparent proxy's expression exists in a
// rule; no packet needs to pass there, and into this chain nothing leads.
// Conntrack would do the same, but keeps a state for every flow.
func (b *builder) reassembly() {
	c := b.chain("reassemble", nil)
	b.rule(c, "reassemble", []expr.Any{
		&expr.Immediate{Register: reg0, Data: []byte{0, 0}},
		&expr.TProxy{Family: byte(b.lay.family), RegPort: reg0},
	})
}

func (b *builder) forward() {
	c := b.chain("forward", nftables.ChainHookForward)
	b.policy = b.chain("policy", nil)
	b.guard(c)
	accept := []expr.Any{verdict(expr.VerdictAccept)}
	b.rule(c, "ours", matchMark(b.want.Mark, b.want.MarkMask), accept)
	for i, set := range b.cheated {
		b.rule(c, set.Name, matchProto(expr.CmpOpEq, packet.ProtoTCP), b.lay.loadKey(true), in(set),
			b.queueTo(b.want.Cheat[i]))
	}
	b.tooBig(c)
	// The first and the last segments of a connection are looked at even if its
	// ports were settled for an earlier one.
	b.rule(c, "opening or closing", matchProto(expr.CmpOpEq, packet.ProtoTCP), matchTCPFlags(packet.FlagSYN|packet.FlagFIN|packet.FlagRST),
		[]expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: b.policy.Name}})
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
		b.rule(c, "settled", matchProto(expr.CmpOpEq, proto), b.lay.loadKey(true), in(b.settled), accept)
	}
	b.rule(c, "settled", matchProto(expr.CmpOpNeq, packet.ProtoTCP, packet.ProtoUDP),
		b.lay.loadKey(false), in(b.settled), accept)
	b.rule(c, "policy", []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: b.policy.Name}})
}

// tooBig hands ICMP errors about packets of cheated connections that did not fit
// a link to the worker that has the connection, which lets them go on. All other
// ICMP is compared with one type and no more.
func (b *builder) tooBig(forward *nftables.Chain) {
	c := b.chain("toobig", nil)
	// RFC 792 and RFC 1191: destination unreachable, fragmentation needed. RFC
	// 4443 section 3.2: packet too big.
	quoted, proto := matchTransport(8, 0x45), uint32(8+9)
	match := [][]expr.Any{matchProto(expr.CmpOpEq, packet.ProtoICMP), matchTransport(0, 3, 4)}
	if b.lay == layout6 {
		quoted, proto = nil, 8+6
		match = [][]expr.Any{matchProto(expr.CmpOpEq, packet.ProtoICMPv6), matchTransport(0, 2, 0)}
	}
	b.rule(forward, "too big", append(match, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: c.Name}})...)
	for i, set := range b.cheated {
		b.rule(c, "too big "+set.Name, quoted, matchTransport(proto, packet.ProtoTCP), b.lay.loadQuotedKey(), in(set), b.queueTo(b.want.Cheat[i]))
	}
}

// prefilters fills chain policy: the connections that are watched for one by
// one, then what the policies may claim.
func (b *builder) prefilters(filters []plan.Prefilter) error {
	b.rule(b.policy, b.watched.Name, matchProto(expr.CmpOpEq, packet.ProtoTCP), b.lay.loadKey(true), in(b.watched),
		b.queueTo(b.want.First))
	for i, f := range filters {
		if err := b.prefilterRules(f); err != nil {
			return fmt.Errorf("prefilter %d: %w", i, err)
		}
	}
	return nil
}

// in looks up the key that was loaded.
func in(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg0, SetID: set.ID, SetName: set.Name}}
}
