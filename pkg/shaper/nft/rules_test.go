package nft

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func TestKeyLayout(t *testing.T) {
	k4 := packet.MakeKey(6, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.3:80"))
	want := []byte{6, 0, 0, 0, 10, 1, 0, 2, 0x0f, 0xa0, 0, 0, 10, 2, 0, 3, 0, 80, 0, 0}
	if diff := cmp.Diff(want, layout4.key(k4)); diff != "" {
		t.Error(diff)
	}
	k6 := packet.MakeKey(17, netip.MustParseAddrPort("[fd01::2]:1"), netip.MustParseAddrPort("[fd02::3]:2"))
	b := layout6.key(k6)
	if len(b) != 44 || b[0] != 17 || b[4] != 0xfd || b[19] != 2 || b[21] != 1 || b[24] != 0xfd || b[39] != 3 || b[41] != 2 {
		t.Errorf("% x", b)
	}
	if layout4.keyType.Bytes != 20 || layout6.keyType.Bytes != 44 {
		t.Errorf("key types of %d and %d bytes", layout4.keyType.Bytes, layout6.keyType.Bytes)
	}
}

// merge keeps exactly the same numbers, sorted, apart from each other.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []span
		var want, got [256]bool
		for range rapid.IntRange(0, 8).Draw(t, "spans") {
			from := rapid.ByteRange(0, 255).Draw(t, "from")
			to := rapid.ByteRange(from, 255).Draw(t, "to")
			in = append(in, span{[]byte{from}, []byte{to}})
			for i := int(from); i <= int(to); i++ {
				want[i] = true
			}
		}
		var last []byte
		for _, s := range merge(in) {
			if last != nil {
				if end := next(last); end == nil || bytes.Compare(s.from, end) <= 0 {
					t.Fatalf("% x touches what ends at % x", s.from, last)
				}
			}
			last = s.to
			for i := int(s.from[0]); i <= int(s.to[0]); i++ {
				got[i] = true
			}
		}
		if got != want {
			t.Fatal("not the same numbers")
		}
	})
}

func TestSpans(t *testing.T) {
	b := &builder{lay: layout4}
	got := b.addrSpans([]netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.1.1.7/25"), netip.MustParsePrefix("fd00::/8"),
		netip.MustParsePrefix("10.1.0.128/26"),
	})
	if diff := cmp.Diff([]span{{[]byte{10, 1, 0, 0}, []byte{10, 1, 1, 127}}}, got, cmp.AllowUnexported(span{})); diff != "" {
		t.Error(diff)
	}
	all := b.addrSpans([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/8")})
	if len(all) != 1 || next(all[0].to) != nil {
		t.Errorf("%v", all)
	}
	ports := portSpans([][2]uint16{{80, 80}, {443, 443}, {81, 90}})
	if len(ports) != 2 || ports[0].to[1] != 90 {
		t.Errorf("%v", ports)
	}
}

func TestOpenRefusesNonsense(t *testing.T) {
	for name, q := range map[string]plan.Queue{
		"same queue":   {Control: 1, First: 1},
		"mark":         {Control: 1, First: 2, Mark: 0x1ff, MarkMask: 0xff},
		"ports of esp": {Control: 1, First: 2, Prefilters: []plan.Prefilter{{Proto: 50, ToPorts: [][2]uint16{{1, 2}}}}},
		"range":        {Control: 1, First: 2, Prefilters: []plan.Prefilter{{Proto: 6, ToPorts: [][2]uint16{{2, 1}}}}},
	} {
		if _, err := Open(q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
