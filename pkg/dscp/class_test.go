package dscp

import (
	"slices"
	"testing"
)

// The names and the code points of RFC 4594 figure 3, as RFC 5865 section 3 and
// RFC 8622 section 10 have changed them: written out here once more, from the
// documents.
func TestClassesRFC4594Figure3(t *testing.T) {
	want := map[string][]uint8{
		"network-control":         {0b110000},
		"telephony":               {0b101110},
		"admitted-telephony":      {0b101100},
		"signaling":               {0b101000},
		"multimedia-conferencing": {0b100010, 0b100100, 0b100110},
		"real-time-interactive":   {0b100000},
		"multimedia-streaming":    {0b011010, 0b011100, 0b011110},
		"broadcast-video":         {0b011000},
		"low-latency-data":        {0b010010, 0b010100, 0b010110},
		"oam":                     {0b010000},
		"high-throughput-data":    {0b001010, 0b001100, 0b001110},
		"standard":                {0b000000},
		"low-priority-data":       {0b000001, 0b001000},
	}
	if got := len(Classes()); got != len(want) {
		t.Errorf("%d classes, want %d", got, len(want))
	}
	for _, c := range Classes() {
		if !slices.Equal(c.Codes, want[c.Name]) {
			t.Errorf("%s: code points %v, want %v", c.Name, c.Codes, want[c.Name])
		}
		if c.RFC == "" {
			t.Errorf("%s: no section", c.Name)
		}
		if got, err := Parse(c.Name); err != nil || got != want[c.Name][0] {
			t.Errorf("Parse(%q) = %d, %v; want %d", c.Name, got, err, want[c.Name][0])
		}
		for _, v := range c.Codes {
			if ClassName(v) != c.Name {
				t.Errorf("code point %d is of class %q, want %s", v, ClassName(v), c.Name)
			}
		}
	}
	for _, v := range []uint8{2, 33, 56, 63, 64, 255} {
		if got := ClassName(v); got != "" {
			t.Errorf("code point %d is of class %q, want none", v, got)
		}
	}
}

// RFC 5865 section 3: the admitted telephony class, and three classes of video.
func TestAdmittedRFC5865Section3(t *testing.T) {
	var got []uint8
	for v := range uint8(255) {
		if Admitted(v) {
			got = append(got, v)
		}
	}
	if want := []uint8{CS3, CS4, AF41, AF42, AF43, VoiceAdmit}; !slices.Equal(got, want) {
		t.Errorf("for admitted traffic only: %v, want %v", got, want)
	}
}

// What a caller does with the table is no concern of others.
func TestClassesAreCopies(t *testing.T) {
	Classes()[0].Codes[0] = 63
	if c := Classes()[0]; c.Codes[0] == 63 || ClassName(CS6) != c.Name {
		t.Errorf("%+v", c)
	}
}
