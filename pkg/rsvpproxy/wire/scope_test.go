package wire

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScopeRFC2205AppendixA6: ascending order, whatever came in.
func TestScopeRFC2205AppendixA6(t *testing.T) {
	golden(t, scope{ip("10.0.0.1"), ip("10.0.0.2")}, "000c 0701 0a000001 0a000002")
	body := golden(t, scope{ip("2001:db8::2"), ip("2001:db8::1")},
		"0024 0702 20010db8000000000000000000000002 20010db8000000000000000000000001")
	got, err := decodeScope(2, body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(scope{ip("2001:db8::1"), ip("2001:db8::2")}, got, cmpOptions); d != "" {
		t.Error(d)
	}
	for _, n := range []int{0, 3, 6} {
		if _, err := decodeScope(1, make([]byte, n)); err == nil || err.Kind != KindObjectLength {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := decodeScope(3, make([]byte, 16)); err == nil || err.Kind != KindUnknownCType {
		t.Errorf("C-Type 3: %v", err)
	}
}

func TestScopeIsSortedWhenSent(t *testing.T) {
	m := four.samples()["resv-wf"]
	m.Scope = []netip.Addr{four.src2, four.src, four.src2}
	got, err := Parse(encode(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]netip.Addr{four.src, four.src2}, got.Scope, cmpOptions); d != "" {
		t.Error(d)
	}
	if m.Scope[0] != four.src2 {
		t.Error("the caller's list was sorted")
	}
}
