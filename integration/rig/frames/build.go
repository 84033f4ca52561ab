package frames

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// MAC is an Ethernet address.
type MAC = [6]byte

// Ethernet writes a frame: addresses, tags as TPID and TCI, EtherType, payload.
func Ethernet(dst, src MAC, tags [][2]uint16, kind uint16, payload []byte) []byte {
	b := append(slices.Clone(dst[:]), src[:]...)
	for _, t := range tags {
		b = word(b, t[0], t[1])
	}
	return append(word(b, kind), payload...)
}

// LLC writes a frame of IEEE 802.3, with its length for a type, padded to what
// Ethernet carries at least.
func LLC(dst, src MAC, tags [][2]uint16, payload []byte) []byte {
	return Padded60(Ethernet(dst, src, tags, uint16(len(payload)), payload), 0)
}

// Padded60 makes a frame as long as Ethernet's shortest, without its checksum.
func Padded60(frame []byte, with byte) []byte {
	const shortest = 60
	for len(frame) < shortest {
		frame = append(frame, with)
	}
	return frame
}

func word(b []byte, values ...uint16) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

// IPv4 is what a header of RFC 791 says. The lengths and the checksum are
// computed.
type IPv4 struct {
	TOS      byte
	ID       uint16
	Flags    uint16 // 4: reserved, 2: don't fragment, 1: more fragments
	Offset   uint16 // bytes
	TTL      byte   // 0: 64
	Protocol byte
	Src, Dst netip.Addr
	Options  []byte
	BadSum   bool
	Payload  []byte
}

// Packet writes the packet.
func (h IPv4) Packet() []byte {
	options := slices.Clone(h.Options)
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	ttl := h.TTL
	if ttl == 0 {
		ttl = 64
	}
	header := 20 + len(options)
	b := []byte{0x40 | byte(header/4), h.TOS}
	b = word(b, uint16(header+len(h.Payload)), h.ID, h.Flags<<13|h.Offset/8)
	b = append(b, ttl, h.Protocol, 0, 0)
	b = append(b, h.Src.AsSlice()...)
	b = append(b, h.Dst.AsSlice()...)
	b = append(b, options...)
	sum := checksum(0, b)
	if h.BadSum {
		sum ^= 0x0101
	}
	binary.BigEndian.PutUint16(b[10:], sum)
	return append(b, h.Payload...)
}

// IPv6 is what a header of RFC 8200 says.
type IPv6 struct {
	Class      byte
	Label      uint32
	Hops       byte // 0: 64
	Next       byte // of the payload, or of the first of the extensions
	Src, Dst   netip.Addr
	Extensions []Extension
	Payload    []byte
}

// Extension is a header between IPv6 and its payload. Body is what follows its
// first byte, which is computed.
type Extension struct {
	Kind byte
	Body []byte
}

// Packet writes the packet.
func (h IPv6) Packet() []byte {
	first, hops := h.Next, h.Hops
	if len(h.Extensions) > 0 {
		first = h.Extensions[0].Kind
	}
	if hops == 0 {
		hops = 64
	}
	var chain []byte
	for i, e := range h.Extensions {
		next := h.Next
		if i+1 < len(h.Extensions) {
			next = h.Extensions[i+1].Kind
		}
		chain = append(append(chain, next), e.Body...)
	}
	b := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(h.Class)<<20|h.Label)
	b = word(b, uint16(len(chain)+len(h.Payload)))
	b = append(b, first, hops)
	b = append(b, h.Src.AsSlice()...)
	b = append(b, h.Dst.AsSlice()...)
	return append(append(b, chain...), h.Payload...)
}

// UDP writes a datagram with its checksum.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	b := word(nil, src.Port(), dst.Port(), uint16(8+len(payload)), 0)
	b = append(b, payload...)
	return sealed(b, 6, src.Addr(), dst.Addr(), protoUDP)
}

// TCP is what a header of RFC 9293 says.
type TCP struct {
	Seq, Ack uint32
	Flags    uint16 // with the reserved bits: 12 in all
	Window   uint16
	Urgent   uint16
	Options  []byte
	Payload  []byte
}

// Segment writes the segment with its checksum.
func (h TCP) Segment(src, dst netip.AddrPort) []byte {
	options := slices.Clone(h.Options)
	for len(options)%4 != 0 {
		options = append(options, 1)
	}
	b := word(nil, src.Port(), dst.Port())
	b = binary.BigEndian.AppendUint32(b, h.Seq)
	b = binary.BigEndian.AppendUint32(b, h.Ack)
	b = word(b, uint16(5+len(options)/4)<<12|h.Flags, h.Window, 0, h.Urgent)
	b = append(append(b, options...), h.Payload...)
	return sealed(b, 16, src.Addr(), dst.Addr(), protoTCP)
}

// sealed puts the checksum over a pseudo header where it belongs.
func sealed(b []byte, at int, src, dst netip.Addr, protocol byte) []byte {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = append(pseudo, 0, protocol)
	pseudo = word(pseudo, uint16(len(b)))
	sum := checksum(partial(0, pseudo), b)
	if sum == 0 && protocol == protoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return b
}

// simple writes a message with the checksum of ICMP and IGMP at offset 2.
func simple(b []byte) []byte {
	binary.BigEndian.PutUint16(b[2:], checksum(0, b))
	return b
}

// partial and checksum are RFC 1071's.
func partial(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func checksum(sum uint32, b []byte) uint16 {
	sum = partial(sum, b)
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
