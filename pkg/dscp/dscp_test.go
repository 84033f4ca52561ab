package dscp

import "testing"

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint8
		ok   bool
	}{
		{"ef", 46, true},
		{"voice-admit", 44, true},
		{"le", 1, true},
		{"default", 0, true},
		{"cs0", 0, true},
		{"df", 0, true},
		{"cs1", 8, true},
		{"cs5", 40, true},
		{"cs6", 48, true},
		{"cs7", 56, true},
		{"af11", 10, true},
		{"af12", 12, true},
		{"af21", 18, true},
		{"af31", 26, true},
		{"af33", 30, true},
		{"af43", 38, true},
		{"0", 0, true},
		{"63", 63, true},
		{"46", 46, true},
		{"64", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"", 0, false},
		{"EF", 0, false},
		{"af44", 0, false},
		{"af10", 0, false},
		{"cs8", 0, false},
		{"0x2e", 0, false},
		{"046", 0, false},
		{" ef", 0, false},
	} {
		got, err := Parse(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("Parse(%q) = %d, %v; want %d, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

// Name and Parse are inverse for every code point, so that a name shown in a
// view can be written into a config file.
func TestNameRoundTrip(t *testing.T) {
	for v := range uint8(Max + 1) {
		got, err := Parse(Name(v))
		if err != nil || got != v {
			t.Errorf("Parse(Name(%d)) = Parse(%q) = %d, %v", v, Name(v), got, err)
		}
	}
	for v, want := range map[uint8]string{0: "default", 1: "le", 44: "voice-admit", 46: "ef", 33: "33", 200: "200"} {
		if got := Name(v); got != want {
			t.Errorf("Name(%d) = %q, want %q", v, got, want)
		}
	}
}

func TestNameDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Name(46) }); n != 0 {
		t.Errorf("Name allocates %v times", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"ef", "af31", "63", "64", "cs7", "telephony", "low-priority-data"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := Parse(s); err == nil && v > Max {
			t.Errorf("Parse(%q) = %d", s, v)
		}
	})
}
