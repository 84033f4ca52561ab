package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

const generalHex = "01000008 04000001 00000001 06000001 49989680 08000001 00000014 0a000001 000005dc"

// TestAdSpecRFC2210Section3_3_6 has the complete example's layout and lengths.
func TestAdSpecRFC2210Section3_3_6(t *testing.T) {
	a := intserv.NewAdSpec(intserv.Hop{
		Bandwidth: 1.25e6, Latency: 20, MTU: 1500, ControlledLoad: &intserv.ServiceHop{},
		Guaranteed: &intserv.GuaranteedHop{C: 1, D: 2},
	})
	body := golden(t, adSpec{&a}, "0054 0d02 00000013"+generalHex+
		"02000008 85000001 00000001 86000001 00000002 87000001 00000001 88000001 00000002 05000000")
	got, err := decodeAdSpec(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&a, got); d != "" {
		t.Error(d)
	}
}

func TestAdSpecRoundTrip(t *testing.T) {
	a := adspec()
	a.Break, a.Guaranteed.Break, a.ControlledLoad.Break = true, true, true
	a.Extra = unhex("0c000002 0102030405060708")
	a.Guaranteed.Extra = unhex("c8000000")
	a.ControlledLoad.Extra = unhex("c8000001 01020304")
	got, err := decodeAdSpec(adSpec{a}.appendBody(nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, got, cmpOptions); d != "" {
		t.Error(d)
	}
}

// TestAdSpecEmptyGuaranteedRFC2210Section3_3_3: a lone header with break bit.
func TestAdSpecEmptyGuaranteedRFC2210Section3_3_3(t *testing.T) {
	in := unhex("0000000a" + generalHex + "02800000")
	a, err := decodeAdSpec(in)
	if err != nil || !a.Guaranteed.Empty || !a.Guaranteed.Break {
		t.Fatalf("%+v, %v", a, err)
	}
	if d := cmp.Diff(in, adSpec{a}.appendBody(nil)); d != "" {
		t.Error(d)
	}
}

func TestAdSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"empty":             {"", "no message header"},
		"no fragments":      {"00000000", "no general parameters"},
		"no general":        {"00000001 05000000", "does not begin"},
		"out of order":      {"0000000b" + generalHex + "05000000 02800000", "out of order"},
		"fragment twice":    {"0000000b" + generalHex + "05000000 05000000", "out of order"},
		"fragment too long": {"0000000a" + generalHex + "05000001", "fragment of service 5"},
		"param too long":    {"0000000b" + generalHex + "05000001 06000001", "parameter 6"},
		"param length":      {"0000000c" + generalHex + "05000002 06000000 06000000", "parameter 6: 0 bytes"},
		"param twice":       {"0000000e" + generalHex + "05000004 06000001 49989680 06000001 49989680", "parameter 6 twice"},
		"no error terms":    {"0000000c" + generalHex + "02000002 85000001 00000001", "error terms"},
		"error term twice":  {"0000000e" + generalHex + "02000004 85000001 00000001 85000001 00000001", "twice"},
		"bandwidth NaN":     {"00000003 01000002 06000001 7fc00000", "not a number"},
	} {
		if _, err := decodeAdSpec(unhex(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestAdSpecAppendRefuses(t *testing.T) {
	for name, edit := range map[string]func(*intserv.AdSpec){
		"own service as unknown": func(a *intserv.AdSpec) { a.Unknown = []intserv.UnknownAd{{Service: 5}} },
		"unknown out of order":   func(a *intserv.AdSpec) { a.Unknown = []intserv.UnknownAd{{Service: 7}, {Service: 6}} },
		"odd body":               func(a *intserv.AdSpec) { a.Unknown = []intserv.UnknownAd{{Service: 7, Body: []byte{1}}} },
		"odd parameters":         func(a *intserv.AdSpec) { a.ControlledLoad.Extra = []byte{1} },
		"negative bandwidth":     func(a *intserv.AdSpec) { a.General.Bandwidth = -1 },
	} {
		m := four.samples()["path"]
		edit(m.AdSpec)
		if _, err := m.Append(nil); err == nil || asError(t, err).Class != ClassAdSpec {
			t.Errorf("%s: %v", name, err)
		}
	}
}
