package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Chain is one that drops what none of its rules accepts.
type Chain struct {
	Name   string // "FAMILY TABLE CHAIN"
	Accept string // the rule that lets pass there what crosses the bridge
}

// Dropping lists chains of others that packets pass on their way over a bridge, and that
// drop what none of their rules accepts. One of which a rule names the bridge, or its
// ports where packets have these, is not among them: who wrote it knows of it.
func Dropping(bridge string, ports []string) (found []Chain, err error) {
	c, err := dial(callTimeout)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	defer func() { err = errors.Join(err, c.CloseLasting()) }()
	err = c.call(func() error {
		chains, err := c.ListChains()
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if !onTheWay(chain) {
				continue
			}
			keys, accept := told(chain, bridge, ports)
			named, err := c.named(chain, keys)
			if err != nil {
				return err
			}
			if !named {
				found = append(found, Chain{fmt.Sprintf("%s %s %s", families[chain.Table.Family], chain.Table.Name, chain.Name), accept})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	slices.SortFunc(found, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet", nftables.TableFamilyBridge: "bridge",
}

// onTheWay tells of a base chain that drops by default what is forwarded. The hooks have
// the same numbers in all of these families.
func onTheWay(c *nftables.Chain) bool {
	if families[c.Table.Family] == "" || c.Hooknum == nil || c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
		return false
	}
	switch *c.Hooknum {
	case *nftables.ChainHookPrerouting, *nftables.ChainHookForward, *nftables.ChainHookPostrouting:
		return true
	}
	return false
}

// told is how a chain's rules tell what crosses a bridge: by which keys with which
// names, and one that accepts it. Before the forward hook there is no interface that
// packets leave by, and behind it none that they came in by. br_netfilter has the bridge
// for both; in the family bridge they are its ports, and the bridge has keys of its own,
// which not every kernel knows.
func told(c *nftables.Chain, bridge string, ports []string) (keys map[expr.MetaKey][]string, accept string) {
	names, text := []string{bridge}, bridge
	if c.Table.Family == nftables.TableFamilyBridge {
		names, text = ports, "{ "+strings.Join(ports, ", ")+" }"
	}
	keys = map[expr.MetaKey][]string{}
	accept = "oifname " + text + " accept"
	if *c.Hooknum != *nftables.ChainHookPrerouting {
		keys[expr.MetaKeyOIFNAME], keys[expr.MetaKeyBRIOIFNAME] = names, []string{bridge}
	}
	if *c.Hooknum != *nftables.ChainHookPostrouting {
		keys[expr.MetaKeyIIFNAME], keys[expr.MetaKeyBRIIIFNAME] = names, []string{bridge}
		accept = "iifname " + text + " accept"
	}
	return keys, accept
}

// named tells whether a rule of a chain compares one of the keys with one of its names,
// or with the beginning of one (iifname "eth*"), or looks for it in a set or a map.
func (c *conn) named(chain *nftables.Chain, keys map[expr.MetaKey][]string) (bool, error) {
	rules, err := c.GetRules(chain.Table, chain)
	if err != nil {
		return false, err
	}
	for _, r := range rules {
		var names []string // of what was loaded last
		means := func(data []byte) bool {
			return slices.ContainsFunc(names, func(name string) bool { return bytes.HasPrefix(padded(name), data) })
		}
		for _, e := range r.Exprs {
			switch e := e.(type) {
			case *expr.Meta:
				names = keys[e.Key]
			case *expr.Cmp:
				if means(e.Data) {
					return true, nil
				}
			case *expr.Lookup:
				if len(names) == 0 {
					continue
				}
				list, err := c.GetSetElements(&nftables.Set{Table: chain.Table, Name: e.SetName})
				if err != nil {
					return false, err
				}
				if slices.ContainsFunc(list, func(e nftables.SetElement) bool { return means(e.Key) }) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// padded is a name as a rule has it that means the whole of it.
func padded(iface string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, iface)
	return b
}
