package frames

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

func (m *maker) udp4(n int) []byte { return UDP(m.from4(), m.to4(), m.random(n)) }

func (m *maker) ipv4() {
	m.v4("UDP", IPv4{ID: 1, Protocol: protoUDP, Payload: m.udp4(200)})
	for _, with := range []byte{0, 0xee} {
		h := IPv4{ID: 2, Flags: 2, Protocol: protoUDP, Payload: m.udp4(4)}
		m.add(fmt.Sprintf("short UDP padded with %#x", with), Padded60(m.frame4(&h), with))
	}
	m.v4("UDP of 1500 bytes", IPv4{ID: 3, Flags: 2, Protocol: protoUDP, Payload: m.udp4(min(1500, m.room()) - 28)})
	m.v4("UDP as long as the MTU", IPv4{ID: 4, Protocol: protoUDP, Payload: m.udp4(m.room() - 28)})
	m.v4("UDP as long as the MTU, DF", IPv4{ID: 4, Flags: 2, Protocol: protoUDP, Payload: m.udp4(m.room() - 28)})
	none := m.udp4(33)
	none[6], none[7] = 0, 0
	m.v4("UDP without checksum", IPv4{ID: 5, Protocol: protoUDP, Payload: none})
	bad := m.udp4(33)
	bad[6] ^= 0x55
	m.v4("UDP with a bad checksum", IPv4{ID: 6, Protocol: protoUDP, Payload: bad})
	for _, tos := range []byte{46<<2 | 1, 48<<2 | 2, 44 << 2, 10<<2 | 3, 1 << 2, 0xff} {
		m.v4(fmt.Sprintf("DSCP %d ECN %d", tos>>2, tos&3), IPv4{TOS: tos, ID: 7, Protocol: protoUDP, Payload: m.udp4(20)})
	}
	m.v4("TTL 1", IPv4{ID: 8, TTL: 1, Protocol: protoUDP, Payload: m.udp4(40)})
	m.v4("TTL 255", IPv4{ID: 8, TTL: 255, Protocol: protoUDP, Payload: m.udp4(40)})
	m.v4("reserved flag", IPv4{ID: 9, Flags: 4, Protocol: protoUDP, Payload: m.udp4(40)})
	m.v4("ID 0, no DF", IPv4{Protocol: protoUDP, Payload: m.udp4(40)})
	m.v4("to itself", IPv4{ID: 10, Protocol: protoUDP, Src: m.Dst4, Payload: m.udp4(40)})
	addr := netip.MustParseAddr
	m.v4("from 127.0.0.1", IPv4{ID: 11, Protocol: protoUDP, Src: addr("127.0.0.1"), Payload: m.udp4(40)})
	m.v4("from class E", IPv4{ID: 12, Protocol: protoUDP, Src: addr("240.1.2.3"), Payload: m.udp4(40)})
	m.v4("DHCP", IPv4{ID: 13, Protocol: protoUDP, Src: addr("0.0.0.0"), Dst: addr("255.255.255.255"), Payload: m.udp4(300)})
	m.v4("multicast", IPv4{ID: 14, TTL: 1, Protocol: protoUDP, Dst: addr("239.1.2.3"), Payload: m.udp4(100)})
	m.options4()
	m.fragments4()
}

