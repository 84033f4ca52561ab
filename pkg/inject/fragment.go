package inject

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// fragmentable tells whether we may fragment a packet: IPv4 without DF, as any
// router may, and over IPv6 only what we are the sender of (RFC 8200 section
// 4.5), which are RSVP messages.
func fragmentable(pkt []byte) bool {
	v, err := packet.Parse(pkt)
	switch {
	case err != nil:
		return false
	case v.Is4():
		return !v.DF()
	}
	return !v.Fragment() && (v.Proto() == packet.ProtoRSVP || v.Proto() == packet.ProtoRSVPE2E)
}

// least6 is what every link of IPv6 carries (RFC 8200 section 5).
const least6 = 1280

// long6 tells whether a packet is RSVP over IPv6 and longer than every link
// carries. No router fragments it, and who is told of a link that is too small
// is the source, which for PATH is a host that knows nothing of it: such a
// packet is cut at once, as RFC 8200 section 5 has it for nodes that do without
// the discovery of path MTUs.
func long6(pkt []byte) bool {
	return len(pkt) > least6 && pkt[0]>>4 == 6 && fragmentable(pkt)
}

// fragment cuts a fragmentable packet to parts of at most mtu bytes. id is used
// where the packet has no identification: the kernel would give each part one
// of its own.
func fragment(pkt []byte, mtu int, id uint32) ([][]byte, error) {
	if pkt[0]>>4 == 4 {
		return fragment4(pkt, mtu, uint16(id))
	}
	return fragment6(pkt, mtu, id)
}

// fragment4 follows RFC 791 section 3.2. The packet may be a fragment itself.
func fragment4(pkt []byte, mtu int, id uint16) ([][]byte, error) {
	n, total := int(pkt[0]&15)*4, int(binary.BigEndian.Uint16(pkt[2:]))
	if total != len(pkt) || n > total {
		return nil, ErrPacket
	}
	if have := binary.BigEndian.Uint16(pkt[4:]); have != 0 || isFragment4(pkt) {
		id = have
	} else if id == 0 {
		id = 1
	}
	first := pkt[:n]
	later := copiedOptions(first)
	data := pkt[n:]
	offset, more := int(binary.BigEndian.Uint16(pkt[6:]))&0x1fff*8, pkt[6]&0x20 != 0
	var parts [][]byte
	for header := first; len(data) > 0; header = later {
		size := (mtu - len(header)) &^ 7
		last := len(data) <= mtu-len(header)
		if last {
			size = len(data)
		}
		if size <= 0 {
			return nil, unix.EMSGSIZE
		}
		p := append(append(make([]byte, 0, len(header)+size), header...), data[:size]...)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		binary.BigEndian.PutUint16(p[4:], id)
		field := uint16(offset / 8)
		if !last || more {
			field |= 0x2000 // MF
		}
		binary.BigEndian.PutUint16(p[6:], field)
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], packet.Checksum(p[:len(header)]))
		parts = append(parts, p)
		data, offset = data[size:], offset+size
	}
	return parts, nil
}

// isFragment4 tells whether an IPv4 header is that of a fragment (RFC 791 section 3.1):
// it has more fragments or an offset.
func isFragment4(header []byte) bool {
	const moreAndOffset = 0x3fff
	return binary.BigEndian.Uint16(header[6:])&moreAndOffset != 0
}

// copiedOptions is an IPv4 header with those options alone that go into every
// fragment (RFC 791 section 3.1: the copied flag); Router Alert is one (RFC
// 2113 section 2.1).
func copiedOptions(header []byte) []byte {
	out := append(make([]byte, 0, len(header)), header[:20]...)
	for o := header[20:]; len(o) > 0; {
		if o[0] == 0 { // end of options
			break
		}
		n := 1
		if o[0] != 1 { // no operation
			if len(o) < 2 || int(o[1]) < 2 || int(o[1]) > len(o) {
				break // the kernel will refuse the packet
			}
			n = int(o[1])
		}
		if o[0]&0x80 != 0 {
			out = append(out, o[:n]...)
		}
		o = o[n:]
	}
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	out[0] = 0x40 | byte(len(out)/4)
	return out
}

// fragment6 follows RFC 8200 section 4.5.
func fragment6(pkt []byte, mtu int, id uint32) ([][]byte, error) {
	if 40+int(binary.BigEndian.Uint16(pkt[4:])) != len(pkt) {
		return nil, ErrPacket
	}
	// The headers that every fragment repeats: up to the hop-by-hop options and
	// the routing header, if there are any.
	n, nextAt := 40, 6
	for pkt[nextAt] == packet.ProtoHopByHop || pkt[nextAt] == packet.ProtoRouting {
		if n+8 > len(pkt) || n+8+int(pkt[n+1])*8 > len(pkt) {
			return nil, ErrPacket
		}
		nextAt, n = n, n+8+int(pkt[n+1])*8
	}
	data := pkt[n:]
	var parts [][]byte
	for offset := 0; len(data) > 0; {
		size := (mtu - n - 8) &^ 7
		last := len(data) <= mtu-n-8
		if last {
			size = len(data)
		}
		if size <= 0 {
			return nil, unix.EMSGSIZE
		}
		p := append(make([]byte, 0, n+8+size), pkt[:n]...)
		p[nextAt] = packet.ProtoFragment
		binary.BigEndian.PutUint16(p[4:], uint16(n-40+8+size))
		field := uint16(offset)
		if !last {
			field |= 1
		}
		p = append(p, pkt[nextAt], 0)
		p = binary.BigEndian.AppendUint16(p, field)
		p = binary.BigEndian.AppendUint32(p, id)
		parts = append(parts, append(p, data[:size]...))
		data, offset = data[size:], offset+size
	}
	return parts, nil
}
