package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

const protocolRSVP = 46

// TestTshark has an implementation that is not ours read every sample.
func TestTshark(t *testing.T) {
	all := samples()
	for _, m := range all {
		if m.AdSpec != nil {
			m.AdSpec.Unknown = nil // tshark remarks on what is unknown to it
		}
	}
	checkTshark(t, slices.Sorted(maps.Keys(all)), all)
}

// checkTshark wants no remark of tshark on any of the messages.
func checkTshark(t *testing.T, names []string, all map[string]*Message) {
	t.Helper()
	tshark := roottest.Tool(t, "tshark")
	file := filepath.Join(t.TempDir(), "rsvp.pcap")
	writePcap(t, file, names, all)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tshark, "-r", file, "-T", "json",
		"-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "rsvp.msg")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(out, &packets); err != nil {
		t.Fatalf("tshark's output: %v", err)
	}
	if len(packets) != len(names) {
		t.Fatalf("%d packets, want %d", len(packets), len(names))
	}
	for i, name := range names {
		l := packets[i].Source.Layers
		if len(l["_ws.malformed"]) > 0 || len(l["_ws.expert.message"]) > 0 {
			t.Errorf("%s: %v", name, l)
		}
		want := fmt.Sprint(uint8(all[name].Type))
		for _, inner := range all[name].Bundle {
			want += fmt.Sprintf(",%d", inner.Type)
		}
		if got := strings.Join(l["rsvp.msg"], ","); got != want {
			t.Errorf("%s: message type %q, want %s (%v)", name, got, want, l)
		}
	}
	verifyChecksums(t, tshark, file)
}

// verifyChecksums looks for what tshark prints of a wrong checksum.
func verifyChecksums(t *testing.T, tshark, file string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, tshark, "-r", file, "-V").Output()
	if err != nil {
		t.Fatalf("tshark -V: %v", err)
	}
	text := string(out)
	if n := strings.Count(text, "Message Checksum: ") - strings.Count(text, "BUNDLE Message.  (12)"); n == 0 { // of a bundle it verifies the inner ones only
		t.Error("tshark shows no checksum")
	} else if bad := n - strings.Count(text, "[correct]"); bad != 0 {
		t.Errorf("%d of %d checksums are not called correct", bad, n)
	}
	for _, word := range []string{"Malformed", "ncorrect"} {
		if strings.Contains(text, word) {
			t.Errorf("tshark says %q:\n%s", word, text)
		}
	}
}

func writePcap(t *testing.T, file string, names []string, all map[string]*Message) {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		p := ipPacket(t, all[name])
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func ipPacket(t *testing.T, m *Message) []byte {
	t.Helper()
	f := four
	var header gopacket.SerializableLayer = &layers.IPv4{
		Version: 4, IHL: 5, TTL: m.SendTTL, Protocol: protocolRSVP,
		SrcIP: net.IP(f.src.AsSlice()), DstIP: net.IP(f.dst.AsSlice()),
	}
	if m.Session.Dst.Is6() {
		f = six
		header = &layers.IPv6{
			Version: 6, HopLimit: m.SendTTL, NextHeader: protocolRSVP,
			SrcIP: net.IP(f.src.AsSlice()), DstIP: net.IP(f.dst.AsSlice()),
		}
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, header, gopacket.Payload(encode(t, m))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
