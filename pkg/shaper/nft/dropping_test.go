package nft

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A firewall that drops what it does not know is told of, until it knows.
func TestDropping(t *testing.T) {
	l := newLab(t)
	check := func(want ...string) {
		t.Helper()
		must(t, l.Box.Do(func() error {
			chains, err := Dropping("qp0", []string{"lan0", "wan0"})
			var got []string
			for _, c := range chains {
				got = append(got, c.Name+": "+c.Accept)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			return err
		}))
	}
	check()
	l.open(t, testQueue) // ours accept
	check()
	drop, accept := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	var early, forward, late, in, across, out *nftables.Chain
	change := func(f func(c *nftables.Conn)) {
		t.Helper()
		must(t, l.Box.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			f(c)
			return c.Flush()
		}))
	}
	change(func(c *nftables.Conn) {
		filter := c.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyINet})
		add := func(name string, hook *nftables.ChainHook, p *nftables.ChainPolicy) *nftables.Chain {
			return c.AddChain(&nftables.Chain{Name: name, Table: filter, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: p})
		}
		add("input", nftables.ChainHookInput, &drop)
		add("output", nftables.ChainHookOutput, &drop)
		add("raw", nftables.ChainHookPrerouting, &accept)
		c.AddChain(&nftables.Chain{Name: "docker", Table: filter})
		early = add("early", nftables.ChainHookPrerouting, &drop)
		forward = add("forward", nftables.ChainHookForward, &drop)
		six := c.AddTable(&nftables.Table{Name: "late", Family: nftables.TableFamilyIPv6})
		late = c.AddChain(&nftables.Chain{Name: "out", Table: six, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityFilter, Policy: &drop})
		filter = c.AddTable(&nftables.Table{Name: "wire", Family: nftables.TableFamilyBridge})
		in, across, out = add("a", nftables.ChainHookPrerouting, &drop), add("b", nftables.ChainHookForward, &drop), add("c", nftables.ChainHookPostrouting, &drop)
	})
	left := []string{
		"bridge wire a: iifname { lan0, wan0 } accept", "bridge wire b: iifname { lan0, wan0 } accept", "bridge wire c: oifname { lan0, wan0 } accept",
		"inet filter early: iifname qp0 accept", "inet filter forward: iifname qp0 accept", "ip6 late out: oifname qp0 accept",
	}
	check(left...)
	known := func(chain string) {
		t.Helper()
		left = slices.DeleteFunc(left, func(line string) bool { return strings.HasPrefix(line, chain+": ") })
		check(left...)
	}
	const iif, oif = expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME
	named := func(at *nftables.Chain, key expr.MetaKey, match ...expr.Any) *nftables.Rule {
		return &nftables.Rule{Table: at.Table, Chain: at, Exprs: append(
			append([]expr.Any{&expr.Meta{Key: key, Register: 1}}, match...), &expr.Verdict{Kind: expr.VerdictAccept})}
	}
	one := func(at *nftables.Chain, key expr.MetaKey, data []byte) {
		t.Helper()
		change(func(c *nftables.Conn) {
			c.AddRule(named(at, key, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}))
		})
	}
	among := func(at *nftables.Chain, key expr.MetaKey, list ...string) {
		t.Helper()
		change(func(c *nftables.Conn) {
			set := &nftables.Set{Table: at.Table, Anonymous: true, Constant: true, KeyType: nftables.TypeIFName}
			var elements []nftables.SetElement
			for _, name := range list {
				elements = append(elements, nftables.SetElement{Key: padded(name)})
			}
			must(t, c.AddSet(set, elements))
			c.AddRule(named(at, key, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}))
		})
	}
	// Of others.
	for _, name := range []string{"eth0", "qp01", "qp", "lan0"} {
		one(forward, iif, padded(name))
	}
	one(early, iif, []byte("eth"))
	among(late, oif, "eth0", "qp01")
	one(across, iif, padded("qp0"))
	one(across, oif, padded("qp0"))
	check(left...)
	// Where packets do not have them.
	one(early, oif, padded("qp0"))
	among(late, iif, "eth0", "qp0")
	one(in, oif, padded("lan0"))
	among(out, iif, "lan0", "wan0")
	check(left...)
	one(forward, oif, padded("qp0"))
	known("inet filter forward")
	one(early, iif, []byte("qp")) // qp*
	known("inet filter early")
	among(late, oif, "eth0", "qp0")
	known("ip6 late out")
	one(in, iif, padded("lan0"))
	known("bridge wire a")
	one(across, oif, padded("wan0"))
	known("bridge wire b")
	among(out, oif, "lan0", "wan0")
	known("bridge wire c")
}

// A bridge has keys of its own in the family bridge, as a kernel with NFT_BRIDGE_META
// knows them.
func TestKeysOfABridge(t *testing.T) {
	wire := &nftables.Table{Name: "wire", Family: nftables.TableFamilyBridge}
	for hook, want := range map[*nftables.ChainHook][2]bool{
		nftables.ChainHookPrerouting: {true, false}, nftables.ChainHookForward: {true, true}, nftables.ChainHookPostrouting: {false, true},
	} {
		keys, _ := told(&nftables.Chain{Table: wire, Hooknum: hook}, "qp0", []string{"lan0", "wan0"})
		for i, key := range []expr.MetaKey{expr.MetaKeyBRIIIFNAME, expr.MetaKeyBRIOIFNAME} {
			if got := slices.Equal(keys[key], []string{"qp0"}); got != want[i] {
				t.Errorf("hook %d: key %d is %q", *hook, key, keys[key])
			}
		}
	}
}
