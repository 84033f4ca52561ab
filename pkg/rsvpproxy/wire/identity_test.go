package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIdentityRFC3182Section4_1 has the layout of simple user authentication:
// the length does not count the padding.
func TestIdentityRFC3182Section4_1(t *testing.T) {
	id := Identity{Type: AuthUser, Attributes: []AuthAttribute{
		{AuthPolicyLocator, LocatorASCII, []byte("CN=A")},
		{AuthCredential, CredentialASCII, []byte("ann")},
		{AuthDigitalSignature, 0, []byte{1}},
	}}
	e, err := id.Element()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(unhex("0008 01 01 434e3d41 0007 02 01 616e6e 00 0005 03 00 01 000000"), e.Body); d != "" {
		t.Error(d)
	}
	got, err := ParseIdentity(e)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(id, got); d != "" {
		t.Error(d)
	}
	if v, ok := got.Value(AuthCredential, CredentialASCII); !ok || string(v) != "ann" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := got.Value(AuthCredential, CredentialX509); ok {
		t.Error("a certificate was found")
	}
	for n := range e.Body {
		if got, err := ParseIdentity(PolicyElement{AuthUser, e.Body[:n]}); err == nil {
			if again, err := got.Element(); err != nil || len(again.Body) != n {
				t.Errorf("prefix of %d bytes read as %d, %v", n, len(again.Body), err)
			}
		}
	}
}

// TestIdentityErrorRFC3182Section3_3_4: what a policy node reports.
func TestIdentityErrorRFC3182Section3_3_4(t *testing.T) {
	id := Identity{Type: AuthApp, Attributes: []AuthAttribute{NewAuthError(AuthExpiredCredential, "yesterday")}}
	e, err := id.Element()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIdentity(e)
	if err != nil {
		t.Fatal(err)
	}
	if v, text, ok := got.PolicyError(); !ok || v != AuthExpiredCredential || string(text) != "yesterday" {
		t.Errorf("%d, %q, %v", v, text, ok)
	}
	if _, _, ok := (Identity{}).PolicyError(); ok {
		t.Error("an error was found in nothing")
	}
}

// TestIdentityRefusedRFC3182Section3_3: lengths of zero, below four and past
// the end; a signature that is not last (section 3.3.3).
func TestIdentityRefusedRFC3182Section3_3(t *testing.T) {
	for name, e := range map[string]PolicyElement{
		"length 0":        {AuthUser, unhex("00000101")},
		"length 3":        {AuthUser, unhex("00030101")},
		"past the end":    {AuthUser, unhex("00090101 00000000")},
		"padding missing": {AuthUser, unhex("00050101 01")},
		"half a header":   {AuthUser, unhex("00040101 0004")},
		"huge":            {AuthUser, unhex("ffff0101")},
		"signature first": {AuthUser, unhex("00040300 00040101")},
		"short error":     {AuthUser, unhex("00040400")},
		"type":            {PreemptionPriority, nil},
	} {
		if _, err := ParseIdentity(e); err == nil || asError(t, err).Value != PolicyBadElement {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, id := range map[string]Identity{
		"type":            {Type: PreemptionPriority},
		"signature first": {Type: AuthUser, Attributes: []AuthAttribute{{Type: AuthDigitalSignature}, {Type: AuthCredential}}},
		"too long":        {Type: AuthUser, Attributes: []AuthAttribute{{Type: AuthCredential, Value: make([]byte, 1<<16)}}},
	} {
		if _, err := id.Element(); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}
