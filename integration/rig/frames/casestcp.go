package frames

import "slices"

const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
	ae // of AccECN
)

// tcp are segments of hosts whose connections nobody treats.
func (m *maker) tcp() {
	usual := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7}
	for _, s := range []struct {
		name string
		TCP
	}{
		{"SYN", TCP{Flags: syn, Options: usual}},
		{"SYN of ECN", TCP{Flags: syn | ece | cwr, Options: usual}},
		{"SYN of AccECN", TCP{Flags: syn | ece | cwr | ae, Options: usual}},
		{"SYN of a jumbo path", TCP{Flags: syn, Options: []byte{2, 4, 0x23, 0x00}}},
		{"SYN with data and fast open", TCP{Flags: syn, Options: slices.Concat([]byte{34, 10}, m.random(8)), Payload: m.random(100)}},
		{"SYN with MPTCP", TCP{Flags: syn, Options: slices.Concat([]byte{30, 12, 0, 1}, m.random(8))}},
		{"SYN without options", TCP{Flags: syn}},
		{"SYN and ACK", TCP{Flags: syn | ack, Options: usual}},
		{"data", TCP{Flags: ack | psh, Options: slices.Concat([]byte{1, 1, 8, 10}, m.random(8)), Payload: m.random(1000)}},
		{"ACK", TCP{Flags: ack}},
		{"ACK with SACK", TCP{Flags: ack, Options: slices.Concat([]byte{1, 1, 5, 18}, m.random(16))}},
		{"data with MD5", TCP{Flags: ack, Options: slices.Concat([]byte{19, 18}, m.random(16)), Payload: m.random(30)}},
		{"data with an unknown option", TCP{Flags: ack, Options: slices.Concat([]byte{253, 6}, m.random(4)), Payload: m.random(30)}},
		{"data with an impossible option", TCP{Flags: ack, Options: []byte{8, 60, 1, 1}, Payload: m.random(30)}},
		{"urgent data", TCP{Flags: ack | urg | psh, Urgent: 3, Payload: m.random(30)}},
		{"reserved bits", TCP{Flags: ack | 0xe00, Payload: m.random(30)}},
		{"no flags", TCP{Payload: m.random(30)}},
		{"all flags", TCP{Flags: 0x1ff, Payload: m.random(30)}},
		{"keepalive", TCP{Flags: ack, Payload: m.random(1)}},
		{"FIN", TCP{Flags: ack | fin}},
		{"RST", TCP{Flags: rst}},
	} {
		s.Seq, s.Ack, s.Window = m.rng.Uint32(), m.rng.Uint32(), uint16(m.rng.Uint32())
		m.v4("TCP "+s.name, IPv4{ID: uint16(m.rng.Uint32()), Flags: 2, Protocol: protoTCP, Payload: s.Segment(m.from4(), m.to4())})
		m.v6("TCP "+s.name+" over IPv6", IPv6{Label: m.rng.Uint32() & 0xfffff, Next: protoTCP, Payload: s.Segment(m.from6(), m.to6())})
	}
	bad := TCP{Seq: m.rng.Uint32(), Flags: ack, Window: 100, Payload: m.random(400)}.Segment(m.from4(), m.to4())
	bad[16] ^= 0xaa
	m.v4("TCP with a bad checksum", IPv4{ID: 70, Flags: 2, Protocol: protoTCP, Payload: bad})
	pure := TCP{Seq: m.rng.Uint32(), Ack: m.rng.Uint32(), Flags: ack, Window: 100}.Segment(m.from4(), m.to4())
	h := IPv4{ID: 71, Flags: 2, Protocol: protoTCP, Payload: pure}
	m.add("padded ACK", Padded60(m.frame4(&h), 0))
}
