package packet

import (
	"bytes"
	"fmt"
	"net/netip"
)

// FlowKey is one direction of a flow. It has no pointers and is comparable, so
// maps of it are invisible to the garbage collector. IPv4 addresses stand in
// the IPv4-mapped form of RFC 4291 section 2.5.5.2, so that one key type
// serves both families.
type FlowKey struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16 // 0 where the protocol has no ports; see also SPIKey
	Proto            uint8
	// Label is the IPv6 flow label (20 bits) that stands for the source port in a
	// reservation (RFC 2205 Appendix A.9); 0: none. [View.Key] leaves it out.
	Label uint32
}

// MakeKey builds a key from addresses; both must be of one family.
func MakeKey(proto uint8, src, dst netip.AddrPort) FlowKey {
	return FlowKey{
		Src: src.Addr().As16(), Dst: dst.Addr().As16(),
		SrcPort: src.Port(), DstPort: dst.Port(), Proto: proto,
	}
}

// SPIKey names a flow of AH or ESP by its security parameters index as RFC 2207
// does. It stands where other flows have their ports, the upper half first, as it
// is in the packet. [View.Key] gives no such key.
func SPIKey(proto uint8, src, dst netip.Addr, spi uint32) FlowKey {
	return MakeKey(proto, netip.AddrPortFrom(src, uint16(spi>>16)), netip.AddrPortFrom(dst, uint16(spi)))
}

// SPI is what SPIKey was given; 0 for a flow that is not named so (RFC 4303
// section 2.1 has no such SPI on the wire).
func (k FlowKey) SPI() uint32 {
	if k.Proto != ProtoESP && k.Proto != ProtoAH {
		return 0
	}
	return uint32(k.SrcPort)<<16 | uint32(k.DstPort)
}

// Reverse is the key of the other direction.
func (k FlowKey) Reverse() FlowKey {
	return FlowKey{Src: k.Dst, Dst: k.Src, SrcPort: k.DstPort, DstPort: k.SrcPort, Proto: k.Proto}
}

// Canonical gives the same key for both directions of a flow, and whether k
// was turned round for it.
func (k FlowKey) Canonical() (FlowKey, bool) {
	switch c := bytes.Compare(k.Src[:], k.Dst[:]); {
	case c < 0, c == 0 && k.SrcPort <= k.DstPort:
		return k, false
	}
	return k.Reverse(), true
}

// Is4 tells whether the addresses are IPv4.
func (k FlowKey) Is4() bool { return k.SrcAddr().Is4() }

// SrcAddr is the source address, IPv4 unmapped.
func (k FlowKey) SrcAddr() netip.Addr { return netip.AddrFrom16(k.Src).Unmap() }

// DstAddr is the destination address, IPv4 unmapped.
func (k FlowKey) DstAddr() netip.Addr { return netip.AddrFrom16(k.Dst).Unmap() }

// SrcAddrPort is the source address and port.
func (k FlowKey) SrcAddrPort() netip.AddrPort { return netip.AddrPortFrom(k.SrcAddr(), k.SrcPort) }

// DstAddrPort is the destination address and port.
func (k FlowKey) DstAddrPort() netip.AddrPort { return netip.AddrPortFrom(k.DstAddr(), k.DstPort) }

// Hash is a symmetric hash: both directions of a flow have the same one. It
// spreads flows over workers; it is no defence against chosen keys, which is
// why tables that grow use Go's own map.
func (k FlowKey) Hash() uint32 {
	c, _ := k.Canonical()
	h := uint32(2166136261)
	mix := func(b byte) { h = (h ^ uint32(b)) * 16777619 }
	for i := range 16 {
		mix(c.Src[i])
		mix(c.Dst[i])
	}
	mix(byte(c.SrcPort >> 8))
	mix(byte(c.SrcPort))
	mix(byte(c.DstPort >> 8))
	mix(byte(c.DstPort))
	mix(c.Proto)
	return h ^ h>>16
}

// ProtoName is the protocol's short name, or its number.
func ProtoName(proto uint8) string {
	switch proto {
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoICMP:
		return "icmp"
	case ProtoICMPv6:
		return "icmpv6"
	case ProtoRSVP:
		return "rsvp"
	case ProtoESP:
		return "esp"
	case ProtoAH:
		return "ah"
	case ProtoDCCP:
		return "dccp"
	case ProtoSCTP:
		return "sctp"
	case ProtoUDPLite:
		return "udplite"
	}
	return fmt.Sprint(proto)
}

// String writes "tcp 10.1.0.2:4000 > 10.2.0.2:80", or "esp 10.1.0.2 > 10.2.0.2
// spi 0x1001".
func (k FlowKey) String() string {
	if spi := k.SPI(); spi != 0 {
		return fmt.Sprintf("%s %s > %s spi %#x", ProtoName(k.Proto), k.SrcAddr(), k.DstAddr(), spi)
	}
	if k.Label != 0 {
		return fmt.Sprintf("%s %s label %#x > %s", ProtoName(k.Proto), k.SrcAddr(), k.Label, k.DstAddrPort())
	}
	return fmt.Sprintf("%s %s > %s", ProtoName(k.Proto), k.SrcAddrPort(), k.DstAddrPort())
}
