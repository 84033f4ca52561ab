package bridge

import (
	"fmt"
	"path"
	"strings"
)

// Text is what Make does where the ports are in no bridge yet, as commands of iproute2
// and sysctl.
func Text(name string, ports []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sysctl %s=1\n", vlanTagged)
	quiet := func(link string) {
		fmt.Fprintf(&b, "sysctl %s=1\nip link set %s addrgenmode none\n", path.Join("net/ipv6/conf", link, "disable_ipv6"), link)
	}
	for _, p := range ports {
		quiet(p)
	}
	fmt.Fprintf(&b, "ip link add %s type bridge%s\n", name, attrText(madeAttrs))
	quiet(name)
	fmt.Fprintf(&b, "ip link set %s arp off up\n", name)
	for _, p := range ports {
		fmt.Fprintf(&b, "ip link set %s master %s up\nip link set %s type bridge_slave%s\n", p, name, p, attrText(portAttrs))
	}
	return b.String()
}

func attrText(list []attr) string {
	var b strings.Builder
	for _, a := range list {
		if a.size == 2 { // a mask
			fmt.Fprintf(&b, " %s %#x", a.name, a.want)
			continue
		}
		fmt.Fprintf(&b, " %s %d", a.name, a.want)
	}
	return b.String()
}
