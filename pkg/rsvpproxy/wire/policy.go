package wire

import (
	"encoding/binary"
	"slices"
)

// Values of ErrPolicy that say what is wrong with a POLICY_DATA object (RFC
// 2750 Appendix A).
const (
	PolicyBadSyntax  uint16 = 11 // POLICY_DATA object has bad syntax
	PolicyBadElement uint16 = 13 // policy element has bad syntax
)

const policyHeader = 8 // bytes: object header, data offset, reserved (RFC 2750 section 3.1)

// PolicyData is the POLICY_DATA object (RFC 2750 section 3.1). Nodes that do
// not judge policy forward the object as it is (section 4.2): they keep the
// Object.
type PolicyData struct {
	Options  []Object // see [PolicyData.Read]
	Elements []PolicyElement
}

// PolicyType is the P-Type of a policy element.
type PolicyType uint16

// The policy elements that are read here. All others are opaque.
const (
	PreemptionPriority PolicyType = 1 // RFC 3181
	AuthUser           PolicyType = 2 // RFC 3182
	AuthApp            PolicyType = 3 // RFC 3182
	ProxyControlType   PolicyType = 7 // REC_PROXY_CONTROL (RFC 5946 section 4.2)
)

// PolicyElement is one element of a POLICY_DATA object.
type PolicyElement struct {
	Type PolicyType
	Body []byte // without the element's header; a multiple of four bytes
}

// ParsePolicy reads a POLICY_DATA object. An error is an *[Error] whose code
// and value are to be reported (RFC 2750 Appendix A).
func ParsePolicy(o Object) (*PolicyData, error) {
	switch {
	case o.Class != ClassPolicyData:
		return nil, malformed(KindIllegalClass, o.Class, "no POLICY_DATA")
	case o.CType != ctypeOnly:
		return nil, unknownCType(o.Class, o.CType)
	case len(o.Body) < policyHeader-objectHeader || len(o.Body)%4 != 0:
		return nil, badPolicy(PolicyBadSyntax, "%d bytes of contents", len(o.Body))
	}
	offset := int(binary.BigEndian.Uint16(o.Body)) // counts the object header
	if offset < policyHeader || offset%4 != 0 || offset > objectHeader+len(o.Body) {
		return nil, badPolicy(PolicyBadSyntax, "data offset %d, object %d bytes", offset, objectHeader+len(o.Body))
	}
	p := &PolicyData{}
	err := walk(o.Body[policyHeader-objectHeader:offset-objectHeader], func(class Class, ctype uint8, body []byte) error {
		p.Options = append(p.Options, *clone(class, ctype, body))
		return nil
	})
	if err != nil {
		return nil, badPolicy(PolicyBadSyntax, "option: %v", err)
	}
	if err := p.elements(o.Body[offset-objectHeader:]); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *PolicyData) elements(b []byte) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return badPolicy(PolicyBadElement, "%d bytes left", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 4 || n%4 != 0 || n > len(b) {
			return badPolicy(PolicyBadElement, "length %d, %d bytes left", n, len(b))
		}
		p.Elements = append(p.Elements, PolicyElement{
			Type: PolicyType(binary.BigEndian.Uint16(b[2:])), Body: slices.Clone(b[4:n]),
		})
		b = b[n:]
	}
	return nil
}

// Element returns the first element of a type.
func (p *PolicyData) Element(t PolicyType) (PolicyElement, bool) {
	for _, e := range p.Elements {
		if e.Type == t {
			return e, true
		}
	}
	return PolicyElement{}, false
}

// Object returns p as an object.
func (p *PolicyData) Object() (Object, error) {
	b := make([]byte, policyHeader-objectHeader, 64)
	for _, o := range p.Options {
		if len(o.Body)%4 != 0 || len(o.Body) > MaxMessage {
			return Object{}, badPolicy(PolicyBadSyntax, "option %v of %d bytes", o.Class, len(o.Body))
		}
		b = appendObject(b, o)
	}
	offset := objectHeader + len(b)
	for _, e := range p.Elements {
		if len(e.Body)%4 != 0 || len(e.Body) > MaxMessage {
			return Object{}, badPolicy(PolicyBadElement, "element %d of %d bytes", e.Type, len(e.Body))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(e.Body)))
		b = binary.BigEndian.AppendUint16(b, uint16(e.Type))
		b = append(b, e.Body...)
	}
	if commonHeader+objectHeader+len(b) > MaxMessage {
		return Object{}, malformed(KindTooLong, ClassPolicyData, "%d bytes", len(b))
	}
	binary.BigEndian.PutUint16(b, uint16(offset))
	return Object{Class: ClassPolicyData, CType: ctypeOnly, Body: b}, nil
}

func badPolicy(value uint16, format string, args ...any) *Error {
	e := malformed(KindPolicy, ClassPolicyData, format, args...)
	e.CType, e.Code, e.Value, e.Respond = ctypeOnly, ErrPolicy, value, true
	return e
}
