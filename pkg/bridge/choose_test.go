package bridge

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is what a kernel might tell.
func machine(more ...*link) links {
	all := links{{index: 1, name: "lo", flags: unix.IFF_LOOPBACK}, {index: 2, name: "lan0", mtu: 1500, flags: unix.IFF_UP}, {index: 3, name: "wan0", mtu: 1500, flags: unix.IFF_UP}}
	for i, l := range more {
		if was := all.named(l.name); was != nil {
			l.index = was.index
			*was = *l
			continue
		}
		if l.index == 0 {
			l.index = 10 + i
		}
		all = append(all, l)
	}
	return all
}

func bridgeLink(name string, index int, set map[attr]uint32) *link {
	l := &link{name: name, index: index, kind: kindBridge, own: map[uint16][]byte{}}
	for a, v := range set {
		l.own[a.typ] = binary.NativeEndian.AppendUint32(nil, v)[:a.size]
	}
	return l
}

func TestChoose(t *testing.T) {
	ports := []string{"lan0", "wan0"}
	in := func(name string, master int) *link { return &link{name: name, master: master, mtu: 1500} }
	for name, tt := range map[string]struct {
		all   links
		ports []string
		made  string // by an earlier process
		want  string // the bridge, with "new ", "ours " or "adopted " before it
		err   string
	}{
		"none":                  {all: machine(), want: "new qp0"},
		"one for both":          {all: machine(bridgeLink("br0", 7, nil), in("lan0", 7), in("wan0", 7)), want: "adopted br0"},
		"ours":                  {all: machine(bridgeLink("qp0", 7, nil), in("lan0", 7), in("wan0", 7)), made: "qp0", want: "ours qp0"},
		"ours, renamed since":   {all: machine(bridgeLink("br9", 7, nil), in("lan0", 7), in("wan0", 7)), made: "br9", want: "ours br9"},
		"ours, a port fell out": {all: machine(bridgeLink("br9", 7, nil), in("lan0", 7)), made: "br9", want: "ours br9"},
		"ours, with a guest":    {all: machine(bridgeLink("qp0", 7, nil), in("lan0", 7), in("wan0", 7), in("tap0", 7)), made: "qp0", want: "ours qp0"},
		"of that name":          {all: machine(bridgeLink("qp0", 7, nil), in("wan0", 7)), want: "adopted qp0"},
		"of that name, empty":   {all: machine(bridgeLink("qp0", 7, nil)), want: "adopted qp0"},
		"missing":               {all: machine(), ports: []string{"lan0", "wan1"}, err: "interface wan1 does not exist: create it or correct its name"},
		"loopback":              {all: machine(), ports: []string{"lan0", "lo"}, err: "lo is the loopback"},
		"a bridge":              {all: machine(bridgeLink("br0", 7, nil)), ports: []string{"lan0", "br0"}, err: "br0 is a bridge itself: list its ports"},
		"an address":            {all: machine(&link{name: "lan0", addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}), err: "lan0 has the address 192.0.2.1/24, and the port of a transparent bridge has none: remove it (ip addr del 192.0.2.1/24 dev lan0)"},
		"an IPv6 address":       {all: machine(&link{name: "lan0", addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}}), err: "net.ipv6.conf.lan0.disable_ipv6=1"},
		"a bond's":              {all: machine(&link{name: "bond0", index: 7, kind: "bond"}, in("wan0", 7)), err: "wan0 is part of bond0 (bond), which is no bridge: take it out (ip link set wan0 nomaster)"},
		"out of sight":          {all: machine(in("wan0", 77)), err: "something in another network namespace"},
		"somebody else's":       {all: machine(bridgeLink("br0", 7, nil), in("lan0", 7)), err: "lan0 is already in the bridge br0, which somebody else made, and wan0 is not: take it out (ip link set lan0 nomaster), or use that bridge for all (bridge: {name: br0})"},
		"two bridges":           {all: machine(bridgeLink("br0", 7, nil), bridgeLink("br1", 8, nil), in("lan0", 7), in("wan0", 8)), err: "in different bridges, br0 and br1: take them out"},
		"another kind":          {all: machine(&link{name: "qp0", kind: "dummy"}), err: "an interface qp0 already, which is no bridge"},
		"STP":                   {all: machine(bridgeLink("br0", 7, map[attr]uint32{stpState: 1}), in("lan0", 7), in("wan0", 7)), err: "br0 speaks STP, which a transparent bridge lets pass: change that (ip link set br0 type bridge stp_state 0)"},
		"VLANs":                 {all: machine(bridgeLink("br0", 7, map[attr]uint32{vlanFiltering: 1}), in("lan0", 7), in("wan0", 7)), err: "filters VLANs"},
		"a guest":               {all: machine(bridgeLink("br0", 7, nil), in("lan0", 7), in("wan0", 7), in("tap0", 7)), err: "br0 has the port tap0, which is not listed"},
		"its address": {
			all: machine(&link{name: "br0", index: 7, kind: kindBridge, addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}, in("lan0", 7), in("wan0", 7)),
			err: "br0 has the address 192.0.2.1/24, and a transparent bridge has none",
		},
	} {
		c := Config{Name: "qp0", Ports: ports}
		if tt.ports != nil {
			c.Ports = tt.ports
		}
		got, err := choose(tt.all, c, func(name string) bool { return name == tt.made })
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %s", name, err, tt.err)
			}
			continue
		}
		what := "adopted "
		switch {
		case tt.all.named(got.name) == nil:
			what = "new "
		case got.made:
			what = "ours "
		}
		if err != nil || what+got.name != tt.want {
			t.Errorf("%s: %s%s, %v, want %s", name, what, got.name, err, tt.want)
		}
	}
}

