package frames

import (
	"encoding/binary"
	"slices"
)

func (m *maker) eth(name string, dst MAC, kind uint16, payload []byte) {
	m.add(name, Padded60(Ethernet(dst, m.Src, m.tags, kind, payload), 0))
}

// other is what is not IP, and not for the bridge next to its sender.
func (m *maker) other() {
	for n, o := range []struct {
		name       string
		dst        MAC
		op         byte
		sha, tha   MAC
		from, whom []byte
	}{
		{"ARP request", broadcast, 1, m.Src, MAC{}, m.Src4.AsSlice(), m.Dst4.AsSlice()},
		{"ARP reply", m.Dst, 2, m.Src, m.Dst, m.Src4.AsSlice(), m.Dst4.AsSlice()},
		{"ARP probe", broadcast, 1, m.Src, MAC{}, make([]byte, 4), m.Dst4.AsSlice()},
		{"gratuitous ARP", broadcast, 1, m.Src, MAC{}, m.Src4.AsSlice(), m.Src4.AsSlice()},
	} {
		body := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, o.op}, o.sha[:], o.from, o.tha[:], o.whom)
		m.eth(o.name, o.dst, TypeARP, body)
		// Switches and drivers leave what they had in the memory.
		m.eth(o.name+" with noise behind", o.dst, TypeARP, append(slices.Clone(body), m.random(18+n)...))
	}
	for _, e := range []struct {
		name string
		kind uint16
	}{
		{"RARP", 0x8035},
		{"EtherType 88b5", 0x88b5},
		{"EtherType 0601", 0x0601},
		{"EtherType ffff", 0xffff},
		{"MPLS", 0x8847},
		{"MPLS multicast", 0x8848},
		{"PPPoE discovery", 0x8863},
		{"MACsec", 0x88e5},
		{"PTP", 0x88f7},
		{"FCoE", 0x8906},
		{"PROFINET", 0x8892},
		{"EtherCAT", 0x88a4},
		{"wake on LAN", 0x0842},
		{"loopback", 0x9000},
		{"old QinQ", 0x9100},
		{"CFM", 0x8902},
		{"RoCE", 0x8915},
		{"AppleTalk", 0x809b},
		{"batman", 0x4305},
	} {
		m.eth(e.name, m.Dst, e.kind, m.random(80))
	}
	m.eth("jumbo of an unknown EtherType", m.Dst, 0x88b6, m.random(m.room()))
	inner := IPv4{ID: 80, Protocol: protoUDP, Src: m.Src4, Dst: m.Dst4, Payload: m.udp4(80)}.Packet()
	pppoe := binary.BigEndian.AppendUint16([]byte{0x11, 0, 0x12, 0x34}, uint16(len(inner)+2))
	m.eth("PPPoE session", m.Dst, 0x8864, slices.Concat(pppoe, []byte{0, 0x21}, inner))
	m.eth("MPLS with IPv4", m.Dst, 0x8847, slices.Concat([]byte{0, 0x01, 0x01, 0x40}, inner))
	m.eth("broadcast of an unknown EtherType", broadcast, 0x88b5, m.random(60))
	m.add("LLC", LLC(m.Dst, m.Src, m.tags, slices.Concat([]byte{0xf0, 0xf0, 3}, m.random(60))))
	m.add("SNAP with IPv4", LLC(m.Dst, m.Src, m.tags, slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, inner)))
	m.add("IPX", LLC(m.Dst, m.Src, m.tags, slices.Concat([]byte{0xff, 0xff}, m.random(40))))
}

