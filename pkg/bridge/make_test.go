package bridge

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
)

// Each attribute is what it has to be, as another tool reads it.
func TestMake(t *testing.T) {
	b := newBox(t)
	before := b.snapshot(t)
	br := b.made(t)
	if br.Name() != "qp0" || !br.Made() || br.Found() {
		t.Errorf("%s, made %t, found %t", br.Name(), br.Made(), br.Found())
	}
	l := b.link(t, "qp0")
	d := l.Info.Data
	if d.STP != 0 || d.Delay != 0 || d.VLAN != 0 || d.Snooping != 0 || d.Groups != "0xfff8" || d.V4 != 1 || d.V6 != 1 || d.ARP != 0 {
		t.Errorf("bridge: %+v", d)
	}
	flags := strings.Join(l.Flags, ",")
	if l.GenMode != "none" || !strings.Contains(flags, "NOARP") || !strings.Contains(flags, "UP") {
		t.Errorf("bridge: %s, IPv6 addresses %s", flags, l.GenMode)
	}
	for _, name := range b.config.Ports {
		p := b.link(t, name)
		if p.Master != "qp0" || p.Promiscuity != 1 || p.GenMode != "none" || p.Info.Port.State != "forwarding" || p.Info.Port.Groups != "0xfffd" {
			t.Errorf("port: %+v", p)
		}
	}
	for _, name := range append(b.config.Ports, "qp0") {
		if v := b.sysctl(t, "net/ipv6/conf/"+name+"/disable_ipv6"); v != "1" {
			t.Errorf("IPv6 of %s: disable_ipv6 is %s", name, v)
		}
	}
	if v := b.sysctl(t, vlanTagged); v != "1" {
		t.Errorf("%s is %s", vlanTagged, v)
	}
	// Other bridges of the machine are none of our business.
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
		if line := "sysctl " + b.ns.Name() + " bridge/" + key + " " + b.sysctl(t, "net/bridge/"+key); !has(before, line) {
			t.Errorf("changed: %s", line)
		}
	}
	b.in(t, br.Undo)
	b.unchanged(t, before)
}

func has(s rig.Snapshot, line string) bool { _, ok := s[line]; return ok }

// If something fails half-way, nothing of it stays: here a port whose packets somebody
// else takes, which the kernel alone can tell.
func TestFailureLeavesNothing(t *testing.T) {
	b := newBox(t)
	b.arrange(t, []string{"link add link wan0 name mv0 type macvlan"})
	if err := b.refused(t); !strings.Contains(err, "interface wan0 cannot be a port") {
		t.Error(err)
	}
	b.arrange(t, []string{"link del mv0"})
	b.config.File = "/proc/self/status/bridge.json"
	if err := b.refused(t); !strings.Contains(err, "could not be written down") {
		t.Error(err)
	}
	b.config.File = filepath.Join(t.TempDir(), "bridge.json")
	b.config.Sysctls = t.TempDir()
	if err := b.refused(t); !strings.Contains(err, ErrNetfilter.Error()) {
		t.Error(err)
	}
}

// What Text says is what Make does: its commands, run by hand, lead to the same state.
func TestText(t *testing.T) {
	made, byHand := newBox(t), newBox(t)
	br := made.made(t)
	for line := range strings.Lines(Text(byHand.config.Name, byHand.config.Ports)) {
		f := strings.Fields(line)
		switch f[0] {
		case "sysctl":
			key, value, _ := strings.Cut(f[1], "=")
			if err := byHand.ns.Sysctl(key, value); err != nil {
				t.Fatal(err)
			}
		case "ip":
			byHand.ip(t, f[1:]...)
		default:
			t.Fatalf("unknown command %q", line)
		}
	}
	settings := func(b *box) rig.Snapshot {
		out := rig.Snapshot{}
		for line := range b.snapshot(t) {
			// Ethernet addresses and the other end's number are of no matter.
			if !strings.Contains(line, fmt.Sprintf(" attribute %d ", unix.IFLA_ADDRESS)) && !strings.Contains(line, fmt.Sprintf(" attribute %d ", unix.IFLA_LINK)) {
				out[line] = struct{}{}
			}
		}
		return out
	}
	one, other := settings(made), settings(byHand)
	if a, b := one.Added(other), other.Added(one); len(a)+len(b) > 0 {
		t.Errorf("only by hand: %q, only by Make: %q", a, b)
	}
	made.in(t, br.Undo)
}
