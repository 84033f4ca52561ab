package wire

import (
	"encoding/binary"
	"net/netip"
)

// Flags of the ERROR_SPEC object (RFC 2205 Appendix A.5).
const (
	// InPlace: there was, and still is, a reservation at the failure point.
	InPlace = 0x01
	// NotGuilty: the FLOWSPEC that failed was greater than this receiver's. It
	// is set only towards the application.
	NotGuilty = 0x02
)

// ErrorSpec is the ERROR_SPEC object (RFC 2205 Appendix A.5).
type ErrorSpec struct {
	Node  netip.Addr // where the error was found
	Flags uint8
	Code  ErrorCode
	Value uint16
}

// String is for people.
func (e ErrorSpec) String() string {
	s := Describe(e.Code, e.Value) + " at " + e.Node.String()
	if e.Flags&InPlace != 0 {
		s += ", the earlier reservation stays in place"
	}
	return s
}

func (e ErrorSpec) header() (Class, uint8) { return ClassErrorSpec, addrCType(e.Node) }
func (e ErrorSpec) size() int              { return addrSize(e.Node) + 4 }

func (e ErrorSpec) appendBody(b []byte) []byte {
	b = appendAddr(b, e.Node)
	b = append(b, e.Flags, uint8(e.Code))
	return binary.BigEndian.AppendUint16(b, e.Value)
}

func decodeErrorSpec(ctype uint8, body []byte) (*ErrorSpec, *Error) {
	node, rest, err := decodeAddr(ClassErrorSpec, ctype, body, 4)
	if err != nil {
		return nil, err
	}
	return &ErrorSpec{
		Node: node, Flags: rest[0], Code: ErrorCode(rest[1]), Value: binary.BigEndian.Uint16(rest[2:]),
	}, nil
}