func TestWrong(t *testing.T) {
	up := func(name string, index, master, mtu int) *link {
		return &link{name: name, index: index, master: master, mtu: mtu, flags: unix.IFF_UP}
	}
	qp0 := up("qp0", 7, 0, 1500)
	qp0.kind = kindBridge
	for name, tt := range map[string]struct {
		all  links
		made bool
		want []string // parts of the sentences
	}{
		"nothing":      {all: machine(qp0, up("lan0", 2, 7, 1500), up("wan0", 3, 7, 1500))},
		"no bridge":    {all: machine(), want: []string{"the bridge qp0 is gone"}},
		"no more":      {all: machine(), made: true},
		"a port":       {all: machine(qp0, up("lan0", 2, 7, 1500), &link{name: "wan0", master: 9, mtu: 1500, flags: unix.IFF_UP}), want: []string{"wan0 is part of something in another network namespace now"}},
		"a VLAN's":     {all: machine(qp0, up("lan0", 2, 7, 1500), up("wan0", 3, 7, 1500), &link{name: "wan0.5", kind: "vlan", lower: 3}), want: []string{"wan0.5 takes the frames of its VLAN from wan0"}},
		"another's":    {all: machine(qp0, up("lan0", 2, 7, 1500), up("wan0", 3, 7, 1500), &link{name: "eth9.5", kind: "vlan", lower: 99}, &link{name: "veth", kind: "veth", lower: 3})},
		"down":         {all: machine(bridgeLink("qp0", 7, nil), up("lan0", 2, 7, 1500), up("wan0", 3, 7, 1500)), want: []string{"the bridge qp0 is down, so that nothing passes: ip link set qp0 up"}},
		"a guest":      {all: machine(qp0, up("lan0", 2, 7, 1500), up("wan0", 3, 7, 1500), up("eth5", 5, 7, 1500), up("eth6", 6, 8, 1500)), want: []string{"the bridge qp0 has the port eth5, which is not listed: list it under interfaces too, or take it out (ip link set eth5 nomaster)"}},
		"MTU and down": {all: machine(qp0, up("lan0", 2, 7, 9000), &link{name: "wan0", master: 7, mtu: 1500}), want: []string{"wan0 is down", "wan0 has an MTU of 1500 and lan0 one of 9000"}},
	} {
		got := wrong(tt.all, "qp0", tt.made, []string{"lan0", "wan0"})
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], tt.want[i])
			}
		}
	}
}

func TestNamesInASentence(t *testing.T) {
	for want, names := range map[string][]string{"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b and c": {"a", "b", "c"}} {
		if got := list(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What the kernel says is read without a panic, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, ifInfo))
	f.Add(append(make([]byte, ifInfo), 8, 0, unix.IFLA_MASTER, 0, 7, 0, 0, 0))
	f.Add(append(make([]byte, ifAddr), 8, 0, unix.IFA_LOCAL, 0, 192, 0, 2, 1))
	f.Add(append(make([]byte, ifInfo), 28, 0, unix.IFLA_LINKINFO, 0x80, 11, 0, unix.IFLA_INFO_KIND, 0, 'b', 'r', 'i', 'd', 'g', 'e', 0, 0, 8, 0, unix.IFLA_INFO_DATA, 0x80, 4, 0, 5, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLink(b); err == nil {
			for _, a := range append(madeAttrs, vlanFiltering) {
				if v, ok := a.of(l.own); ok && v>>(8*a.size) != 0 {
					t.Errorf("%s has %d bytes and is %d", a.name, a.size, v)
				}
			}
		}
		if _, addr, made, err := parseAddr(b); err == nil && made && !addr.Addr().IsLinkLocalUnicast() {
			t.Errorf("the kernel has made %s", addr)
		}
	})
}
