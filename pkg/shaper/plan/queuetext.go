package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// queueText writes the queue table as nft would, one table per family.
func queueText(q Queue) string {
	q = q.WithDefaults()
	var b strings.Builder
	b.WriteString(queueTableText(q, "ip"))
	if q.HasIPv6 {
		b.WriteByte('\n')
		b.WriteString(queueTableText(q, "ip6"))
	}
	return b.String()
}

func queueTableText(q Queue, family string) string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("\t", indent))
		fmt.Fprintf(&b, format+"\n", args...)
	}
	tuple := fmt.Sprintf("%s saddr . %s daddr . meta l4proto . th sport . th dport", family, family)
	// "Protocol unreachable" from hosts that speak no RSVP.
	icmp := []string{"icmp type 3 icmp code 2 @th,136,8 { 46, 134 } drop"}
	if family == "ip6" {
		icmp = []string{
			"icmpv6 type 4 icmpv6 code 1 @th,112,8 { 46, 134 } drop",
			"icmpv6 type 4 icmpv6 code 1 @th,112,8 0 @th,384,8 { 46, 134 } drop",
			"icmpv6 type 4 icmpv6 code 1 @th,112,8 44 @th,384,8 { 46, 134 } drop",
			"icmpv6 type 4 icmpv6 code 1 @th,112,8 0 @th,384,8 44 @th,448,8 { 46, 134 } drop",
		}
	}
	line(0, "table %s %s {", family, QueueTable)
	line(1, "flags owner")
	line(1, "set alive { timeout 1s; comment \"renewed while the daemon is well\" }")
	for i := range q.Cheat {
		line(1, "set cheated_%d { typeof %s; size %d }", i, tuple, q.MaxCheated)
	}
	line(1, "set watched { typeof %s; size %d; comment \"connections with a reservation by hand\" }", tuple, q.MaxCheated)
	line(1, "set settled { typeof %s; size %d; flags timeout; timeout %s }", tuple, q.MaxSettled, q.SettledTimeout)
	line(1, "chain prerouting {")
	line(2, "type filter hook prerouting priority mangle; policy accept;")
	line(2, "not in @alive accept")
	line(2, "meta l4proto { 46, 134 } queue num %d bypass", q.Control)
	for _, rule := range icmp {
		line(2, "%s", rule)
	}
	line(1, "}")
	line(1, "chain output {")
	line(2, "type filter hook output priority mangle; policy accept;")
	for _, rule := range icmp {
		line(2, "%s", rule)
	}
	line(1, "}")
	line(1, "chain forward {")
	line(2, "type filter hook forward priority mangle; policy accept;")
	line(2, "not in @alive accept")
	line(2, "meta mark & %#x == %#x accept", q.MarkMask, q.Mark)
	for i, num := range q.Cheat {
		line(2, "%s @cheated_%d queue num %d bypass", tuple, i, num)
	}
	line(2, "tcp flags & (fin | syn | rst) != 0 goto policy")
	line(2, "%s @settled accept", tuple)
	line(2, "goto policy")
	line(1, "}")
	if q.Reassemble {
		line(1, "chain reassemble { tproxy to :0 } # never reached: its presence makes the kernel reassemble")
	}
	line(1, "chain policy {")
	line(2, "meta l4proto tcp %s @watched queue num %d bypass", tuple, q.First)
	for _, f := range q.Prefilters {
		if !f.inFamily(family) {
			continue
		}
		line(2, "%squeue num %d bypass", f.text(family), q.First)
		if f.BothWays {
			line(2, "%squeue num %d bypass", f.Reversed().text(family), q.First)
		}
	}
	line(1, "}")
	line(0, "}")
	return b.String()
}

// inFamily tells whether a packet of the family can match.
func (f Prefilter) inFamily(family string) bool {
	can := func(prefixes []netip.Prefix) bool {
		return len(prefixes) == 0 || len(ofFamily(prefixes, family)) > 0
	}
	return can(f.From) && can(f.To)
}

func ofFamily(prefixes []netip.Prefix, family string) []string {
	var s []string
	for _, p := range prefixes {
		if p.Addr().Is4() == (family == "ip") {
			s = append(s, p.String())
		}
	}
	return s
}

func (f Prefilter) text(family string) string {
	var b strings.Builder
	add := func(match string, values []string) {
		switch len(values) {
		case 0:
		case 1:
			fmt.Fprintf(&b, "%s %s ", match, values[0])
		default:
			fmt.Fprintf(&b, "%s { %s } ", match, strings.Join(values, ", "))
		}
	}
	l4 := "th"
	if f.Proto != 0 {
		l4 = packet.ProtoName(f.Proto)
		add("meta l4proto", []string{l4})
	}
	add(family+" saddr", ofFamily(f.From, family))
	add(family+" daddr", ofFamily(f.To, family))
	add(l4+" sport", portRanges(f.FromPorts))
	add(l4+" dport", portRanges(f.ToPorts))
	return b.String()
}

func portRanges(ranges [][2]uint16) []string {
	s := make([]string, len(ranges))
	for i, r := range ranges {
		s[i] = fmt.Sprint(r[0])
		if r[1] != r[0] {
			s[i] = fmt.Sprintf("%d-%d", r[0], r[1])
		}
	}
	return s
}
