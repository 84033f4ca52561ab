package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// RFC 5945 section 4.2: the policy decides, and only a PATH from the network to
// a host behind the box counts.
func TestReversePolicyRFC5945Section4_2(t *testing.T) {
	r := testControl(t)
	key := func(from, to string) packet.FlowKey {
		return packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort(from), netip.MustParseAddrPort(to))
	}
	ask := func(k packet.FlowKey, in, out int) bool {
		s, f := sessionOf(k)
		tspec, yes := r.reverse(softstate.PathInfo{Session: s, Sender: f, In: softstate.IfIndex(in), Out: softstate.IfIndex(out)})
		if yes && tspec.Rate <= 0 {
			t.Errorf("%v", tspec)
		}
		return yes
	}
	forward := key("10.2.0.2:104", "10.1.0.2:4000") // the other direction is imaging
	if !ask(forward, wan, lan) {
		t.Error("a policy claims the other direction")
	}
	if ask(forward, lan, wan) || ask(forward, wan, wan) || ask(forward, 99, lan) {
		t.Error("not from the network to a host")
	}
	if ask(key("10.1.0.2:4000", "10.2.0.2:104"), wan, lan) {
		t.Error("no policy claims that")
	}
	c, err := config.Parse("box.yaml", []byte(strings.Replace(testConfig, "{service:", "{role: receiver, service:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	r.flows.configure(c.File, newPolicies(c), r.links().zones())
	if ask(forward, wan, lan) {
		t.Error("a policy that speaks for receivers only")
	}
}
