package packet

import "encoding/binary"

// TooBig is what a router says of a TCP segment that did not fit its next link.
type TooBig struct {
	Key FlowKey // of that segment
	Seq Seq
	Len int // of its packet, as its IP header says
	MTU int // of that link; 0 in messages older than RFC 1191
}

const (
	icmpHeader = 8
	leastQuote = 8 // bytes of the transport header (RFC 792)
)

// TooBig reads an ICMP "fragmentation needed" (RFC 1191 section 4) or an ICMPv6
// "packet too big" (RFC 4443 section 3.2) about a TCP segment; false if it is
// anything else, damaged, or not for the host that the quoted packet is from.
func (v View) TooBig() (TooBig, bool) {
	if v.fragment || len(v.b) < v.l4+icmpHeader {
		return TooBig{}, false
	}
	m, q := v.b[v.l4:], v.b[v.l4+icmpHeader:]
	if v.Is4() {
		if v.proto != ProtoICMP || m[0] != 3 || m[1] != 4 || Checksum(m) != 0 {
			return TooBig{}, false
		}
		return v.quoted4(q, int(binary.BigEndian.Uint16(m[6:])))
	}
	if v.proto != ProtoICMPv6 || m[0] != 2 || Fold(Sum(v.pseudo(len(m)), m)) != 0 {
		return TooBig{}, false
	}
	return v.quoted6(q, int(min(binary.BigEndian.Uint32(m[4:]), 1<<30)))
}

func (v View) quoted4(q []byte, mtu int) (TooBig, bool) {
	if len(q) < ipv4MinHeader || q[0]>>4 != 4 || q[9] != ProtoTCP || [4]byte(q[12:16]) != [4]byte(v.b[16:20]) {
		return TooBig{}, false
	}
	n := int(q[0]&15) * 4
	if n < ipv4MinHeader || len(q) < n+leastQuote || binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
		return TooBig{}, false
	}
	key := FlowKey{Proto: ProtoTCP, Src: View{b: q}.Src().As16(), Dst: View{b: q}.Dst().As16()}
	return quoted(key, q[n:], int(binary.BigEndian.Uint16(q[2:])), mtu), true
}

func (v View) quoted6(q []byte, mtu int) (TooBig, bool) {
	if len(q) < ipv6HeaderSize+leastQuote || q[0]>>4 != 6 || q[6] != ProtoTCP || [16]byte(q[8:24]) != [16]byte(v.b[24:40]) {
		return TooBig{}, false
	}
	key := FlowKey{Proto: ProtoTCP, Src: [16]byte(q[8:24]), Dst: [16]byte(q[24:40])}
	return quoted(key, q[ipv6HeaderSize:], ipv6HeaderSize+int(binary.BigEndian.Uint16(q[4:])), mtu), true
}

func quoted(key FlowKey, tcp []byte, n, mtu int) TooBig {
	key.SrcPort, key.DstPort = binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	return TooBig{Key: key, Seq: Seq(binary.BigEndian.Uint32(tcp[4:])), Len: n, MTU: mtu}
}
