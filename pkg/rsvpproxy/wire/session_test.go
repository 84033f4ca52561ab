package wire

import "testing"

// TestSessionRFC2205AppendixA1 has the figure's layout.
func TestSessionRFC2205AppendixA1(t *testing.T) {
	for _, tc := range []struct {
		s     Session
		ctype uint8
		want  string
	}{
		{Session{Dst: ip("10.1.36.6"), Protocol: 17, Flags: SessionEPolice, DstPort: 5004}, 1, "000c 0101 0a012406 11 01 138c"},
		{Session{Dst: ip("2001:db8::6"), Protocol: 6, Flags: 0, DstPort: 80}, 2, "0018 0102 20010db8000000000000000000000006 06 00 0050"},
	} {
		body := golden(t, tc.s, tc.want)
		if got, err := decodeSession(tc.ctype, body); err != nil || got != tc.s {
			t.Errorf("decoded %v, %v", got, err)
		}
		if _, err := decodeSession(tc.ctype, body[:len(body)-4]); err == nil || err.Kind != KindObjectLength {
			t.Errorf("cut off: %v", err)
		}
		if _, err := decodeSession(9, body); err == nil || err.Code != ErrUnknownCType || err.Value != 0x0109 {
			t.Errorf("C-Type 9: %v", err)
		}
	}
}

// TestSessionCheckRFC2205AppendixA1: DestAddress and Protocol Id must be non-zero.
func TestSessionCheckRFC2205AppendixA1(t *testing.T) {
	for s, want := range map[Session]Kind{
		{Protocol: 17}:                            KindAddress,
		{Dst: ip("0.0.0.0"), Protocol: 17}:        KindAddress,
		{Dst: ip("::"), Protocol: 17}:             KindAddress,
		{Dst: ip("::ffff:0.0.0.0"), Protocol: 17}: KindAddress,
		{Dst: ip("10.0.0.1")}:                     KindProtocol,
	} {
		if err := s.check(); err == nil || err.Kind != want {
			t.Errorf("%v: %v, want %v", s, err, want)
		}
	}
	multicast := Session{Dst: ip("224.1.2.3"), Protocol: 17}
	if err := multicast.check(); err != nil {
		t.Errorf("multicast session: %v", err)
	}
}

func TestSessionKey(t *testing.T) {
	a := Session{Dst: ip("10.0.0.1"), Protocol: 6, Flags: SessionEPolice, DstPort: 80}
	b := Session{Dst: ip("10.0.0.1"), Protocol: 6, Flags: 0, DstPort: 80}
	if a.Key() != b.Key() || a.Key() != b {
		t.Error("flags belong to the key")
	}
	if a.String() != "10.0.0.1/6/80" {
		t.Error(a)
	}
}
