package frames

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// Path is between which two stations frames are made.
type Path struct {
	Src, Dst         MAC
	Src4, Dst4       netip.Addr
	Src6, Dst6       netip.Addr
	SrcPort, DstPort uint16
	MTU              int // of both ports, bytes of IP
	Seed             uint64
}

// Back is the other direction.
func (p Path) Back() Path {
	p.Src, p.Dst = p.Dst, p.Src
	p.Src4, p.Dst4, p.Src6, p.Dst6 = p.Dst4, p.Src4, p.Dst6, p.Src6
	p.SrcPort, p.DstPort = p.DstPort, p.SrcPort
	p.Seed++
	return p
}

// Bridge says what a bridge looks at, and so drops.
type Bridge struct {
	Filter  bool // br_netfilter, of IP behind one tag too
	LACP    bool // its ports pass the group address of LACP
	LinkLoc bool // it passes those of LLDP, EAPOL and the like
}

// stack is a row of VLAN tags.
type stack struct {
	name string
	tags [][2]uint16
}

var stacks = []stack{
	{"untagged", nil},
	{"802.1Q", [][2]uint16{{TypeVLAN, 5<<13 | 100}}},
	{"priority-tagged", [][2]uint16{{TypeVLAN, 3<<13 | 1<<12}}}, // VID 0, DEI
	{"88a8+8100", [][2]uint16{{TypeQinQ, 6<<13 | 1<<12 | 200}, {TypeVLAN, 1<<13 | 4094}}},
	{"8100+8100", [][2]uint16{{TypeVLAN, 7<<13 | 300}, {TypeVLAN, 2<<13 | 301}}},
	{"88a8", [][2]uint16{{TypeQinQ, 4<<13 | 7}}},
}

// maker writes the frames of one path and one row of tags.
type maker struct {
	Path
	rng *rand.Rand
	stack
	bridge Bridge
	list   []Sent
}

// Cases are all frames, each of its own content: what hosts and switches send, with
// every row of tags, and what is not in order too.
func Cases(p Path, b Bridge) []Sent {
	m := &maker{Path: p, rng: rand.New(rand.NewPCG(p.Seed, 0x6672616d6573)), bridge: b}
	for _, s := range stacks {
		m.stack = s
		m.ipv4()
		m.ipv4Other()
		m.ipv6()
		m.ipv6Other()
		m.tcp()
		m.other()
		m.control()
		m.malformed()
	}
	return m.list
}

// looked tells that br_netfilter looks into the IP packet: not behind two tags.
func (m *maker) looked() bool { return m.bridge.Filter && len(m.tags) <= 1 }

func (m *maker) add(name string, frame []byte) { m.drop("", name, frame) }

func (m *maker) drop(why, name string, frame []byte) {
	m.list = append(m.list, Sent{Name: fmt.Sprintf("%s, %s", name, m.name), Data: frame, Dropped: why})
}

// random is content that no other frame has.
func (m *maker) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	return b
}

// room is what an IP packet may have: a second tag is payload to a port.
func (m *maker) room() int { return m.MTU - tagLen*max(0, len(m.tags)-1) }

func (m *maker) from4() netip.AddrPort { return netip.AddrPortFrom(m.Src4, m.SrcPort) }
func (m *maker) to4() netip.AddrPort   { return netip.AddrPortFrom(m.Dst4, m.DstPort) }
func (m *maker) from6() netip.AddrPort { return netip.AddrPortFrom(m.Src6, m.SrcPort) }
func (m *maker) to6() netip.AddrPort   { return netip.AddrPortFrom(m.Dst6, m.DstPort) }

// v4 adds an IPv4 packet, with the path's addresses unless it has its own, to a
// group's Ethernet address if it is for one.
func (m *maker) v4(name string, h IPv4) { m.drop("", name, m.frame4(&h)) }

func (m *maker) frame4(h *IPv4) []byte {
	if !h.Src.IsValid() {
		h.Src = m.Src4
	}
	if !h.Dst.IsValid() {
		h.Dst = m.Dst4
	}
	dst := m.Dst
	switch a := h.Dst.As4(); {
	case h.Dst.IsMulticast(): // RFC 1112 section 6.4
		dst = MAC{1, 0, 0x5e, a[1] & 0x7f, a[2], a[3]}
	case a == [4]byte{255, 255, 255, 255}:
		dst = broadcast
	}
	return Ethernet(dst, m.Src, m.tags, TypeIPv4, h.Packet())
}

func (m *maker) v6(name string, h IPv6) {
	if !h.Src.IsValid() {
		h.Src = m.Src6
	}
	if !h.Dst.IsValid() {
		h.Dst = m.Dst6
	}
	dst := m.Dst
	if h.Dst.IsMulticast() { // RFC 2464 section 7
		a := h.Dst.As16()
		dst = MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
	}
	m.add(name, Ethernet(dst, m.Src, m.tags, TypeIPv6, h.Packet()))
}

var broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
