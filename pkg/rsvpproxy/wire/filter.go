package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Filter is a FILTER_SPEC or a SENDER_TEMPLATE, which have the same contents
// (RFC 2205 Appendix A.9, A.10, RFC 2207 section 3.2, RFC 3175 section 3.4). It
// is comparable.
type Filter struct {
	Src     netip.Addr // FormatAggregate: the aggregating router
	SrcPort uint16     // 0: none; FormatPorts only

	Format Format
	SPI    uint32 // FormatGPI: security parameters index of AH or ESP
	Label  uint32 // FormatFlowLabel: 24 bits, of which IPv6 has 20 since RFC 2460
}

// Compare orders the senders of a session, which are of one format: ports and flow
// labels, or an SPI (RFC 2207).
func (f Filter) Compare(o Filter) int {
	if c := f.Src.Compare(o.Src); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(f.SrcPort, o.SrcPort), cmp.Compare(f.SPI, o.SPI), cmp.Compare(f.Label, o.Label))
}

// String is for people.
func (f Filter) String() string {
	switch f.Format {
	case FormatPorts:
		return netip.AddrPortFrom(f.Src, f.SrcPort).String()
	case FormatGPI:
		return fmt.Sprintf("%v/spi %#08x", f.Src, f.SPI)
	case FormatFlowLabel:
		return fmt.Sprintf("%v/label %#05x", f.Src, f.Label)
	default:
		return f.Src.String()
	}
}

const maxLabel = 1<<24 - 1

func (f Filter) size() int {
	if f.Format == FormatAggregate {
		return addrSize(f.Src)
	}
	return addrSize(f.Src) + 4
}

func (f Filter) appendBody(b []byte) []byte {
	b = appendAddr(b, f.Src)
	switch f.Format {
	case FormatGPI:
		return binary.BigEndian.AppendUint32(b, f.SPI)
	case FormatFlowLabel:
		return binary.BigEndian.AppendUint32(b, f.Label&maxLabel)
	case FormatAggregate:
		return b
	default:
		return binary.BigEndian.AppendUint16(append(b, 0, 0), f.SrcPort)
	}
}

func decodeFilter(c Class, ctype uint8, body []byte) (Filter, *Error) {
	return Formats(0).filter(c, ctype, body)
}

// filter decodes a filter of one of the formats.
func (fs Formats) filter(c Class, ctype uint8, body []byte) (Filter, *Error) {
	format, addr, ok := fs.filterFormats().formatOf(filterCTypes[:], ctype)
	if !ok {
		return Filter{}, unknownCType(c, ctype)
	}
	extra := 4
	if format == FormatAggregate {
		extra = 0
	}
	src, rest, err := decodeAddr(c, addr, body, extra)
	if err != nil {
		err.CType = ctype
		return Filter{}, err
	}
	f := Filter{Src: src, Format: format}
	switch format {
	case FormatGPI:
		f.SPI = binary.BigEndian.Uint32(rest)
	case FormatPorts:
		f.SrcPort = binary.BigEndian.Uint16(rest[2:])
	case FormatFlowLabel:
		f.Label = binary.BigEndian.Uint32(rest) & maxLabel
	default:
	}
	return f, nil
}

// check holds a filter to the rules of its session: an address (Appendix A.9)
// of the same family, a format that goes with the session's (RFC 2207 section
// 4.1 calls the contrary a message formatting error), and no SrcPort without a
// DstPort (section 3.2, rule 2).
func (f Filter) check(s Session, c Class) *Error {
	if why := badAddr(f.Src); why != "" {
		return malformed(KindAddress, c, "source: %s", why)
	}
	if f.Src.Is4() != s.Dst.Is4() {
		return malformed(KindAddress, c, "source %v is not of the session's family", f.Src)
	}
	if !s.Takes(f.Format) {
		return malformed(KindFormat, c, "format %v in a session of format %v", f.Format, s.Format)
	}
	if f.Format == FormatFlowLabel && f.Label == 0 {
		return malformed(KindFormat, c, "flow label 0, which names no flow (RFC 6437 section 2)")
	}
	if f.Format == FormatPorts && s.DstPort == 0 && f.SrcPort != 0 {
		return malformed(KindSourcePort, c, "source port %d in a session without destination port", f.SrcPort)
	}
	return nil
}

// filterSpec is a Filter in the role of a FILTER_SPEC object.
type filterSpec struct{ *Filter }

func (f filterSpec) header() (Class, uint8) {
	return ClassFilterSpec, ctypeOf(filterCTypes[:], f.Format, f.Src)
}

// senderTemplate is a Filter in the role of a SENDER_TEMPLATE object.
type senderTemplate struct{ *Filter }

func (f senderTemplate) header() (Class, uint8) {
	return ClassSenderTemplate, ctypeOf(filterCTypes[:], f.Format, f.Src)
}
