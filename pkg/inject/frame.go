package inject

import (
	"encoding/binary"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100 // IEEE 802.1Q

	// maxHead is an Ethernet header with its tags and the longest IPv4 header.
	maxHead = 14 + 4*packet.MaxTags + 60
)

// appendEthernet writes the header of a frame of a port of a bridge: addresses,
// the tags as they were, outer one first, and the type of what is in it.
func appendEthernet(b []byte, f *packet.Frame, etherType uint16) []byte {
	b = append(append(b, f.Dst[:]...), f.Src[:]...)
	for _, t := range f.Tags[:min(max(f.NTags, 0), packet.MaxTags)] {
		b = binary.BigEndian.AppendUint16(b, t.TPID)
		b = binary.BigEndian.AppendUint16(b, t.TCI)
	}
	return binary.BigEndian.AppendUint16(b, etherType)
}

// head writes what stands before the part of a packet that goes as it is, and
// returns that part. An IPv4 header gets what the kernel gives those that come by a
// raw socket: its checksum, and an identification where it has none and needs one
// (RFC 6864 section 4.2: a packet that may be fragmented). A fragment has one, be it 0:
// with another it would be of no packet any more (RFC 791 section 3.2).
func head(b []byte, f *packet.Frame, pkt []byte, id uint16) (header, rest []byte, err error) {
	if len(pkt) < 20 {
		return b, nil, ErrPacket
	}
	if pkt[0]>>4 != 4 {
		if pkt[0]>>4 != 6 || len(pkt) < 40 {
			return b, nil, ErrPacket
		}
		return appendEthernet(b, f, etherIPv6), pkt, nil
	}
	n := int(pkt[0]&15) * 4
	if n < 20 || n > len(pkt) {
		return b, nil, ErrPacket
	}
	b = appendEthernet(b, f, etherIPv4)
	at := len(b)
	b = append(b, pkt[:n]...)
	ip := b[at:]
	if df := ip[6]&0x40 != 0; !df && !isFragment4(ip) && binary.BigEndian.Uint16(ip[4:]) == 0 {
		binary.BigEndian.PutUint16(ip[4:], max(id, 1))
	}
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip))
	return b, pkt[n:], nil
}

// groupAddress is where frames to a multicast group go: RFC 1112 section 6.4, RFC
// 2464 section 7. False for other destinations.
func groupAddress(dst netip.Addr) (mac [6]byte, ok bool) {
	if !dst.IsMulticast() {
		return mac, false
	}
	a := dst.As16()
	if dst.Is4() {
		return [6]byte{0x01, 0x00, 0x5e, a[13] & 0x7f, a[14], a[15]}, true
	}
	return [6]byte{0x33, 0x33, a[12], a[13], a[14], a[15]}, true
}
