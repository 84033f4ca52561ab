package wire

import "testing"

// TestHopRFC2205AppendixA2 has the figure's layout.
func TestHopRFC2205AppendixA2(t *testing.T) {
	for _, tc := range []struct {
		h     Hop
		ctype uint8
		want  string
	}{
		{Hop{ip("10.1.24.2"), 0x08000403}, 1, "000c 0301 0a011802 08000403"},
		{Hop{ip("2001:db8::2"), 0}, 2, "0018 0302 20010db8000000000000000000000002 00000000"},
	} {
		body := golden(t, tc.h, tc.want)
		if got, err := decodeHop(tc.ctype, body); err != nil || *got != tc.h {
			t.Errorf("decoded %v, %v", got, err)
		}
		if _, err := decodeHop(3-tc.ctype, body); err == nil || err.Kind != KindObjectLength {
			t.Errorf("other family's C-Type: %v", err)
		}
	}
}
