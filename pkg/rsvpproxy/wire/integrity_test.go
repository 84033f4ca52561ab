package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIntegrityRFC2747Section2_1 has the figure's layout.
func TestIntegrityRFC2747Section2_1(t *testing.T) {
	i := Integrity{
		Flags: HandshakeFlag, KeyID: 0x0a0b0c0d0e0f, Sequence: 0x1122334455667788,
		Digest: unhex("000102030405060708090a0b0c0d0e0f"),
	}
	golden(t, i.Object(), "0024 0401 01 00 0a0b0c0d0e0f 1122334455667788 000102030405060708090a0b0c0d0e0f")
	got, err := ParseIntegrity(i.Object())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(i, got); d != "" {
		t.Error(d)
	}
	for n := range i.Object().Body {
		o := i.Object()
		o.Body = o.Body[:n]
		if _, err := ParseIntegrity(o); (err == nil) != (n > integrityFixed && n%4 == 0) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for flags, want := range map[uint8]bool{0: false, 0x01: true, 0x80: true, 0x7e: false} {
		if (Integrity{Flags: flags}).Handshake() != want {
			t.Errorf("flags %#02x: %v", flags, !want)
		}
	}
	if _, err := ParseIntegrity(Object{Class: ClassIntegrity, CType: 2, Body: make([]byte, 32)}); err == nil || asError(t, err).Kind != KindUnknownCType {
		t.Errorf("C-Type 2: %v", err)
	}
	if _, err := ParseIntegrity(Object{Class: ClassStyle, CType: 1, Body: make([]byte, 32)}); err == nil {
		t.Error("STYLE accepted")
	}
}
