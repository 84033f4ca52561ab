package frames

import "fmt"

// Protocol numbers that are looked into or made.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoGRE      = 47
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoNone     = 59
	protoDestOpts = 60
	protoSCTP     = 132
	protoMobility = 135
)

var ipv4Options = map[byte]string{
	7: "record route", 68: "timestamp", 130: "security", 131: "loose source route", 137: "strict source route", 148: "router alert",
}

// ipv4 names the fields of RFC 791.
func (s *shape) ipv4() {
	s.ip = true
	header, total := int(s.peek(0)&15)*4, s.peek16(2)
	if header >= 20 && total >= header {
		s.until(total)
	}
	fragment, protocol := s.peek16(6)&0x1fff, s.peek(9)
	s.bits("IP version", 4)
	s.bits("IPv4 header length", 4)
	s.bits("DSCP", 6)
	s.bits("ECN", 2)
	s.bytes("IPv4 total length", 2)
	s.bytes("IPv4 identification", 2)
	s.bits("IPv4 flags", 3)
	s.bits("IPv4 fragment offset", 13)
	s.bytes("TTL", 1)
	s.bytes("IPv4 protocol", 1)
	s.bytes("IPv4 header checksum", 2)
	s.bytes("IP source address", 4)
	s.bytes("IP destination address", 4)
	s.options(header-20, "IPv4", ipv4Options)
	s.transport(protocol, fragment > 0)
}

// options names options in the format that IPv4 and TCP share: two kinds of one
// byte, all others with their length.
func (s *shape) options(n int, of string, names map[byte]string) {
	for n = min(n, s.left()); n > 0; {
		kind, length, name := s.peek(0), 1, ""
		switch kind {
		case 0:
			name = "end of options"
		case 1:
			name = "no operation"
		default:
			if n > 1 {
				length = min(max(2, int(s.peek(1))), n)
			}
			if name = names[kind]; name == "" {
				name = fmt.Sprintf("%d", kind)
			}
		}
		s.bytes(of+" option "+name, length)
		n -= length
	}
}

// ipv6 names the fields of RFC 8200.
func (s *shape) ipv6() {
	s.ip = true
	payload, next := s.peek16(4), s.peek(6)
	if payload > 0 {
		s.until(40 + payload)
	}
	s.bits("IP version", 4)
	s.bits("DSCP", 6)
	s.bits("ECN", 2)
	s.bits("IPv6 flow label", 20)
	s.bytes("IPv6 payload length", 2)
	s.bytes("IPv6 next header", 1)
	s.bytes("TTL", 1)
	s.bytes("IP source address", 16)
	s.bytes("IP destination address", 16)
	s.extensions(next)
}

var extensions = map[byte]string{
	protoHopByHop: "hop-by-hop options", protoRouting: "routing header", protoDestOpts: "destination options",
	protoAH: "authentication header", protoFragment: "fragment header", protoMobility: "mobility header",
}

// extensions names the headers between IPv6 and the transport (RFC 8200 section 4).
func (s *shape) extensions(next byte) {
	later := false
	for s.left() >= 8 {
		name := extensions[next]
		if name == "" {
			break
		}
		here := next
		next = s.peek(0)
		length := 8 + 8*int(s.peek(1))
		switch here {
		case protoFragment:
			later = s.peek16(2)>>3 > 0
			s.bytes(name+": next header", 1)
			s.bytes(name+": reserved", 1)
			s.bits(name+": offset", 13)
			s.bits(name+": flags", 3)
			s.bytes(name+": identification", 4)
			if later { // what follows is the middle of something
				s.rest("fragment's payload")
				return
			}
			continue
		case protoAH: // RFC 4302 section 2.2: in words of 4 bytes, minus 2
			length = 8 + 4*int(s.peek(1))
		}
		s.bytes(name+": next header", 1)
		s.bytes(name+": length", 1)
		s.bytes(name, length-2)
	}
	s.transport(next, later)
}
