package frames

import "encoding/binary"

// Field is a part of a frame that has a name.
type Field struct {
	Name     string
	At, Bits int // the first bit, from the EtherType on, and how many
}

// EtherTypes that the comparer looks into, and those of VLAN tags.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeIPv6 = 0x86dd
	TypeVLAN = 0x8100 // IEEE 802.1Q
	TypeQinQ = 0x88a8 // IEEE 802.1ad
	// below this the field is the length of an IEEE 802.3 frame
	typeFirst = 0x0600
)

const (
	addressesLen = 12
	tagLen       = 4
)

// parted is a frame as a bridge sees it.
type parted struct {
	dst, src []byte
	tags     [][]byte // the outer one first
	rest     []byte   // from the EtherType on
}

func part(frame []byte) parted {
	if len(frame) < addressesLen+2 {
		return parted{rest: frame}
	}
	p := parted{dst: frame[:6], src: frame[6:addressesLen], rest: frame[addressesLen:]}
	for len(p.rest) >= tagLen+2 {
		if tpid := binary.BigEndian.Uint16(p.rest); tpid != TypeVLAN && tpid != TypeQinQ {
			break
		}
		p.tags, p.rest = append(p.tags, p.rest[:tagLen]), p.rest[tagLen:]
	}
	return p
}

// shape is the list of a frame's fields from the EtherType on. Together they
// cover every bit up to end; what follows is padding.
type shape struct {
	data   []byte
	at     int // the next bit that has no name
	end    int // bytes
	ip     bool
	fields []Field
}

// shapeOf names the fields. Only IP says how long it is in a way that a bridge
// looks at, so only behind IP is anything padding.
func shapeOf(rest []byte) *shape {
	s := &shape{data: rest, end: len(rest)}
	if len(rest) < 2 {
		s.rest("frame")
		return s
	}
	kind := binary.BigEndian.Uint16(rest)
	if kind < typeFirst {
		s.bytes("802.3 length", 2)
		s.rest("802.3 payload")
		return s
	}
	s.bytes("EtherType", 2)
	switch {
	case kind == TypeIPv4 && s.left() >= 20 && s.peek(0)>>4 == 4:
		s.ipv4()
	case kind == TypeIPv6 && s.left() >= 40 && s.peek(0)>>4 == 6:
		s.ipv6()
	case kind == TypeARP && s.left() >= 28:
		s.arp()
	}
	s.rest("payload")
	return s
}

// left is how many bytes have no name yet; peek reads one of them.
func (s *shape) left() int       { return s.end - s.at/8 }
func (s *shape) peek(i int) byte { return s.data[s.at/8+i] }
func (s *shape) peek16(i int) int {
	return int(binary.BigEndian.Uint16(s.data[s.at/8+i:]))
}

// bits names the next n bits, or as many as there are.
func (s *shape) bits(name string, n int) {
	if n = min(n, s.end*8-s.at); n > 0 {
		s.fields = append(s.fields, Field{Name: name, At: s.at, Bits: n})
		s.at += n
	}
}

func (s *shape) bytes(name string, n int) { s.bits(name, 8*n) }
func (s *shape) rest(name string)         { s.bits(name, s.end*8-s.at) }

// until ends the frame so many bytes from here, unless it is shorter.
func (s *shape) until(n int) { s.end = min(s.end, s.at/8+n) }

func (s *shape) arp() {
	s.bytes("ARP types", 6)
	s.bytes("ARP operation", 2)
	s.bytes("ARP sender hardware address", 6)
	s.bytes("ARP sender address", 4)
	s.bytes("ARP target hardware address", 6)
	s.bytes("ARP target address", 4)
	s.rest("padding of ARP")
}
