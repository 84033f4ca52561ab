package frames

import (
	"fmt"
	"net/netip"
	"slices"
)

func (m *maker) udp6(n int) []byte { return UDP(m.from6(), m.to6(), m.random(n)) }

func (m *maker) label() uint32 { return m.rng.Uint32() & 0xfffff }

func (m *maker) ipv6() {
	m.v6("UDP over IPv6", IPv6{Label: m.label(), Next: protoUDP, Payload: m.udp6(200)})
	m.v6("UDP as long as the MTU over IPv6", IPv6{Next: protoUDP, Payload: m.udp6(m.room() - 48)})
	zero := m.udp6(30)
	zero[6], zero[7] = 0, 0
	m.v6("UDP without checksum over IPv6", IPv6{Next: protoUDP, Payload: zero})
	bad := m.udp6(30)
	bad[6] ^= 0x55
	m.v6("UDP with a bad checksum over IPv6", IPv6{Next: protoUDP, Payload: bad})
	for _, class := range []byte{46<<2 | 1, 48<<2 | 2, 44 << 2, 1 << 2, 0xff} {
		m.v6(fmt.Sprintf("DSCP %d ECN %d over IPv6", class>>2, class&3), IPv6{Class: class, Label: m.label(), Next: protoUDP, Payload: m.udp6(30)})
	}
	m.v6("hop limit 1", IPv6{Hops: 1, Next: protoUDP, Payload: m.udp6(30)})
	m.v6("hop limit 255", IPv6{Hops: 255, Next: protoUDP, Payload: m.udp6(30)})
	m.v6("multicast over IPv6", IPv6{Hops: 1, Next: protoUDP, Dst: netip.MustParseAddr("ff15::1:2:3"), Payload: m.udp6(30)})
	m.extensions()
	m.fragments6()
}

// The extension headers of RFC 8200 section 4, without their first byte.
var (
	alert6  = []byte{0, 5, 2, 0, 0, 1, 0}                // RFC 2711: MLD
	padHop  = []byte{0, 1, 4, 0, 0, 0, 0}                // nothing but padding
	unknown = []byte{0, 0x1e, 4, 1, 2, 3, 4}             // to be skipped
	discard = []byte{0, 0x5e, 4, 1, 2, 3, 4}             // to be discarded by those who process it
	routing = slices.Concat([]byte{2, 0, 1, 0, 0, 0, 0}, // type 0, deprecated by RFC 5095
		netip.MustParseAddr("fd00:9::9").AsSlice())
	mobile  = slices.Concat([]byte{2, 2, 1, 0, 0, 0, 0}, netip.MustParseAddr("fd00:9::8").AsSlice())
	segment = slices.Concat([]byte{2, 4, 1, 0, 0, 0, 0}, netip.MustParseAddr("fd00:9::7").AsSlice())
	auth    = []byte{4, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
)

func (m *maker) extensions() {
	for _, e := range []struct {
		name string
		list []Extension
	}{
		{"hop-by-hop padding", []Extension{{protoHopByHop, padHop}}},
		{"hop-by-hop router alert", []Extension{{protoHopByHop, alert6}}},
		{"hop-by-hop unknown option", []Extension{{protoHopByHop, unknown}}},
		{"hop-by-hop option to discard", []Extension{{protoHopByHop, discard}}},
		{"routing header 0", []Extension{{protoRouting, routing}}},
		{"routing header 2", []Extension{{protoRouting, mobile}}},
		{"segment routing header", []Extension{{protoRouting, segment}}},
		{"destination options", []Extension{{protoDestOpts, unknown}}},
		{"authentication header", []Extension{{protoAH, auth}}},
		{"atomic fragment", []Extension{{protoFragment, []byte{0, 0, 0, 1, 2, 3, 4}}}},
		{"all of them", []Extension{
			{protoHopByHop, padHop},
			{protoDestOpts, unknown},
			{protoRouting, segment},
			{protoFragment, []byte{0, 0, 0, 1, 2, 3, 5}},
			{protoAH, auth},
			{protoDestOpts, padHop},
		}},
		{"hop-by-hop header that is not first", []Extension{{protoDestOpts, padHop}, {protoHopByHop, padHop}}},
	} {
		m.v6(e.name, IPv6{Label: m.label(), Next: protoUDP, Extensions: e.list, Payload: m.udp6(60)})
	}
}

func (m *maker) fragments6() {
	for n, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
		whole := m.udp6(3000 - 8)
		for _, i := range order {
			more := uint16(1)
			if i == 2 {
				more = 0
			}
			body := word([]byte{0}, uint16(i*1000)|more, 7, uint16(n))
			m.v6(fmt.Sprintf("IPv6 fragment %d of 3, sent in the order %v", i, order), IPv6{
				Next: protoUDP, Extensions: []Extension{{protoFragment, body}}, Payload: whole[i*1000 : (i+1)*1000],
			})
		}
	}
}

