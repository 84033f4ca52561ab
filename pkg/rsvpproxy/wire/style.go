package wire

import (
	"encoding/binary"
	"fmt"
)

// Style is the option vector of the STYLE object (RFC 2205 Appendix A.7), of
// which only the low five bits are interpreted: new fields may be added above.
type Style uint32

// The reservation styles.
const (
	WF Style = 0x11 // wildcard filter: shared, any sender
	FF Style = 0x0a // fixed filter: distinct, explicit senders
	SE Style = 0x12 // shared explicit
)

const (
	styleMask    = 0x1f
	optionVector = 1<<24 - 1
)

// Known says whether s is one of the three styles.
func (s Style) Known() bool { return s == WF || s == FF || s == SE }

// String returns the short name that the configuration file and the API use.
func (s Style) String() string {
	switch s {
	case 0:
		return ""
	case WF:
		return "wf"
	case FF:
		return "ff"
	case SE:
		return "se"
	default:
		return fmt.Sprintf("style-%#x", uint32(s))
	}
}

func (s Style) header() (Class, uint8) { return ClassStyle, ctypeOnly }
func (s Style) size() int              { return 4 }

func (s Style) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(s)&optionVector) // flags: none assigned
}

// decodeStyle returns an unknown style along with its error: the ResvErr that
// answers it has to name it.
func decodeStyle(ctype uint8, body []byte) (Style, *Error) {
	switch {
	case ctype != ctypeOnly:
		return 0, unknownCType(ClassStyle, ctype)
	case len(body) != 4:
		return 0, badSize(ClassStyle, ctype, body)
	}
	vector := binary.BigEndian.Uint32(body) & optionVector
	if vector == 0 {
		// Not even a name that an answer could repeat: 0 is "no STYLE" here.
		return 0, malformed(KindUnknownStyle, ClassStyle, "option vector is zero")
	}
	if s := Style(vector & styleMask); s.Known() {
		return s, nil
	}
	return Style(vector), &Error{
		Kind: KindUnknownStyle, Class: ClassStyle, CType: ctype, Respond: true,
		Code: ErrUnknownStyle, Value: uint16(vector), Detail: Style(vector).String(),
	}
}
