package packet

import (
	"encoding/binary"
	"net/netip"
)

// View is a parsed IP packet: the bytes, and where the transport header is.
// The zero View is of no packet.
type View struct {
	b        []byte // the packet, cut to the length that its IP header says
	l4       int    // offset of the transport header
	proto    uint8  // transport protocol behind all extension headers
	fragment bool   // a fragment: the transport header may be missing or partial
	tcpData  int    // offset of the TCP payload; 0 if not TCP
}

// Parse checks an IP packet's headers and returns a view of it. Bytes behind
// the IP length (Ethernet padding) are left out of the view. A fragment, or a
// transport that is neither TCP nor UDP, is no error: such a view has no ports.
func Parse(b []byte) (View, error) {
	if len(b) < ipv4MinHeader {
		return View{}, ErrTruncated
	}
	var v View
	var err error
	switch b[0] >> 4 {
	case 4:
		v, err = parse4(b)
	case 6:
		v, err = parse6(b)
	default:
		err = ErrVersion
	}
	if err != nil || v.fragment {
		return v, err
	}
	switch v.proto {
	case ProtoTCP:
		h := v.b[v.l4:]
		if len(h) < 20 {
			return View{}, ErrTruncated
		}
		off := int(h[12]>>4) * 4
		if off < 20 {
			return View{}, ErrHeader
		}
		if off > len(h) {
			return View{}, ErrTruncated
		}
		v.tcpData = v.l4 + off
	case ProtoUDP:
		if len(v.b)-v.l4 < 8 {
			return View{}, ErrTruncated
		}
	}
	return v, nil
}

func parse4(b []byte) (View, error) {
	ihl := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		// A super-packet of 64 KiB or more has no room for its length here
		// (BIG TCP): the slice is then the only truth.
		total = len(b)
	}
	if ihl < ipv4MinHeader || total < ihl {
		return View{}, ErrHeader
	}
	if total > len(b) {
		return View{}, ErrTruncated
	}
	frag := binary.BigEndian.Uint16(b[6:])&0x3fff != 0 // MF, or an offset
	return View{b: b[:total], l4: ihl, proto: b[9], fragment: frag}, nil
}

func parse6(b []byte) (View, error) {
	if len(b) < ipv6HeaderSize {
		return View{}, ErrTruncated
	}
	total := ipv6HeaderSize + int(binary.BigEndian.Uint16(b[4:]))
	if total == ipv6HeaderSize && b[6] == ProtoHopByHop {
		total = len(b) // jumbogram, RFC 2675
	}
	if total > len(b) {
		return View{}, ErrTruncated
	}
	v := View{b: b[:total], l4: ipv6HeaderSize, proto: b[6]}
	// RFC 8200 section 4.1: extension headers are a chain. Each step moves
	// forward by at least 8 bytes, so the walk ends.
	for {
		rest := v.b[v.l4:]
		switch v.proto {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts:
			if len(rest) < 8 {
				return View{}, ErrTruncated
			}
			n := 8 + int(rest[1])*8
			if n > len(rest) {
				return View{}, ErrTruncated
			}
			v.proto, v.l4 = rest[0], v.l4+n
		case ProtoAH: // RFC 4302 section 2.2: length in words of 32 bits, less two
			if len(rest) < 8 {
				return View{}, ErrTruncated
			}
			n := (int(rest[1]) + 2) * 4
			if n > len(rest) {
				return View{}, ErrTruncated
			}
			v.proto, v.l4 = rest[0], v.l4+n
		case ProtoFragment:
			if len(rest) < 8 {
				return View{}, ErrTruncated
			}
			if binary.BigEndian.Uint16(rest[2:])&0xfff9 != 0 { // not an atomic fragment (RFC 6946)
				v.fragment = true
			}
			v.proto, v.l4 = rest[0], v.l4+8
			if v.fragment {
				return v, nil
			}
		default:
			return v, nil
		}
	}
}

// Bytes is the whole IP packet.
func (v View) Bytes() []byte { return v.b }

// Len is the IP packet's length in bytes, header included.
func (v View) Len() int { return len(v.b) }

// Is4 tells whether the packet is IPv4.
func (v View) Is4() bool { return len(v.b) > 0 && v.b[0]>>4 == 4 }

// Proto is the transport protocol, behind any IPv6 extension headers.
func (v View) Proto() uint8 { return v.proto }

// Fragment tells whether the packet is a part of a fragmented one.
func (v View) Fragment() bool { return v.fragment }

// IsTCP tells whether the view has a complete TCP header.
func (v View) IsTCP() bool { return v.tcpData != 0 }

// TCP is the TCP segment: header, options and payload. Nil if it is not TCP.
func (v View) TCP() TCP {
	if v.tcpData == 0 {
		return nil
	}
	return TCP(v.b[v.l4:])
}

// TCPPayload is the TCP payload; nil if it is not TCP.
func (v View) TCPPayload() []byte {
	if v.tcpData == 0 {
		return nil
	}
	return v.b[v.tcpData:]
}

// Transport is what follows the IP header and its extensions.
func (v View) Transport() []byte { return v.b[v.l4:] }

// Header is the IP header with its options or extension headers.
func (v View) Header() []byte { return v.b[:v.l4] }

