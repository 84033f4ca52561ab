package wire

import "net/netip"

// Format is how SESSION, FILTER_SPEC and SENDER_TEMPLATE name the data: each
// format has C-Types of its own.
type Format uint8

// The formats.
const (
	FormatPorts            Format = iota // addresses and ports (RFC 2205)
	FormatGPI                            // IPsec: an SPI in the place of the ports (RFC 2207)
	FormatAggregate                      // the traffic of a DSCP between two routers (RFC 3175)
	FormatGenericAggregate               // the same, of a PHB and several of them (RFC 4860); its filters are FormatAggregate
	FormatFlowLabel                      // of filters alone, in IPv6 sessions of FormatPorts: a flow label in the place of the source port (RFC 2205 Appendix A.9)
)

var formatNames = [...]string{
	FormatPorts: "ports", FormatGPI: "gpi", FormatAggregate: "aggregate",
	FormatGenericAggregate: "generic-aggregate", FormatFlowLabel: "flow-label",
}

// String returns the format's name.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return "unknown"
}

// The C-Types of the formats for IPv4; the ones for IPv6 come next to them.
var (
	sessionCTypes = [...]uint8{FormatPorts: 1, FormatGPI: 3, FormatAggregate: 9, FormatGenericAggregate: 17}
	filterCTypes  = [...]uint8{FormatPorts: 1, FormatGPI: 4, FormatAggregate: 9, FormatFlowLabel: 2} // a flow label is of IPv6 alone
)

// Filters returns the format of the filters that belong to a session.
func (f Format) Filters() Format {
	if f == FormatGenericAggregate {
		return FormatAggregate // RFC 4860 section 3
	}
	return f
}

// The protocols whose packets an SPI tells apart (RFC 2207 section 4.1).
const (
	ProtoESP = 50
	ProtoAH  = 51
)

// Takes says whether filters of a format belong to a session (RFC 2207 section 4.1).
// A session of ports has senders that a source port names, and over IPv6 such that a
// flow label does.
func (s Session) Takes(f Format) bool {
	return f == s.Format.Filters() || f == FormatFlowLabel && s.Format == FormatPorts && !s.Dst.Is4()
}

// Formats is a set of formats.
type Formats uint8

// The sets that [ParseWith] takes, to be or-ed together. FormatPorts is always
// understood.
const (
	AcceptGPI Formats = 1 << iota
	AcceptAggregate
	AcceptGenericAggregate
)

// AllFormats is every format that there is.
const AllFormats = AcceptGPI | AcceptAggregate | AcceptGenericAggregate

func (fs Formats) has(f Format) bool {
	return f == FormatPorts || f == FormatFlowLabel || fs&(1<<(f-1)) != 0
}

// formatOf finds the format that a C-Type stands for, and the C-Type that the
// address alone would have.
func (fs Formats) formatOf(ctypes []uint8, ctype uint8) (Format, uint8, bool) {
	for f, base := range ctypes { // C-Type 2 is that of ports, which come first
		if base == 0 {
			continue // of sessions alone
		}
		if base == ctype || base+1 == ctype {
			return Format(f), ctypeIPv4 + ctype - base, fs.has(Format(f))
		}
	}
	return 0, 0, false
}

// filterFormats: RFC 4860 has the filters of RFC 3175.
func (fs Formats) filterFormats() Formats {
	if fs&AcceptGenericAggregate != 0 {
		fs |= AcceptAggregate
	}
	return fs
}

func ctypeOf(ctypes []uint8, f Format, a netip.Addr) uint8 {
	if int(f) >= len(ctypes) {
		return 0 // check refuses it
	}
	return ctypes[f] + addrCType(a) - ctypeIPv4
}

// ParseWith is [Parse] for a node that understands more than addresses and
// ports. Parse itself answers the C-Types of other formats by error 14, as a
// node without these extensions does (RFC 2205 section 3.10).
func ParseWith(b []byte, accept Formats) (*Message, error) { return Options{Formats: accept}.Parse(b) }
