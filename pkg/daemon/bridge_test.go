package daemon

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/bridge"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// On a bridge the plan begins with the bridge, and nothing puts fragments together.
func TestPlanOfBridge(t *testing.T) {
	const rest = "interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network, capacity: 19mbit}]\n"
	plan := func(text string) string {
		c, err := config.Parse("f", []byte(text+rest))
		if err != nil {
			t.Fatal(err)
		}
		return Plan(c)
	}
	router, bridge := plan(""), plan("mode: bridge\nbridge: {name: br7}\n")
	for _, line := range []string{
		"ip link add br7 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 0xfff8 nf_call_iptables 1 nf_call_ip6tables 1\n",
		"ip link set lan0 master br7 up\n", "ip link set wan0 master br7 up\n",
	} {
		if !strings.Contains(bridge, line) || strings.Contains(router, "ip link") {
			t.Errorf("no %q in\n%s\nor one in\n%s", line, bridge, router)
		}
	}
	if strings.Contains(bridge, "reassemble") || !strings.Contains(router, "reassemble") {
		t.Errorf("fragments: router\n%s\nbridge\n%s", router, bridge)
	}
}

// What a process leaves of its bridge when it ends. A start that fails leaves what it has
// found, whatever on_stop says.
func TestLeaveBridge(t *testing.T) {
	roottest.Need(t)
	for name, tt := range map[string]struct {
		onStop config.OnStop
		state  string
		before bool // there was a process before
		failed bool
		stands bool
	}{
		"clean":                             {onStop: config.OnStopClean, state: "running"},
		"keep":                              {onStop: config.OnStopKeep, state: "running", stands: true},
		"failed at work":                    {onStop: config.OnStopClean, state: "running", failed: true, stands: true},
		"failed at work, keep":              {onStop: config.OnStopKeep, state: "running", failed: true, stands: true},
		"a first start fails":               {onStop: config.OnStopClean, state: "starting", failed: true},
		"a first start fails, keep":         {onStop: config.OnStopKeep, state: "starting", failed: true},
		"the start of another fails":        {onStop: config.OnStopClean, state: "starting", before: true, failed: true, stands: true},
		"the start of another fails, keep":  {onStop: config.OnStopKeep, state: "starting", before: true, failed: true, stands: true},
		"another that is stopped, as clean": {onStop: config.OnStopClean, state: "running", before: true},
	} {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		err = ns.Do(func() error {
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "wan0"}); err != nil {
				return err
			}
			c := bridge.Config{Name: "qp0", Ports: []string{"lan0", "wan0"}, File: filepath.Join(t.TempDir(), bridgeKept)}
			if tt.before {
				b, err := bridge.Make(c)
				if err != nil {
					return err
				}
				if err := b.Close(); err != nil {
					return err
				}
			}
			d := &Daemon{}
			d.cfg.Store(&config.Config{OnStop: tt.onStop})
			d.state.Store(tt.state)
			if d.bridge, err = bridge.Make(c); err != nil {
				return err
			}
			return d.leaveBridge(tt.failed)
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if stands := ns.Has("qp0"); stands != tt.stands {
			t.Errorf("%s: the bridge stands: %t", name, stands)
		}
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	}
}
