package packet

import "encoding/binary"

// TCP flags, RFC 9293 section 3.1.
const (
	FlagFIN = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
)

// TCP is a TCP segment: header, options, payload. It must come from a View
// (which has checked the lengths).
type TCP []byte

// SrcPort is the source port.
func (t TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(t) }

// DstPort is the destination port.
func (t TCP) DstPort() uint16 { return binary.BigEndian.Uint16(t[2:]) }

// Seq is the sequence number of the first byte, or of the SYN.
func (t TCP) Seq() Seq { return Seq(binary.BigEndian.Uint32(t[4:])) }

// Ack is the acknowledgement number; it means something only with FlagACK.
func (t TCP) Ack() Seq { return Seq(binary.BigEndian.Uint32(t[8:])) }

// HeaderLen is the length of header and options in bytes.
func (t TCP) HeaderLen() int { return int(t[12]>>4) * 4 }

// Flags are the eight low flag bits.
func (t TCP) Flags() uint8 { return t[13] }

// Has tells whether all the flags in mask are set.
func (t TCP) Has(mask uint8) bool { return t[13]&mask == mask }

// AE is the ninth flag bit, the accurate-ECN bit of RFC 9768 (once NS).
func (t TCP) AE() bool { return t[12]&1 != 0 }

// Window is the window field as it stands, not scaled.
func (t TCP) Window() uint16 { return binary.BigEndian.Uint16(t[14:]) }

// Checksum is the checksum field.
func (t TCP) Checksum() uint16 { return binary.BigEndian.Uint16(t[16:]) }

// Urgent is the urgent pointer.
func (t TCP) Urgent() uint16 { return binary.BigEndian.Uint16(t[18:]) }

// Options are the bytes of the options.
func (t TCP) Options() []byte { return t[20:t.HeaderLen()] }

// Payload is the data of the segment.
func (t TCP) Payload() []byte { return t[t.HeaderLen():] }

// SegLen is the length in sequence space: data, and one each for SYN and FIN.
func (t TCP) SegLen() int {
	n := len(t) - t.HeaderLen()
	if t[13]&FlagSYN != 0 {
		n++
	}
	if t[13]&FlagFIN != 0 {
		n++
	}
	return n
}

// The setters change the field only. Whoever uses them ends with
// View.SetTCPChecksum, or updates the checksum by Update16 and Update32.

// SetSeq writes the sequence number.
func (t TCP) SetSeq(s Seq) { binary.BigEndian.PutUint32(t[4:], uint32(s)) }

// SetAck writes the acknowledgement number.
func (t TCP) SetAck(s Seq) { binary.BigEndian.PutUint32(t[8:], uint32(s)) }

// SetFlags writes the eight low flag bits.
func (t TCP) SetFlags(f uint8) { t[13] = f }

// SetWindow writes the window field, not scaled.
func (t TCP) SetWindow(w uint16) { binary.BigEndian.PutUint16(t[14:], w) }

// SetChecksum writes the checksum field.
func (t TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(t[16:], c) }