// options4 are those of RFC 791 section 3.1, RFC 2113 and of nobody.
func (m *maker) options4() {
	for _, o := range []struct {
		name  string
		bytes []byte
	}{
		{"record route", []byte{7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"record route, partly filled", []byte{7, 11, 8, 10, 1, 2, 3, 0, 0, 0, 0}},
		{"timestamps", []byte{68, 12, 5, 0x01, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"router alert", []byte{148, 4, 0, 0}},
		{"loose source route", []byte{131, 7, 4, 10, 9, 8, 7}},
		{"strict source route", []byte{137, 7, 4, 10, 9, 8, 7}},
		{"security", []byte{130, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"CIPSO", []byte{134, 10, 0, 0, 0, 5, 1, 4, 0, 2}},
		{"no operation", []byte{1, 1, 1, 0}},
		{"unknown", []byte{0x5e, 6, 1, 2, 3, 4}},
		{"an impossible length", []byte{7, 60, 4, 0}},
		{"40 bytes", slices.Concat([]byte{7, 39, 4}, make([]byte, 36))},
	} {
		m.v4("option "+o.name, IPv4{ID: 20, Protocol: protoUDP, Options: o.bytes, Payload: m.udp4(50)})
	}
}

// fragments4 are datagrams in three pieces: in order, and the last one first.
func (m *maker) fragments4() {
	for n, order := range [][]int{{0, 1, 2}, {2, 1, 0}} {
		whole := m.udp4(3000 - 8)
		for _, i := range order {
			flags, end := uint16(1), (i+1)*1000
			if i == 2 {
				flags = 0
			}
			m.v4(fmt.Sprintf("fragment %d of 3, sent in the order %v", i, order), IPv4{
				ID: 100 + uint16(n), Flags: flags, Offset: uint16(i * 1000), Protocol: protoUDP, Payload: whole[i*1000 : end],
			})
		}
	}
	m.v4("tiny fragment", IPv4{ID: 110, Flags: 1, Protocol: protoTCP, Payload: m.random(8)})
	m.v4("overlapping fragment", IPv4{ID: 110, Flags: 1, Offset: 8, Protocol: protoTCP, Payload: m.random(40)})
	m.v4("overlapped fragment", IPv4{ID: 110, Offset: 16, Protocol: protoTCP, Payload: m.random(40)})
	m.v4("fragment with DF", IPv4{ID: 111, Flags: 3, Offset: 64, Protocol: protoUDP, Payload: m.random(64)})
	m.v4("fragment of ICMP", IPv4{ID: 112, Flags: 1, Protocol: protoICMP, Payload: m.random(64)})
}

// ipv4Other is what is neither UDP nor TCP.
func (m *maker) ipv4Other() {
	echo := simple(append([]byte{8, 0, 0, 0, 0, 9, 0, 1}, m.random(56)...))
	m.v4("echo request", IPv4{ID: 30, Protocol: protoICMP, Payload: echo})
	m.v4("echo reply", IPv4{ID: 31, Protocol: protoICMP, Payload: simple(append([]byte{0, 0, 0, 0, 0, 9, 0, 1}, m.random(56)...))})
	badEcho := append([]byte{8, 0, 0, 0, 0, 9, 0, 1}, m.random(56)...)
	m.v4("ICMP with a bad checksum", IPv4{ID: 32, Protocol: protoICMP, Payload: badEcho})
	quoted := IPv4{ID: uint16(m.rng.Uint32()), Protocol: protoTCP, Src: m.Dst4, Dst: m.Src4, Payload: m.random(8)}.Packet()
	m.v4("frag needed", IPv4{ID: 33, TOS: 0xc0, Protocol: protoICMP, Payload: simple(append([]byte{3, 4, 0, 0, 0, 0, 5, 0x14}, quoted...))})
	m.v4("time exceeded", IPv4{ID: 34, TOS: 0xc0, Protocol: protoICMP, Payload: simple(append([]byte{11, 0, 0, 0, 0, 0, 0, 0}, quoted...))})
	m.v4("redirect", IPv4{ID: 35, Protocol: protoICMP, Payload: simple(append([]byte{5, 1, 0, 0, 10, 1, 0, 9}, quoted...))})
	addr := netip.MustParseAddr
	alert := []byte{148, 4, 0, 0}
	m.v4("IGMPv2 query", IPv4{ID: uint16(m.rng.Uint32()), TTL: 1, Protocol: protoIGMP, Dst: addr("224.0.0.1"), Options: alert, Payload: simple([]byte{0x11, 100, 0, 0, 0, 0, 0, 0})})
	m.v4("IGMPv2 report", IPv4{ID: uint16(m.rng.Uint32()), TTL: 1, Protocol: protoIGMP, Dst: addr("239.1.2.3"), Options: alert, Payload: simple([]byte{0x16, 0, 0, 0, 239, 1, 2, 3})})
	m.v4("IGMPv2 leave", IPv4{ID: uint16(m.rng.Uint32()), TTL: 1, Protocol: protoIGMP, Dst: addr("224.0.0.2"), Options: alert, Payload: simple([]byte{0x17, 0, 0, 0, 239, 1, 2, 3})})
	m.v4("IGMPv3 report", IPv4{
		ID: uint16(m.rng.Uint32()), TOS: 0xc0, TTL: 1, Protocol: protoIGMP, Dst: addr("224.0.0.22"), Options: alert,
		Payload: simple([]byte{0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3}),
	})
	m.v4("OSPF", IPv4{ID: 40, TTL: 1, TOS: 0xc0, Protocol: 89, Dst: addr("224.0.0.5"), Payload: m.random(44)})
	m.v4("VRRP", IPv4{ID: 41, TTL: 255, Protocol: 112, Dst: addr("224.0.0.18"), Payload: m.random(20)})
	for _, p := range []struct {
		name     string
		protocol byte
	}{
		{"SCTP", protoSCTP},
		{"ESP", protoESP},
		{"AH", protoAH},
		{"DCCP", 33},
		{"UDP-Lite", 136},
		{"protocol 253", 253},
		{"protocol 255", 255},
		{"protocol 0", 0},
		{"IP in IP of noise", 4},
		{"noise as TCP", protoTCP},
	} {
		m.v4(p.name, IPv4{ID: 50, Protocol: p.protocol, Payload: m.random(64)})
	}
	inner := IPv4{ID: 60, Protocol: protoUDP, Src: m.Src4, Dst: m.Dst4, Payload: m.udp4(60)}.Packet()
	m.v4("GRE", IPv4{ID: 61, Protocol: protoGRE, Payload: slices.Concat([]byte{0, 0, 8, 0}, inner)})
	m.v4("GRE with checksum, key and sequence", IPv4{ID: 62, Protocol: protoGRE, Payload: slices.Concat([]byte{0xb0, 0, 8, 0}, m.random(12), inner)})
	m.v4("IP in IP", IPv4{ID: 63, Protocol: 4, Payload: inner})
	m.v4("no payload", IPv4{ID: uint16(m.rng.Uint32()), Protocol: 254})
	sctp := word(nil, m.SrcPort, m.DstPort)
	sctp = binary.BigEndian.AppendUint32(sctp, 0)
	m.v4("SCTP INIT", IPv4{ID: 64, Flags: 2, Protocol: protoSCTP, Payload: slices.Concat(sctp, m.random(4), []byte{1, 0, 0, 20}, m.random(16))})
}
