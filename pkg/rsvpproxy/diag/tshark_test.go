package diag

import (
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/roottest/dissect"
)

// Every message of a trace, fragments and ROUTE included, is read by an
// independent dissector: type, session, checksum, and nothing malformed.
func TestTsharkReadsEveryMessage(t *testing.T) {
	roottest.Tool(t, "tshark")
	c := newChain(t, four, 5)
	c.reserve()
	c.boxes[3].mtu[left] = 480
	for _, route := range []bool{false, true} {
		q := c.query(1)
		q.HopByHop = route
		c.wantHops(c.trace(q), 4, 3, 2, 1, 0)
	}
	var packets [][]byte
	for _, m := range c.sent {
		packets = append(packets, dissect.Packet(t, c.f.a, c.f.b, 255, m))
	}
	s := dissect.Tshark(t, dissect.File(t, packets), "-V")
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
