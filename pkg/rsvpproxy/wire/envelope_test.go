package wire

import (
	"bytes"
	"testing"
)

// TestOpen finds INTEGRITY and RSVP_HOP in every message.
func TestOpen(t *testing.T) {
	for name, m := range samples() {
		b := encode(t, m)
		e, err := Open(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e.Type != m.Type || e.Signed != (m.Integrity != nil) || e.Start != commonHeader {
			t.Errorf("%s: %+v", name, e)
		}
		if (m.Hop == nil) == e.Hop.IsValid() || m.Hop != nil && e.Hop != m.Hop.Addr {
			t.Errorf("%s: hop %v", name, e.Hop)
		}
		if e.Signed && !bytes.Equal(b[e.DigestAt:e.End], m.Integrity.Body[integrityFixed:]) {
			t.Errorf("%s: digest at %d to %d", name, e.DigestAt, e.End)
		}
		if n := testing.AllocsPerRun(50, func() { _, _ = Open(b) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestOpenRefuses: what real parsers fell over.
func TestOpenRefuses(t *testing.T) {
	hop := Hop{Addr: four.hop}
	integrity := *handshakes()["response"].Integrity
	for name, tc := range map[string]struct {
		b    []byte
		want Kind
	}{
		"empty":                       {nil, KindShort},
		"INTEGRITY behind HOP":        {raw(Path, hop, integrity), KindOrder},
		"INTEGRITY at the end":        {raw(Path, Session{Dst: four.dst}, hop, integrity), KindOrder},
		"INTEGRITY twice":             {raw(Path, integrity, integrity), KindOrder},
		"INTEGRITY behind an unknown": {raw(Path, Object{Class: 0xc0}, integrity), KindOrder},
		"INTEGRITY without digest":    {raw(Path, Object{ClassIntegrity, 1, make([]byte, 16)}), KindObjectLength},
		"INTEGRITY empty":             {raw(Path, Object{ClassIntegrity, 1, nil}), KindObjectLength},
		"INTEGRITY C-Type":            {raw(Path, Object{ClassIntegrity, 2, make([]byte, 32)}), KindUnknownCType},
		"HOP short":                   {raw(Path, Object{ClassHop, 1, make([]byte, 4)}), KindObjectLength},
		"HOP C-Type":                  {raw(Path, Object{ClassHop, 9, make([]byte, 8)}), KindUnknownCType},
		"object of length 0":          {reseal(append(raw(Path, integrity), 0, 0, 1, 1)), KindObjectLength},
		"object of length 3":          {reseal(append(raw(Path, integrity), 0, 3, 1, 1)), KindObjectLength},
		"object past the end":         {reseal(append(raw(Path, integrity), 0, 8, 1, 1)), KindObjectLength},
		"half an object header":       {reseal(append(raw(Path, integrity), 0, 4)), KindObjectLength},
		"Bundle":                      {raw(12, integrity), KindType},
	} {
		if _, err := Open(tc.b); err == nil || asError(t, err).Kind != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	e, err := Open(raw(Path, Object{}, integrity, hop))
	if err != nil || !e.Signed || e.Start != commonHeader+objectHeader {
		t.Errorf("INTEGRITY behind a NULL: %+v, %v", e, err)
	}
}
