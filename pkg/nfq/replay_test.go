package nfq

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// recorder notes its calls, and has a timer every 10 ms.
type recorder struct {
	start, next time.Time
	log         []string
}

func (r *recorder) note(now time.Time, what string) {
	r.log = append(r.log, now.Sub(r.start).String()+" "+what)
}

func (r *recorder) Handle(now time.Time, p *Packet) Verdict {
	r.note(now, string(p.Data))
	if p.Truncated {
		return Drop
	}
	p.Data[0] = 'E'
	return AcceptModified
}
func (r *recorder) NextDeadline() (time.Time, bool) { return r.next, true }
func (r *recorder) Advance(now time.Time) {
	r.note(now, "timer")
	r.next = now.Add(10 * time.Millisecond)
}
func (r *recorder) Wake(time.Time)     {}
func (r *recorder) BatchEnd(time.Time) {}

func TestReplay(t *testing.T) {
	start := time.Unix(1700000000, 0).UTC()
	ether := append(make([]byte, 12), 0x08, 0x00)
	tagged := append(make([]byte, 12), 0x81, 0x00, 0, 5, 0x86, 0xdd)
	frames := []struct {
		at    time.Duration
		frame []byte
		more  int // bytes that were not captured
	}{
		{0, slices.Concat(ether, []byte("one")), 0},
		{time.Millisecond, append(append(make([]byte, 12), 0x08, 0x06), "an ARP"...), 0},
		{25 * time.Millisecond, slices.Concat(tagged, []byte("two")), 0},
		{26 * time.Millisecond, slices.Concat(ether, []byte("three")), 7},
		{27 * time.Millisecond, []byte{1, 2, 3}, 0},
	}
	var plain, ng bytes.Buffer
	w := pcapgo.NewWriter(&plain)
	must(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	nw, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
	must(t, err)
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: start.Add(f.at), CaptureLength: len(f.frame), Length: len(f.frame) + f.more}
		must(t, w.WritePacket(info, f.frame))
		must(t, nw.WritePacket(info, f.frame))
	}
	must(t, nw.Flush())
	for name, file := range map[string]*bytes.Buffer{"pcap": &plain, "pcapng": &ng} {
		r := &recorder{start: start, next: start.Add(10 * time.Millisecond)}
		var out []string
		must(t, Replay(file, r, func(o Outcome) error {
			out = append(out, o.Verdict.String()+" "+string(o.Before)+" "+string(o.Packet.Data))
			return nil
		}))
		if diff := cmp.Diff([]string{"0s one", "10ms timer", "20ms timer", "25ms two", "26ms three"}, r.log); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff([]string{"modified one Ene", "modified two Ewo", "drop three three"}, out); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReplayErrors(t *testing.T) {
	if err := Replay(bytes.NewReader(nil), &recorder{}, nil); err == nil {
		t.Error("an empty file is no error")
	}
	if err := Replay(bytes.NewReader([]byte("no capture file at all....")), &recorder{}, nil); err == nil {
		t.Error("text is no error")
	}
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	must(t, w.WriteFileHeader(65535, layers.LinkTypeRaw))
	must(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: 3, Length: 3}, []byte("abc")))
	stop := errors.New("enough")
	r := &recorder{next: time.Unix(2, 0)}
	if err := Replay(bytes.NewReader(file.Bytes()), r, func(Outcome) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	cut := file.Bytes()[:file.Len()-1]
	if err := Replay(bytes.NewReader(cut), r, func(Outcome) error { return nil }); err == nil {
		t.Error("a file cut short is no error")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
