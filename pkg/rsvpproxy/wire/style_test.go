package wire

import "testing"

// TestStyleRFC2205AppendixA7 has the option vectors.
func TestStyleRFC2205AppendixA7(t *testing.T) {
	for s, tc := range map[Style]struct{ name, bytes string }{
		WF: {"wf", "0008 0801 00000011"},
		FF: {"ff", "0008 0801 0000000a"},
		SE: {"se", "0008 0801 00000012"},
	} {
		body := golden(t, s, tc.bytes)
		if got, err := decodeStyle(1, body); err != nil || got != s || got.String() != tc.name {
			t.Errorf("decoded %v, %v", got, err)
		}
		// Flags and fields that may be defined later are ignored.
		body[0], body[1], body[2] = 0xff, 0xff, 0xff
		if got, err := decodeStyle(1, body); err != nil || got != s {
			t.Errorf("with new options: %v, %v", got, err)
		}
	}
}

func TestStyleUnknownRFC2205AppendixB(t *testing.T) {
	s, err := decodeStyle(1, unhex("00000109"))
	if err == nil || err.Code != ErrUnknownStyle || !err.Respond || s != 0x109 {
		t.Errorf("%v, %v", s, err)
	}
	if s.String() != "style-0x109" || Style(0).String() != "" {
		t.Error(s)
	}
}