// control is what switches say to each other. IEEE 802.1D table 7-10 keeps a
// bridge from passing on most of it; a box in a cable must.
func (m *maker) control() {
	near := func(n byte) MAC { return MAC{1, 0x80, 0xc2, 0, 0, n} }
	drop := func(passes bool, why string) string {
		if passes {
			return ""
		}
		return why
	}
	bpdu := func(kind byte, n int) []byte {
		return slices.Concat([]byte{0x42, 0x42, 3, 0, 0, kind, min(kind, 2)}, m.random(n))
	}
	const neighbours = "a bridge passes on what is for its own neighbours only where it is told to"
	m.add("STP", LLC(near(0), m.Src, m.tags, bpdu(0, 31)))
	m.add("RSTP", LLC(near(0), m.Src, m.tags, bpdu(2, 32)))
	m.add("MSTP", LLC(near(0), m.Src, m.tags, bpdu(3, 98)))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "provider's STP", LLC(near(8), m.Src, m.tags, bpdu(2, 32)))
	m.drop("IEEE 802.3 annex 31B: PAUSE is for the station next to its sender", "PAUSE", Padded60(Ethernet(near(1), m.Src, m.tags, 0x8808, []byte{0, 1, byte(m.rng.Uint32()), byte(m.rng.Uint32())}), 0))
	m.drop(drop(m.bridge.LACP, neighbours), "LACP", Ethernet(near(2), m.Src, m.tags, 0x8809, append([]byte{1, 1}, m.random(108)...)))
	m.drop(drop(m.bridge.LACP, neighbours), "OAM", Padded60(Ethernet(near(2), m.Src, m.tags, 0x8809, append([]byte{3, 0, 0x50, 0}, m.random(40)...)), 0))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "EAPOL", Padded60(Ethernet(near(3), m.Src, m.tags, 0x888e, append([]byte{2, 1, 0, 0}, m.random(3)...)), 0))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "LLDP", Ethernet(near(14), m.Src, m.tags, 0x88cc, slices.Concat([]byte{2, 7, 4}, m.Src[:], []byte{4, 3, 5, 'p', '1', 6, 2, 0, 120, 0xfe, 20}, m.random(20), []byte{0, 0})))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "LLDP beyond the nearest", Ethernet(near(3), m.Src, m.tags, 0x88cc, slices.Concat([]byte{2, 7, 4}, m.Src[:], []byte{4, 3, 5, 'p', '2', 6, 2, 0, 120, 0xfe, 20}, m.random(20), []byte{0, 0})))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "PTP peer delay", Padded60(Ethernet(near(14), m.Src, m.tags, 0x88f7, m.random(54)), 0))
	m.drop(drop(m.bridge.LinkLoc, neighbours), "MVRP of providers", Padded60(Ethernet(near(13), m.Src, m.tags, 0x88f5, m.random(40)), 0))
	m.eth("MVRP", MAC{1, 0x80, 0xc2, 0, 0, 0x21}, 0x88f5, m.random(40))
	m.add("PVST+", LLC(MAC{1, 0, 0x0c, 0xcc, 0xcc, 0xcd}, m.Src, m.tags, slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b}, m.random(42))))
	m.add("CDP", LLC(MAC{1, 0, 0x0c, 0xcc, 0xcc, 0xcc}, m.Src, m.tags, slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0}, m.random(200))))
}

// malformed is what br_netfilter drops where it looks.
func (m *maker) malformed() {
	mend := func(what, name string, kind uint16, packet []byte) {
		why := ""
		if m.looked() {
			why = "br_netfilter drops " + what
		}
		m.drop(why, name, Ethernet(m.Dst, m.Src, m.tags, kind, packet))
	}
	plain := func() []byte {
		return IPv4{ID: 90, Protocol: protoUDP, Src: m.Src4, Dst: m.Dst4, Payload: m.udp4(64)}.Packet()
	}
	mend("a bad IPv4 header checksum", "bad IPv4 header checksum", TypeIPv4,
		IPv4{ID: 91, Protocol: protoUDP, Src: m.Src4, Dst: m.Dst4, BadSum: true, Payload: m.udp4(64)}.Packet())
	mend("an IPv4 packet longer than its frame", "cut IPv4 packet", TypeIPv4, plain()[:60])
	version := plain()
	version[0] = 0x55
	mend("an IPv4 packet of another version", "IPv4 of version 5", TypeIPv4, version)
	short := plain()
	short[0] = 0x44
	mend("an IPv4 header of less than 20 bytes", "IPv4 header of 16 bytes", TypeIPv4, short)
	mend("less than an IPv4 header", "half an IPv4 header", TypeIPv4, append([]byte{0x45}, m.random(9)...))
	long := func() []byte {
		return IPv6{Label: m.label(), Next: protoUDP, Src: m.Src6, Dst: m.Dst6, Payload: m.udp6(64)}.Packet()
	}
	mend("an IPv6 packet longer than its frame", "cut IPv6 packet", TypeIPv6, long()[:80])
	other := long()
	other[0] = 0x40
	mend("an IPv6 packet of another version", "IPv6 of version 4", TypeIPv6, other)
	mend("less than an IPv6 header", "half an IPv6 header", TypeIPv6, append([]byte{0x60}, m.random(19)...))
	m.add("one tag more", Ethernet(m.Dst, m.Src, append(slices.Clone(m.tags), [2]uint16{TypeVLAN, uint16(m.rng.Uint32())}), TypeIPv4, plain()))
}
