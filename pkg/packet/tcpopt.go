package packet

import "encoding/binary"

// Kinds of TCP options (IANA registry).
const (
	OptEnd           = 0
	OptNop           = 1
	OptMSS           = 2
	OptWindowScale   = 3
	OptSACKPermitted = 4
	OptSACK          = 5
	OptTimestamps    = 8
	OptMD5           = 19  // RFC 2385
	OptAO            = 29  // RFC 5925
	OptMPTCP         = 30  // RFC 8684
	OptFastOpen      = 34  // RFC 7413
	OptENO           = 69  // RFC 8547
	OptAccECN0       = 172 // RFC 9768
	OptAccECN1       = 174
	OptExp1          = 253
	OptExp2          = 254
)

// SACKBlock is a range [Left, Right) that the receiver holds, RFC 2018.
type SACKBlock struct{ Left, Right Seq }

// TCPOptions is what the options of one segment say.
type TCPOptions struct {
	MSS           uint16 // bytes; 0 if absent
	WindowScale   int8   // shift, at most 14 (RFC 7323 section 2.3); -1 if absent
	SACKPermitted bool
	HasTimestamps bool
	TSVal, TSEcr  uint32
	TSOffset      int // offset of the timestamps option in the options; -1 if absent
	NSACK         int // SACK blocks in use
	SACK          [4]SACKBlock
	MD5, AO       bool // signed segments: nobody else can make one
	MPTCP         bool
	FastOpen      bool // RFC 7413, or its experimental form
	ENO           bool
	AccECN        bool
	Unknown       bool // a kind that this table does not have
}

// ParseOptions walks the options. ok is false if an option's length runs out
// of the header or is below two; what came before it is still in the result.
// A host would ignore such a rest, a middlebox should leave the flow alone.
func ParseOptions(b []byte) (o TCPOptions, ok bool) {
	o.WindowScale, o.TSOffset = -1, -1
	for i := 0; i < len(b); {
		kind := b[i]
		if kind == OptEnd {
			return o, true
		}
		if kind == OptNop {
			i++
			continue
		}
		if i+1 >= len(b) {
			return o, false
		}
		n := int(b[i+1])
		if n < 2 || i+n > len(b) {
			return o, false
		}
		if !o.add(kind, b[i+2:i+n], i) {
			return o, false
		}
		i += n
	}
	return o, true
}

// add notes one option; false if its length is not that of its kind.
func (o *TCPOptions) add(kind byte, v []byte, at int) bool {
	switch kind {
	case OptMSS:
		if len(v) != 2 {
			return false
		}
		o.MSS = binary.BigEndian.Uint16(v)
	case OptWindowScale:
		if len(v) != 1 {
			return false
		}
		o.WindowScale = int8(min(v[0], 14))
	case OptSACKPermitted:
		o.SACKPermitted = true
	case OptTimestamps:
		if len(v) != 8 {
			return false
		}
		o.HasTimestamps, o.TSOffset = true, at
		o.TSVal, o.TSEcr = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])
	case OptSACK:
		if len(v)%8 != 0 || len(v) > 32 {
			return false
		}
		o.NSACK = len(v) / 8
		for j := range o.NSACK {
			o.SACK[j] = SACKBlock{
				Left:  Seq(binary.BigEndian.Uint32(v[j*8:])),
				Right: Seq(binary.BigEndian.Uint32(v[j*8+4:])),
			}
		}
	case OptMD5:
		o.MD5 = true
	case OptAO:
		o.AO = true
	case OptMPTCP:
		o.MPTCP = true
	case OptFastOpen:
		o.FastOpen = true
	case OptENO:
		o.ENO = true
	case OptAccECN0, OptAccECN1:
		o.AccECN = true
	case OptExp1, OptExp2:
		// RFC 7413 appendix: the experimental Fast Open carries 0xF989.
		if len(v) >= 2 && binary.BigEndian.Uint16(v) == 0xF989 {
			o.FastOpen = true
		} else {
			o.Unknown = true
		}
	default:
		o.Unknown = true
	}
	return true
}
