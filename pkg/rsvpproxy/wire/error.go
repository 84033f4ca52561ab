package wire

import (
	"fmt"
	"net/netip"
)

// Kind tells why a message was refused. Its name is fit for a metric's label.
type Kind uint8

// The kinds. Up to KindSourcePort: malformed messages, which are counted and
// logged here and never reported to end systems (RFC 2205 Appendix B).
const (
	KindShort          Kind = iota + 1 // fewer bytes than a header
	KindVersion                        // not RSVP version 1
	KindLength                         // RSVP Length is not the message's length
	KindChecksum                       // wrong checksum
	KindType                           // not one of the seven messages
	KindObjectLength                   // object length not a multiple of 4, below 4, past the end or wrong for its type
	KindMissing                        // required object missing
	KindDuplicate                      // object that may appear once appears again
	KindIllegalClass                   // class does not belong into this message type
	KindOrder                          // object order violated
	KindFlowCount                      // flow descriptors do not fit style or message type
	KindAddress                        // address that is zero, of the wrong family or no unicast
	KindProtocol                       // SESSION without a protocol
	KindSourcePort                     // SrcPort though the session has no DstPort (RFC 2205 section 3.2)
	KindTooLong                        // does not fit into one message (Append only)
	KindUnknownClass                   // code 13
	KindUnknownCType                   // code 14
	KindUnknownStyle                   // code 6
	KindTrafficControl                 // code 21
	KindFormat                         // formats of session and filters do not fit, or a format's own rule is broken
	KindPolicy                         // code 2: POLICY_DATA that breaks its syntax
)

var kindNames = [...]string{
	KindShort: "short", KindVersion: "version", KindLength: "length", KindChecksum: "checksum",
	KindType: "message-type", KindObjectLength: "object-length", KindMissing: "missing-object",
	KindDuplicate: "duplicate-object", KindIllegalClass: "illegal-class", KindOrder: "object-order",
	KindFlowCount: "flow-count", KindAddress: "address", KindProtocol: "protocol",
	KindSourcePort: "source-port", KindTooLong: "too-long", KindUnknownClass: "unknown-class",
	KindUnknownCType: "unknown-ctype", KindUnknownStyle: "unknown-style",
	KindTrafficControl: "traffic-control", KindFormat: "format", KindPolicy: "policy-data",
}

// String returns the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// Error is why a message, or a flow descriptor of it, was refused.
type Error struct {
	Kind   Kind
	Class  Class // the object concerned, 0 if none
	CType  uint8
	Code   ErrorCode // for the ERROR_SPEC; meaningful if Respond
	Value  uint16
	Detail string
	// Respond says that RFC 2205 wants the message answered: a Path by a
	// PathErr, a Resv by a ResvErr. Otherwise it is logged and dropped.
	Respond bool
}

// Error says what is wrong.
func (e *Error) Error() string {
	s := "rsvp: " + e.Kind.String()
	if e.Class != 0 {
		s += fmt.Sprintf(": %v (C-Type %d)", e.Class, e.CType)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Spec returns the ERROR_SPEC to answer with, node being the answering one.
func (e *Error) Spec(node netip.Addr) *ErrorSpec {
	return &ErrorSpec{Node: node, Code: e.Code, Value: e.Value}
}

func malformed(k Kind, c Class, format string, args ...any) *Error {
	return &Error{Kind: k, Class: c, Detail: fmt.Sprintf(format, args...)}
}

// unknownCType is error 14 (RFC 2205 section 3.10, rule 2).
func unknownCType(c Class, ctype uint8) *Error {
	return &Error{
		Kind: KindUnknownCType, Class: c, CType: ctype, Respond: true,
		Code: ErrUnknownCType, Value: uint16(c)<<8 | uint16(ctype),
	}
}

// unknownClass is error 13 (RFC 2205 section 3.10, rule 1).
func unknownClass(c Class, ctype uint8) *Error {
	e := unknownCType(c, ctype)
	e.Kind, e.Code = KindUnknownClass, ErrUnknownClass
	return e
}

// trafficControl is error 21.
func trafficControl(c Class, value uint16, err error) *Error {
	return &Error{
		Kind: KindTrafficControl, Class: c, CType: ctypeIntServ, Respond: true,
		Code: ErrTrafficControl, Value: value, Detail: err.Error(),
	}
}
