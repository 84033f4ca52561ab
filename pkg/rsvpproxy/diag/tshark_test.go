package diag

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// Every message of a trace, fragments and ROUTE included, is read by an
// independent dissector: type, session, checksum, and nothing malformed.
func TestTsharkReadsEveryMessage(t *testing.T) {
	tshark := roottest.Tool(t, "tshark")
	c := newChain(t, four, 5)
	c.reserve()
	c.boxes[3].mtu[left] = 480
	for _, route := range []bool{false, true} {
		q := c.query(1)
		q.HopByHop = route
		c.wantHops(c.trace(q), 4, 3, 2, 1, 0)
	}
	file := filepath.Join(t.TempDir(), "trace.pcap")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.sent {
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 255, Protocol: 46, SrcIP: net.IP(c.f.a.AsSlice()), DstIP: net.IP(c.f.b.AsSlice())}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, gopacket.Payload(m)); err != nil {
			t.Fatal(err)
		}
		b := buf.Bytes()
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), tshark, "-r", file, "-V").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	n := len(c.sent)
	for want, count := range map[string]int{"[correct]": n, "Destination 10.2.0.2, Protocol 17, Port 5004": n} {
		if got := strings.Count(s, want); got < count {
			t.Errorf("%q %d times among %d messages", want, got, n)
		}
	}
	if strings.Contains(s, "alformed") || strings.Contains(s, "ncorrect") {
		t.Error(s)
	}
	if strings.Count(s, "(8)") < 8 || strings.Count(s, "(9)") < 4 {
		t.Errorf("%d messages:\n%s", n, s)
	}
}
