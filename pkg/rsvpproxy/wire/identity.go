package wire

import (
	"encoding/binary"
	"slices"
)

// AuthType is the A-Type of an authentication attribute (RFC 3182 section 3.3).
type AuthType uint8

// The attributes.
const (
	AuthPolicyLocator    AuthType = 1
	AuthCredential       AuthType = 2
	AuthDigitalSignature AuthType = 3 // must be the last
	AuthPolicyError      AuthType = 4
)

// Sub-types of AuthPolicyLocator and AuthCredential (RFC 3182 sections 3.3.1,
// 3.3.2).
const (
	LocatorASCII            uint8 = 1 // X.500 distinguished name
	LocatorUnicode          uint8 = 2
	LocatorASCIIEncrypted   uint8 = 3
	LocatorUnicodeEncrypted uint8 = 4

	CredentialASCII    uint8 = 1 // user's or application's name
	CredentialUnicode  uint8 = 2
	CredentialKerberos uint8 = 3
	CredentialX509     uint8 = 4
	CredentialPGP      uint8 = 5
)

// ErrorValues of AuthPolicyError (RFC 3182 section 3.3.4).
const (
	AuthNoMoreInfo             uint16 = 1
	AuthUnsupportedCredential  uint16 = 2
	AuthInsufficientPrivileges uint16 = 3
	AuthExpiredCredential      uint16 = 4
	AuthIdentityChanged        uint16 = 5
)

// AuthAttribute is one attribute of an identity. Its value is opaque.
type AuthAttribute struct {
	Type    AuthType
	SubType uint8
	Value   []byte // any length; padded on the wire
}

// Identity is an AUTH_USER or AUTH_APP policy element (RFC 3182 section 3.2):
// who makes the request.
type Identity struct {
	Type       PolicyType // AuthUser or AuthApp
	Attributes []AuthAttribute
}

// ParseIdentity reads an AUTH_USER or AUTH_APP element.
func ParseIdentity(e PolicyElement) (Identity, error) {
	if e.Type != AuthUser && e.Type != AuthApp {
		return Identity{}, badPolicy(PolicyBadElement, "P-Type %d is no identity", e.Type)
	}
	id := Identity{Type: e.Type}
	for b := e.Body; len(b) > 0; {
		if len(b) < 4 {
			return Identity{}, badPolicy(PolicyBadElement, "attribute: %d bytes left", len(b))
		}
		n := int(binary.BigEndian.Uint16(b)) // without padding
		padded := (n + 3) &^ 3
		if n < 4 || padded > len(b) {
			return Identity{}, badPolicy(PolicyBadElement, "attribute: length %d, %d bytes left", n, len(b))
		}
		id.Attributes = append(id.Attributes, AuthAttribute{Type: AuthType(b[2]), SubType: b[3], Value: slices.Clone(b[4:n])})
		b = b[padded:]
	}
	return id, id.check()
}

func (id Identity) check() error {
	for i, a := range id.Attributes {
		switch {
		case a.Type == AuthDigitalSignature && i < len(id.Attributes)-1:
			return badPolicy(PolicyBadElement, "digital signature is not the last attribute")
		case a.Type == AuthPolicyError && len(a.Value) < 4:
			return badPolicy(PolicyBadElement, "policy error of %d bytes", len(a.Value))
		}
	}
	return nil
}

// Element returns the identity as a policy element.
func (id Identity) Element() (PolicyElement, error) {
	e := PolicyElement{Type: id.Type}
	if id.Type != AuthUser && id.Type != AuthApp {
		return PolicyElement{}, badPolicy(PolicyBadElement, "P-Type %d is no identity", id.Type)
	}
	if err := id.check(); err != nil {
		return PolicyElement{}, err
	}
	for _, a := range id.Attributes {
		n := 4 + len(a.Value)
		if len(e.Body)+n > MaxMessage {
			return PolicyElement{}, malformed(KindTooLong, ClassPolicyData, "attribute of %d bytes", n)
		}
		e.Body = append(binary.BigEndian.AppendUint16(e.Body, uint16(n)), uint8(a.Type), a.SubType)
		e.Body = append(append(e.Body, a.Value...), make([]byte, -n&3)...)
	}
	return e, nil
}

// Value returns the value of the first attribute of a type and sub-type.
func (id Identity) Value(t AuthType, sub uint8) ([]byte, bool) {
	for _, a := range id.Attributes {
		if a.Type == t && a.SubType == sub {
			return a.Value, true
		}
	}
	return nil, false
}

// PolicyError returns what a policy node objects to: the ErrorValue and its
// explanation.
func (id Identity) PolicyError() (value uint16, text []byte, ok bool) {
	b, ok := id.Value(AuthPolicyError, 0)
	if !ok || len(b) < 4 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b[2:]), b[4:], true
}

// NewAuthError returns the attribute that reports a policy error.
func NewAuthError(value uint16, text string) AuthAttribute {
	b := binary.BigEndian.AppendUint16([]byte{0, 0}, value)
	return AuthAttribute{Type: AuthPolicyError, Value: append(b, text...)}
}
