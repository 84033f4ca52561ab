package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func handshakes() map[string]*Handshake {
	c := Challenge{KeyID: 0x0a0b0c0d0e0f, Cookie: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	i := Integrity{KeyID: c.KeyID, Sequence: 9, Digest: make([]byte, 16)}.Object()
	return map[string]*Handshake{
		"challenge": {Type: IntegrityChallenge, SendTTL: 255, Challenge: c},
		"response":  {Type: IntegrityResponse, Flags: 1, SendTTL: 255, Challenge: c, Integrity: &i},
	}
}

// TestChallengeRFC2747Section4_3 has the figure's layout.
func TestChallengeRFC2747Section4_3(t *testing.T) {
	golden(t, handshakes()["challenge"].Challenge, "0014 4001 0000 0a0b0c0d0e0f 0102030405060708")
}

// TestHandshakeTypesRFC3097: 11 and 12 of RFC 2747 became 25 and 26.
func TestHandshakeTypesRFC3097(t *testing.T) {
	b := sealed(t, handshakes()["challenge"])
	if b[1] != 25 || sealed(t, handshakes()["response"])[1] != 26 {
		t.Errorf("types % x", b[:2])
	}
	for _, old := range []byte{11, 12} {
		b[1] = old
		if _, err := ParseHandshake(reseal(b)); err == nil || asError(t, err).Kind != KindType {
			t.Errorf("type %d: %v", old, err)
		}
	}
}

func sealed(t testing.TB, h *Handshake) []byte {
	t.Helper()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHandshakeRoundTrip(t *testing.T) {
	for name, h := range handshakes() {
		b := sealed(t, h)
		got, err := ParseHandshake(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(h, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		for n := range b {
			if _, err := ParseHandshake(b[:n]); err == nil {
				t.Errorf("%s: prefix of %d bytes accepted", name, n)
			}
			if n < commonHeader {
				continue
			}
			if _, err := ParseHandshake(reseal(append([]byte{}, b[:n]...))); err == nil {
				t.Errorf("%s: sealed prefix of %d bytes accepted", name, n)
			}
		}
		// The other parsers leave them alone.
		if _, err := Parse(b); err == nil || asError(t, err).Kind != KindType {
			t.Errorf("%s: Parse: %v", name, err)
		}
	}
}

// TestHandshakeReserved: the response returns the original object.
func TestHandshakeReserved(t *testing.T) {
	h := handshakes()["challenge"]
	h.Challenge.Reserved = 0xffff
	got, err := ParseHandshake(sealed(t, h))
	if err != nil || got.Challenge != h.Challenge {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestHandshakeRefused(t *testing.T) {
	challenge := handshakes()["challenge"].Challenge
	integrity := *handshakes()["response"].Integrity
	for name, tc := range map[string]struct {
		t    MsgType
		os   []object
		want Kind
	}{
		"empty":                   {IntegrityChallenge, nil, KindMissing},
		"response without key":    {IntegrityResponse, []object{challenge}, KindMissing},
		"signed challenge":        {IntegrityChallenge, []object{integrity, challenge}, KindIllegalClass},
		"INTEGRITY last":          {IntegrityResponse, []object{challenge, integrity}, KindOrder},
		"INTEGRITY twice":         {IntegrityResponse, []object{integrity, integrity, challenge}, KindIllegalClass},
		"CHALLENGE twice":         {IntegrityChallenge, []object{challenge, challenge}, KindIllegalClass},
		"CHALLENGE short":         {IntegrityChallenge, []object{Object{ClassChallenge, 1, make([]byte, 12)}}, KindObjectLength},
		"CHALLENGE empty":         {IntegrityChallenge, []object{Object{ClassChallenge, 1, nil}}, KindObjectLength},
		"CHALLENGE C-Type":        {IntegrityChallenge, []object{Object{ClassChallenge, 2, make([]byte, 16)}}, KindUnknownCType},
		"SESSION":                 {IntegrityChallenge, []object{challenge, Session{Dst: four.dst}}, KindIllegalClass},
		"class that must be read": {IntegrityChallenge, []object{challenge, Object{Class: 66}}, KindIllegalClass},
	} {
		h, err := ParseHandshake(raw(tc.t, tc.os...))
		if err == nil || h != nil || asError(t, err).Kind != tc.want || asError(t, err).Respond {
			t.Errorf("%s: %+v, %v, want %v", name, h, err, tc.want)
		}
	}
	for _, ignored := range []Object{{}, {Class: 0x80}, {Class: 0xc0, Body: make([]byte, 4)}} {
		if _, err := ParseHandshake(raw(IntegrityChallenge, ignored, challenge)); err != nil {
			t.Errorf("%v: %v", ignored, err)
		}
	}
	for name, h := range map[string]Handshake{
		"type":             {Type: Path},
		"signed challenge": {Type: IntegrityChallenge, Integrity: &integrity},
		"not INTEGRITY":    {Type: IntegrityResponse, Integrity: &Object{Class: ClassStyle}},
		"odd":              {Type: IntegrityResponse, Integrity: &Object{Class: ClassIntegrity, Body: []byte{1}}},
	} {
		if _, err := h.Append(nil); err == nil {
			t.Errorf("%s: appended", name)
		}
	}
}
