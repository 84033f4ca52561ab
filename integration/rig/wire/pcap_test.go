package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"
)

func TestPcapKeepsFramesAndNanoseconds(t *testing.T) {
	var file bytes.Buffer
	p, err := NewPcap(&file)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	frame := []byte("a frame, of which a copy is kept")
	p.Write(at, frame)
	frame[0] = 'X'
	p.Write(at.Add(1), frame)
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	p.Write(at, frame) // after Close: nothing
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a frame, of which a copy is kept", "X frame, of which a copy is kept"} {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(data)); diff != "" || !info.Timestamp.Equal(at.Add(time.Duration(i))) {
			t.Errorf("frame %d at %s: %s", i, info.Timestamp, diff)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v", err)
	}
}

var errDisk = errors.New("disk full")

// stuck is a file that blocks until released, and fails then.
type stuck struct {
	release chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.release
	return 0, errDisk
}

func TestPcapNeverWaitsForItsFile(t *testing.T) {
	s := &stuck{release: make(chan struct{})}
	p, err := NewPcap(s)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 1500)
	const n = pcapBacklog + 1000
	for range n {
		p.Write(time.Now(), frame)
	}
	if p.Omitted() == 0 {
		t.Errorf("none of %d frames was left out", n)
	}
	close(s.release)
	if err := p.Close(); !errors.Is(err, errDisk) {
		t.Errorf("close: %v, want %v", err, errDisk)
	}
	(*Pcap)(nil).Write(time.Now(), frame)
}
