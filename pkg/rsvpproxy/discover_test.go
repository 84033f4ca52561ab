package rsvpproxy

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// RFC 5946 section 4.1: on links to hosts PATH goes to all, unless discovery is
// disabled; then to those that were heard alone. Towards the network all are taken
// to speak RSVP.
func TestDiscoversRFC5946Section4_1(t *testing.T) {
	host := netip.MustParseAddr("10.2.0.2")
	p := New(Config{}, Hooks{Log: zap.NewNop()})
	p.SetInterfaces([]Interface{
		{Link: route.Link{Index: 1}},
		{Link: route.Link{Index: 2}, Hosts: true, Discover: true},
		{Link: route.Link{Index: 3}, Hosts: true},
	})
	var _ softstate.Discoverer = p.env // or the machine would not ask
	for _, tt := range []struct {
		out               softstate.IfIndex
		aware, discovers  bool
		awareOf, discover bool // after it was heard
	}{
		{1, true, false, true, false},
		{2, false, true, true, true},
		{3, false, false, true, false},
		{4, false, false, false, false}, // none of ours
	} {
		if a, d := p.env.Aware(host, tt.out), p.env.Discovers(tt.out); a != tt.aware || d != tt.discovers {
			t.Errorf("interface %d: aware %v, discovers %v", tt.out, a, d)
		}
		heard := *p.env
		heard.aware = map[netip.Addr]time.Time{}
		heard.heard(time.Now(), host, int(tt.out))
		if a, d := heard.Aware(host, tt.out), heard.Discovers(tt.out); a != tt.awareOf || d != tt.discover {
			t.Errorf("interface %d, heard: aware %v, discovers %v", tt.out, a, d)
		}
	}
}
