// Package classify decides which policy claims a flow.
//
// A Table is immutable: a reload builds a new one and swaps the pointer, so
// that every packet is judged by one whole set of policies. The package is
// pure.
package classify

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Ports is an inclusive range of ports.
type Ports struct{ First, Last uint16 }

// Rule is the match of one policy. From and To are the direction of the data,
// whoever opened the connection. An empty list matches everything.
type Rule struct {
	Name               string
	Proto              uint8 // 0: any
	From, To           []netip.Prefix
	FromPorts, ToPorts []Ports
}

// Table is an ordered list of rules; the first that matches wins.
type Table struct{ rules []Rule }

// New makes a table of rules, which must not be changed afterwards.
func New(rules []Rule) *Table { return &Table{rules: rules} }

// Len is the number of rules.
func (t *Table) Len() int { return len(t.rules) }

// Rule returns rule i.
func (t *Table) Rule(i int) *Rule { return &t.rules[i] }

// Match finds the rule that claims data that flows in the direction of key.
// It returns the rule's index, or -1.
func (t *Table) Match(key packet.FlowKey) int {
	src, dst := key.SrcAddr(), key.DstAddr()
	for i := range t.rules {
		r := &t.rules[i]
		if (r.Proto == 0 || r.Proto == key.Proto) &&
			inPrefixes(r.From, src) && inPrefixes(r.To, dst) &&
			inPorts(r.FromPorts, key.SrcPort) && inPorts(r.ToPorts, key.DstPort) {
			return i
		}
	}
	return -1
}

func inPrefixes(list []netip.Prefix, a netip.Addr) bool {
	if len(list) == 0 {
		return true
	}
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func inPorts(list []Ports, port uint16) bool {
	if len(list) == 0 {
		return true
	}
	for _, r := range list {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}