func (m *maker) icmp6(dst netip.Addr, b []byte) []byte {
	return sealed(b, 2, m.Src6, dst, protoICMPv6)
}

// ipv6Other is what is neither UDP nor TCP.
func (m *maker) ipv6Other() {
	addr := netip.MustParseAddr
	all, routers := addr("ff02::1"), addr("ff02::2")
	target := m.Dst6.AsSlice()
	solicited := addr("ff02::1:ff00:2")
	source := slices.Concat([]byte{1, 1}, m.Src[:])
	m.v6("echo request over IPv6", IPv6{Next: protoICMPv6, Payload: m.icmp6(m.Dst6, append([]byte{128, 0, 0, 0}, m.random(60)...))})
	quoted := IPv6{Label: m.label(), Next: protoUDP, Src: m.Dst6, Dst: m.Src6, Payload: m.random(100)}.Packet()
	m.v6("packet too big", IPv6{Next: protoICMPv6, Payload: m.icmp6(m.Dst6, slices.Concat([]byte{2, 0, 0, 0, 0, 0, 5, 0}, quoted))})
	m.v6("ICMPv6 with a bad checksum", IPv6{Next: protoICMPv6, Payload: append([]byte{128, 0}, m.random(60)...)})
	m.v6("neighbour solicitation", IPv6{Label: m.label(), Hops: 255, Next: protoICMPv6, Dst: solicited, Payload: m.icmp6(solicited, slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target, source))})
	m.v6("duplicate address detection", IPv6{Label: m.label(), Hops: 255, Next: protoICMPv6, Src: addr("::"), Dst: solicited, Payload: sealed(slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target), 2, addr("::"), solicited, protoICMPv6)})
	m.v6("neighbour advertisement", IPv6{Label: m.label(), Hops: 255, Next: protoICMPv6, Payload: m.icmp6(m.Dst6, slices.Concat([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, m.Src6.AsSlice(), []byte{2, 1}, m.Src[:]))})
	m.v6("router solicitation", IPv6{Label: m.label(), Hops: 255, Next: protoICMPv6, Dst: routers, Payload: m.icmp6(routers, slices.Concat([]byte{133, 0, 0, 0, 0, 0, 0, 0}, source))})
	m.v6("router advertisement", IPv6{Label: m.label(), Hops: 255, Next: protoICMPv6, Dst: all, Payload: m.icmp6(all, slices.Concat([]byte{134, 0, 0, 0, 64, 0, 7, 8}, make([]byte, 8), source))})
	alert := []Extension{{protoHopByHop, alert6}}
	group := addr("ff15::1:2:3")
	m.v6("MLD query", IPv6{Label: m.label(), Hops: 1, Next: protoICMPv6, Extensions: alert, Dst: all, Payload: m.icmp6(all, slices.Concat([]byte{130, 0, 0, 0, 3, 0xe8, 0, 0}, make([]byte, 16)))})
	m.v6("MLD report", IPv6{Label: m.label(), Hops: 1, Next: protoICMPv6, Extensions: alert, Dst: group, Payload: m.icmp6(group, slices.Concat([]byte{131, 0, 0, 0, 0, 0, 0, 0}, group.AsSlice()))})
	v2 := addr("ff02::16")
	m.v6("MLDv2 report", IPv6{Label: m.label(), Hops: 1, Next: protoICMPv6, Extensions: alert, Dst: v2, Payload: m.icmp6(v2, slices.Concat([]byte{143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0}, group.AsSlice()))})
	for _, p := range []struct {
		name string
		next byte
	}{
		{"SCTP", protoSCTP}, {"ESP", protoESP}, {"GRE", protoGRE}, {"no next header", protoNone}, {"mobility header", protoMobility}, {"HIP", 139}, {"shim6", 140}, {"protocol 253", 253}, {"IPv6 of noise", protoIPv6}, {"noise as TCP", protoTCP},
	} {
		m.v6(p.name+" over IPv6", IPv6{Label: m.label(), Next: p.next, Payload: m.random(64)})
	}
	m.v6("no payload over IPv6", IPv6{Label: m.label(), Next: protoNone})
}
