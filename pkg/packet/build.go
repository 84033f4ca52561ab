package packet

import (
	"encoding/binary"
	"math/bits"
)

// Segment describes a TCP segment to be made.
type Segment struct {
	Key       FlowKey // from source to destination
	TTL       uint8
	TOS       uint8  // DSCP<<2 | ECN
	ID        uint16 // IPv4 identification
	DF        bool   // IPv4 don't-fragment
	FlowLabel uint32 // IPv6
	Seq, Ack  Seq
	Flags     uint8
	Window    uint16 // as in the header, already scaled
	Urgent    uint16
	Options   []byte // a multiple of four bytes, at most 40
	Payload   []byte
}

// AppendTCP appends the IP packet that s describes to dst, with all checksums
// right, and returns the longer slice. It allocates only if dst lacks room.
// Lengths that no IP packet can have return dst as it was.
func AppendTCP(dst []byte, s *Segment) []byte {
	tcpLen := 20 + len(s.Options) + len(s.Payload)
	if len(s.Options)%4 != 0 || len(s.Options) > 40 || tcpLen > 65535-ipv4MinHeader {
		return dst
	}
	start := len(dst)
	if s.Key.Is4() {
		dst = appendIPv4(dst, s, tcpLen)
	} else {
		dst = appendIPv6(dst, s, tcpLen)
	}
	l4 := len(dst)
	var h [20]byte
	binary.BigEndian.PutUint16(h[0:], s.Key.SrcPort)
	binary.BigEndian.PutUint16(h[2:], s.Key.DstPort)
	binary.BigEndian.PutUint32(h[4:], uint32(s.Seq))
	binary.BigEndian.PutUint32(h[8:], uint32(s.Ack))
	h[12] = uint8((20 + len(s.Options)) / 4 << 4)
	h[13] = s.Flags
	binary.BigEndian.PutUint16(h[14:], s.Window)
	binary.BigEndian.PutUint16(h[18:], s.Urgent)
	dst = append(dst, h[:]...)
	dst = append(dst, s.Options...)
	dst = append(dst, s.Payload...)
	v := View{b: dst[start:], l4: l4 - start, proto: ProtoTCP, tcpData: l4 - start + 20 + len(s.Options)}
	v.SetTCPChecksum()
	return dst
}

func appendIPv4(dst []byte, s *Segment, n int) []byte {
	var h [ipv4MinHeader]byte
	h[0], h[1] = 0x45, s.TOS
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4MinHeader+n))
	binary.BigEndian.PutUint16(h[4:], s.ID)
	if s.DF {
		h[6] = 0x40
	}
	h[8], h[9] = s.TTL, ProtoTCP
	copy(h[12:16], s.Key.Src[12:])
	copy(h[16:20], s.Key.Dst[12:])
	binary.BigEndian.PutUint16(h[10:], Checksum(h[:]))
	return append(dst, h[:]...)
}

func appendIPv6(dst []byte, s *Segment, n int) []byte {
	var h [ipv6HeaderSize]byte
	binary.BigEndian.PutUint32(h[0:], 6<<28|uint32(s.TOS)<<20|s.FlowLabel&0xfffff)
	binary.BigEndian.PutUint16(h[4:], uint16(n))
	h[6], h[7] = ProtoTCP, s.TTL
	copy(h[8:24], s.Key.Src[:])
	copy(h[24:40], s.Key.Dst[:])
	return append(dst, h[:]...)
}

// AppendTimestamps appends the timestamps option in its usual form of twelve
// bytes (RFC 7323 appendix A).
func AppendTimestamps(b []byte, val, ecr uint32) []byte {
	b = append(b, OptNop, OptNop, OptTimestamps, 10)
	b = binary.BigEndian.AppendUint32(b, val)
	return binary.BigEndian.AppendUint32(b, ecr)
}

// AppendSACK appends a SACK option, padded to four bytes, with as many of the
// blocks as room bytes hold.
func AppendSACK(b []byte, blocks []SACKBlock, room int) []byte {
	n := min(len(blocks), (room-4)/8)
	if n <= 0 {
		return b
	}
	b = append(b, OptNop, OptNop, OptSACK, byte(2+8*n))
	for _, s := range blocks[:n] {
		b = binary.BigEndian.AppendUint32(b, uint32(s.Left))
		b = binary.BigEndian.AppendUint32(b, uint32(s.Right))
	}
	return b
}

// ScaleWindow is the largest window field whose scaled value is not above
// bytes, rounded down: a floor moves the right edge by less than one unit,
// which RFC 7323 section 2.4 allows.
func ScaleWindow(bytes int, shift int8) uint16 {
	if bytes <= 0 {
		return 0
	}
	if shift > 0 {
		bytes >>= uint(shift)
	}
	if bits.Len(uint(bytes)) > 16 {
		return 0xffff
	}
	return uint16(bytes)
}
