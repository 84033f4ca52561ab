package bridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// box is a namespace with two ports, each with a cable to a host.
type box struct {
	ns, left, right *netns.NetNS
	config          Config
}

func newBox(t *testing.T) *box {
	t.Helper()
	roottest.Need(t)
	b := &box{config: Config{Name: "qp0", Ports: []string{"lan0", "wan0"}, File: filepath.Join(t.TempDir(), "state", "bridge.json")}}
	b.ns, b.left, b.right = newHost(t), newHost(t), newHost(t)
	b.cable(t, "lan0", b.left)
	b.cable(t, "wan0", b.right)
	b.settled(t, "lan0", "wan0")
	return b
}

func newHost(t *testing.T) *netns.NetNS {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

// settled waits for the addresses that the kernel makes by itself.
func (b *box) settled(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		eventually(t, func() error {
			if !strings.Contains(b.ip(t, "-6", "addr", "show", "dev", name), "inet6 fe80:") {
				return fmt.Errorf("%s has no link-local address", name)
			}
			return nil
		})
	}
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	err := try()
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); err = try() {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}

func (b *box) cable(t *testing.T, port string, host *netns.NetNS) {
	t.Helper()
	if err := netns.Veth(netns.End{NS: host, Name: "eth0"}, netns.End{NS: b.ns, Name: port}); err != nil {
		t.Fatal(err)
	}
}

// in runs something inside the box, which must work.
func (b *box) in(t *testing.T, do func() error) {
	t.Helper()
	if err := b.ns.Do(do); err != nil {
		t.Fatal(err)
	}
}

// ip runs the tool of iproute2 in the box.
func (b *box) ip(t *testing.T, args ...string) string {
	t.Helper()
	tool := roottest.Tool(t, "ip")
	var out []byte
	err := b.ns.Do(func() (err error) {
		out, err = exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *box) made(t *testing.T) *Bridge {
	t.Helper()
	var br *Bridge
	b.in(t, func() (err error) { br, err = Make(b.config); return err })
	return br
}

// refused is the error of a Make that must fail and change nothing.
func (b *box) refused(t *testing.T) string {
	t.Helper()
	before := b.snapshot(t)
	err := b.ns.Do(func() error { _, err := Make(b.config); return err })
	if err == nil {
		t.Fatal("made")
	}
	b.unchanged(t, before)
	return err.Error()
}

// snapshot is how the box's interfaces are set.
func (b *box) snapshot(t *testing.T) rig.Snapshot {
	t.Helper()
	s, err := rig.TakeSnapshot(rig.SnapshotConfig{Namespaces: []*netns.NetNS{b.ns}})
	if err != nil {
		t.Fatal(err)
	}
	// A bridge has the Ethernet address of one of its ports, and none after the last
	// has gone: that is the kernel's doing.
	maps.DeleteFunc(s, func(line string, _ struct{}) bool {
		return !strings.Contains(line, b.ns.Name()) || strings.HasPrefix(line, fmt.Sprintf("link %s qp0 attribute %d ", b.ns.Name(), unix.IFLA_ADDRESS))
	})
	for line := range strings.Lines(b.ip(t, "-6", "-o", "addr")) { // the kernel's own, too
		if f := strings.Fields(line); len(f) > 3 {
			s[fmt.Sprintf("link %s %s address %s", b.ns.Name(), f[1], f[3])] = struct{}{}
		}
	}
	return s
}

func (b *box) unchanged(t *testing.T, before rig.Snapshot) {
	t.Helper()
	eventually(t, func() error {
		after := b.snapshot(t)
		if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) > 0 {
			return fmt.Errorf("not as it was found: added %q, gone %q", added, gone)
		}
		return nil
	})
}

type linkJSON struct {
	Name        string   `json:"ifname"`
	Flags       []string `json:"flags"`
	Master      string   `json:"master"`
	Promiscuity int      `json:"promiscuity"`
	GenMode     string   `json:"inet6_addr_gen_mode"`
	Info        struct {
		Data struct {
			STP      int    `json:"stp_state"`
			Delay    int    `json:"forward_delay"`
			VLAN     int    `json:"vlan_filtering"`
			Snooping int    `json:"mcast_snooping"`
			Groups   string `json:"group_fwd_mask"`
			V4       int    `json:"nf_call_iptables"`
			V6       int    `json:"nf_call_ip6tables"`
			ARP      int    `json:"nf_call_arptables"`
		} `json:"info_data"`
		Port struct {
			State  string `json:"state"`
			Groups string `json:"group_fwd_mask"`
		} `json:"info_slave_data"`
	} `json:"linkinfo"`
}

func (b *box) link(t *testing.T, name string) linkJSON {
	t.Helper()
	var list []linkJSON
	if err := json.Unmarshal([]byte(b.ip(t, "-d", "-j", "link", "show", name)), &list); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}

func (b *box) sysctl(t *testing.T, key string) string {
	t.Helper()
	v, err := b.ns.ReadSysctl(key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// of is what a snapshot has of one interface.
func of(name string, s rig.Snapshot) rig.Snapshot {
	out := rig.Snapshot{}
	for line := range s {
		if strings.Contains(line, " "+name+" ") || strings.Contains(line, "/"+name+"/") {
			out[line] = struct{}{}
		}
	}
	return out
}
