package demo

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadTshark(t *testing.T) {
	const right = "    Message Checksum: 0x1234 [correct]\n"
	text := "Frame 1: 100 bytes\n" + right +
		"\nFrame 2: 100 bytes\n    Message Checksum: 0x1234 [incorrect, should be 0x4321]\n" +
		"\nFrame 3: 100 bytes\n" + right + "[Malformed Packet: RSVP]\n" +
		"\nFrame 4: 100 bytes\nno RSVP\n" +
		"\nFrame 5: 100 bytes\n" + right
	got := readTshark(text)
	want := []string{"frame 2 has a wrong checksum", "frame 3 is malformed", "frame 4 has no checksum that tshark calls correct"}
	if got.messages != 5 || !cmp.Equal(got.faulty, want) {
		t.Errorf("%+v", got)
	}
	if got := readTshark(""); got.messages != 0 || got.faulty != nil {
		t.Errorf("empty: %+v", got)
	}
}

func TestNoTsharkIsNoFailure(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	got, err := checkRSVP(filepath.Join(t.TempDir(), "none.pcap"))
	if err != nil || got.skipped != "tshark is not installed" {
		t.Errorf("%+v, %v", got, err)
	}
}