// Src is the source address.
func (v View) Src() netip.Addr {
	if v.Is4() {
		return netip.AddrFrom4([4]byte(v.b[12:16]))
	}
	return netip.AddrFrom16([16]byte(v.b[8:24]))
}

// Dst is the destination address.
func (v View) Dst() netip.Addr {
	if v.Is4() {
		return netip.AddrFrom4([4]byte(v.b[16:20]))
	}
	return netip.AddrFrom16([16]byte(v.b[24:40]))
}

// Key is the packet's flow. Ports are 0 for fragments and for protocols that
// have none.
func (v View) Key() FlowKey {
	k := FlowKey{Proto: v.proto, Src: v.Src().As16(), Dst: v.Dst().As16()}
	if !v.fragment && (v.proto == ProtoTCP || v.proto == ProtoUDP) {
		k.SrcPort = binary.BigEndian.Uint16(v.b[v.l4:])
		k.DstPort = binary.BigEndian.Uint16(v.b[v.l4+2:])
	}
	return k
}

// FragmentKey is the flow of a first fragment that has the ports; false for all
// other packets. It says where the fragment belongs, not what is in it.
func (v View) FragmentKey() (FlowKey, bool) {
	if !v.fragment || v.proto != ProtoTCP && v.proto != ProtoUDP || len(v.b) < v.l4+4 {
		return FlowKey{}, false
	}
	offset := uint16(0)
	if v.Is4() {
		offset = binary.BigEndian.Uint16(v.b[6:]) & 0x1fff
	} else {
		offset = binary.BigEndian.Uint16(v.b[v.l4-6:]) &^ 7 // RFC 8200 section 4.5
	}
	k := v.Key()
	k.SrcPort = binary.BigEndian.Uint16(v.b[v.l4:])
	k.DstPort = binary.BigEndian.Uint16(v.b[v.l4+2:])
	return k, offset == 0
}

// TTL is the time to live, or the hop limit.
func (v View) TTL() uint8 {
	if v.Is4() {
		return v.b[8]
	}
	return v.b[7]
}

// TOS is the traffic class byte: DSCP in the six high bits, ECN in the low two.
func (v View) TOS() uint8 {
	if v.Is4() {
		return v.b[1]
	}
	return v.b[0]<<4 | v.b[1]>>4
}

// DSCP is the differentiated services code point (RFC 2474).
func (v View) DSCP() uint8 { return v.TOS() >> 2 }

// ECN is the explicit congestion notification field (RFC 3168); 3 is CE.
func (v View) ECN() uint8 { return v.TOS() & 3 }

// FlowLabel is the IPv6 flow label; 0 for IPv4.
func (v View) FlowLabel() uint32 {
	if v.Is4() {
		return 0
	}
	return binary.BigEndian.Uint32(v.b) & 0xfffff
}

// ID is the IPv4 identification; 0 for IPv6.
func (v View) ID() uint16 {
	if !v.Is4() {
		return 0
	}
	return binary.BigEndian.Uint16(v.b[4:])
}

// DF is the don't-fragment bit. IPv6 routers never fragment, so it is true there.
func (v View) DF() bool { return !v.Is4() || v.b[6]&0x40 != 0 }

// SetDSCP writes the code point and keeps ECN; the IPv4 header checksum is
// updated by RFC 1624.
func (v View) SetDSCP(dscp uint8) {
	if v.Is4() {
		old := binary.BigEndian.Uint16(v.b)
		v.b[1] = dscp<<2 | v.b[1]&3
		check := binary.BigEndian.Uint16(v.b[10:])
		binary.BigEndian.PutUint16(v.b[10:], Update16(check, old, binary.BigEndian.Uint16(v.b)))
		return
	}
	tos := dscp<<2 | v.TOS()&3
	v.b[0] = 0x60 | tos>>4
	v.b[1] = tos<<4 | v.b[1]&15
}

// pseudo is the unfolded sum of the pseudo header (RFC 9293 section 3.1,
// RFC 8200 section 8.1) for a transport segment of n bytes.
func (v View) pseudo(n int) uint64 {
	sum := uint64(v.proto) + uint64(n)
	if v.Is4() {
		return Sum(sum, v.b[12:20])
	}
	return Sum(sum, v.b[8:40])
}

// SetTCPChecksum computes the TCP checksum in full. It is the only right way
// after a change to a packet whose checksum the kernel had left to the device
// (NFQA_SKB_CSUMNOTREADY): there the field holds half a sum.
func (v View) SetTCPChecksum() {
	t := v.TCP()
	if t == nil {
		return
	}
	t[16], t[17] = 0, 0
	binary.BigEndian.PutUint16(t[16:], Fold(Sum(v.pseudo(len(t)), t)))
}

// TCPChecksumOK verifies the TCP checksum.
func (v View) TCPChecksumOK() bool {
	t := v.TCP()
	return t != nil && Fold(Sum(v.pseudo(len(t)), t)) == 0
}

// IPv4ChecksumOK verifies the IPv4 header checksum; IPv6 has none.
func (v View) IPv4ChecksumOK() bool {
	return !v.Is4() || Checksum(v.b[:int(v.b[0]&15)*4]) == 0
}
