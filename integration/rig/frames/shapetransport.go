package frames

var tcpOptions = map[byte]string{
	2: "MSS", 3: "window scale", 4: "SACK permitted", 5: "SACK", 8: "timestamps", 19: "MD5", 30: "MPTCP", 34: "fast open",
}

// transport names the fields of what IP carries.
func (s *shape) transport(protocol byte, laterFragment bool) {
	switch {
	case laterFragment:
		s.rest("fragment's payload")
	case protocol == protoTCP && s.left() >= 20:
		s.tcp()
	case protocol == protoUDP && s.left() >= 8:
		s.bytes("source port", 2)
		s.bytes("destination port", 2)
		s.bytes("UDP length", 2)
		s.bytes("UDP checksum", 2)
		s.rest("UDP payload")
	case protocol == protoICMP || protocol == protoICMPv6 || protocol == protoIGMP:
		name := map[byte]string{protoICMP: "ICMP", protoICMPv6: "ICMPv6", protoIGMP: "IGMP"}[protocol]
		s.bytes(name+" type", 1)
		s.bytes(name+" code", 1)
		s.bytes(name+" checksum", 2)
		s.rest(name + " body")
	case protocol == protoSCTP && s.left() >= 12:
		s.bytes("source port", 2)
		s.bytes("destination port", 2)
		s.bytes("SCTP verification tag", 4)
		s.bytes("SCTP checksum", 4)
		s.rest("SCTP chunks")
	case protocol == protoGRE:
		s.bytes("GRE flags", 2)
		s.bytes("GRE protocol", 2)
		s.rest("GRE payload")
	case protocol == protoESP:
		s.bytes("ESP SPI", 4)
		s.bytes("ESP sequence number", 4)
		s.rest("ESP payload")
	}
	s.rest("IP payload")
}

func (s *shape) tcp() {
	header := int(s.peek(12)>>4) * 4
	s.bytes("source port", 2)
	s.bytes("destination port", 2)
	s.bytes("TCP sequence number", 4)
	s.bytes("TCP acknowledgment number", 4)
	s.bits("TCP data offset", 4)
	s.bits("TCP flags", 12)
	s.bytes("TCP window", 2)
	s.bytes("TCP checksum", 2)
	s.bytes("TCP urgent pointer", 2)
	s.options(header-20, "TCP", tcpOptions)
	s.rest("TCP payload")
}
