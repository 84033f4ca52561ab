package packet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseOptionsTable(t *testing.T) {
	none := TCPOptions{WindowScale: -1, TSOffset: -1}
	with := func(f func(*TCPOptions)) TCPOptions { o := none; f(&o); return o }
	for _, c := range []struct {
		name string
		b    []byte
		want TCPOptions
		ok   bool
	}{
		{"none", nil, none, true},
		{"end", []byte{0, 2, 4}, none, true},
		{"MSS", []byte{2, 4, 5, 180}, with(func(o *TCPOptions) { o.MSS = 1460 }), true},
		{"MSS of the wrong length", []byte{2, 3, 5, 0}, none, false},
		{"RFC 7323 2.3 scale above 14", []byte{3, 3, 200}, with(func(o *TCPOptions) { o.WindowScale = 14 }), true},
		{"scale 0 is not absent", []byte{3, 3, 0}, with(func(o *TCPOptions) { o.WindowScale = 0 }), true},
		{"SACK permitted", []byte{4, 2}, with(func(o *TCPOptions) { o.SACKPermitted = true }), true},
		{"timestamps behind NOPs", []byte{1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9}, with(func(o *TCPOptions) {
			o.HasTimestamps, o.TSOffset, o.TSVal, o.TSEcr = true, 2, 7, 9
		}), true},
		{"SACK of 7 bytes", []byte{5, 7, 0, 0, 0, 0, 0}, none, false},
		{"length 0", []byte{99, 0}, none, false},
		{"length 1", []byte{99, 1}, none, false},
		{"length beyond the end", []byte{8, 10, 0}, none, false},
		{"kind without length", []byte{1, 8}, none, false},
		{"unknown", []byte{99, 3, 0}, with(func(o *TCPOptions) { o.Unknown = true }), true},
		{"experimental Fast Open", []byte{254, 4, 0xf9, 0x89}, with(func(o *TCPOptions) { o.FastOpen = true }), true},
		{"other experiment", []byte{254, 4, 1, 2}, with(func(o *TCPOptions) { o.Unknown = true }), true},
		{"MPTCP", []byte{30, 2}, with(func(o *TCPOptions) { o.MPTCP = true }), true},
		{"AO", []byte{29, 4, 1, 1}, with(func(o *TCPOptions) { o.AO = true }), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := ParseOptions(c.b)
			if ok != c.ok {
				t.Errorf("ok %v", ok)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAppendSACKKeepsToItsRoom(t *testing.T) {
	blocks := []SACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}
	for room := range 41 {
		b := AppendSACK(nil, blocks, room)
		o, ok := ParseOptions(b)
		if len(b) > room || len(b)%4 != 0 || !ok || len(b) > 0 && o.NSACK != (room-4)/8 && o.NSACK != 4 {
			t.Errorf("room %d: %d bytes, %d blocks", room, len(b), o.NSACK)
		}
	}
}

func TestScaleWindow(t *testing.T) {
	for _, c := range []struct {
		bytes int
		shift int8
		want  uint16
	}{{-1, 0, 0}, {0, 7, 0}, {65535, 0, 65535}, {65536, 0, 65535}, {127, 7, 0}, {128, 7, 1}, {1 << 30, 14, 65535}, {1 << 20, -1, 65535}} {
		if got := ScaleWindow(c.bytes, c.shift); got != c.want {
			t.Errorf("ScaleWindow(%d, %d) = %d, want %d", c.bytes, c.shift, got, c.want)
		}
	}
}
