package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/roottest/dissect"
)

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
	file := pcap(t, names, all)
	out := dissect.Tshark(t, file, "-T", "json", "-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "rsvp.msg")
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal([]byte(out), &packets); err != nil {
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
	verifyChecksums(t, file)
}

// verifyChecksums looks for what tshark prints of a wrong checksum.
func verifyChecksums(t *testing.T, file string) {
	t.Helper()
	text := dissect.Tshark(t, file, "-V")
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

func pcap(t *testing.T, names []string, all map[string]*Message) (file string) {
	t.Helper()
	var packets [][]byte
	for _, name := range names {
		m, f := all[name], four
		if m.Session.Dst.Is6() {
			f = six
		}
		packets = append(packets, dissect.Packet(t, f.src, f.dst, m.SendTTL, encode(t, m)))
	}
	return dissect.File(t, packets)
}
