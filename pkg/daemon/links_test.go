package daemon

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
)

// A port has no address to speak with, whatever the kernel has given it for a
// moment; a router's interface has its own.
func TestAddressesOfPorts(t *testing.T) {
	for mode, want := range map[config.Mode]bool{config.ModeRouter: true, config.ModeBridge: false} {
		l, err := linkOf(&config.Config{Mode: mode}, "lo")
		if err != nil {
			t.Fatal(err)
		}
		if l.Index == 0 || l.Name != "lo" || (len(l.Addrs) > 0) != want || !want && (l.Addr4.IsValid() || l.Addr6.IsValid() || len(l.Own) > 0) {
			t.Errorf("mode %v: %+v", mode, l)
		}
	}
}
