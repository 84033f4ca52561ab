package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (f family) assoc() SessionAssoc {
	return SessionAssoc{Session: Session{Dst: f.dst, Protocol: 17, DstPort: 5004}, Tunnel: Filter{Src: f.hop, SrcPort: 7}}
}

// TestSessionAssocRFC2746Section2_3_1: class 192, C-Type zero, SESSION and
// FILTER_SPEC inside. It travels in a Path through those who do not know it, and
// the tunnel's exit takes it out.
func TestSessionAssocRFC2746Section2_3_1(t *testing.T) {
	golden(t, four.assoc().Object(), "001c c000 000c 0101 0a012406 11 00 138c 000c 0a01 0a011802 0000 0007")
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		a := f.assoc()
		m := f.samples()["path"]
		other := Object{Class: 193, CType: 1, Body: []byte{1, 2, 3, 4}}
		ignored := a.Object()
		ignored.CType = 77
		m.Unknown = []Object{ignored, other}
		got, err := Parse(encode(t, m))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := got.TakeSessionAssoc()
		if found == nil || *found != a || len(got.Unknown) != 1 || got.Unknown[0].Class != 193 {
			t.Errorf("%s: %+v, left %v", name, found, got.Unknown)
		}
		if got.TakeSessionAssoc() != nil {
			t.Errorf("%s: found again", name)
		}
		o := a.Object()
		for n := range o.Body {
			if _, err := ParseSessionAssoc(Object{Class: ClassSessionAssoc, Body: o.Body[:n]}); err == nil || asError(t, err).Respond {
				t.Errorf("%s: prefix of %d bytes: %v", name, n, err)
			}
		}
	}
	for name, body := range map[string][]byte{
		"filter first":  appendObject(appendObject(nil, filterSpec{new(four.assoc().Tunnel)}), four.assoc().Session),
		"two sessions":  appendObject(appendObject(nil, four.assoc().Session), four.assoc().Session),
		"third":         append(four.assoc().Object().Body, 0, 8, 8, 1, 0, 0, 0, 10),
		"zero protocol": appendObject(appendObject(nil, Session{Dst: four.dst}), filterSpec{new(four.assoc().Tunnel)}),
		"zero sender":   append(four.assoc().Object().Body[:16:16], 0, 0, 0, 0, 0, 0, 0, 7),
	} {
		if _, err := ParseSessionAssoc(Object{Class: ClassSessionAssoc, Body: body}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseSessionAssoc(Object{Class: 193, Body: four.assoc().Object().Body}); err == nil {
		t.Error("another class is accepted")
	}
}

// TestNodeCharRFC2746Section2_3_2: class 128, C-Type zero, eight bytes, the T
// bit last. It is for Resv; elsewhere, and where it is not well made, it is as if
// it were not there.
func TestNodeCharRFC2746Section2_3_2(t *testing.T) {
	golden(t, nodeChar{}, "0008 8000 00000001")
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		for _, style := range []string{"resv-ff", "resv-se", "resv-wf"} {
			m := f.samples()[style]
			m.TunnelEnd = true
			got, err := Parse(encode(t, m))
			if err != nil {
				t.Fatalf("%s %s: %v", name, style, err)
			}
			if d := cmp.Diff(m, got, cmpOptions); d != "" {
				t.Errorf("%s %s: %s", name, style, d)
			}
		}
		m := f.samples()["path"]
		m.TunnelEnd = true
		if _, err := m.Append(nil); err == nil {
			t.Errorf("%s: sent in a Path", name)
		}
		for what, o := range map[string]Object{
			"no T": {Class: 128, Body: []byte{0, 0, 0, 2}}, "short": {Class: 128}, "long": {Class: 128, Body: make([]byte, 8)},
		} {
			b := encode(t, f.samples()["resv-ff"])
			b = append(b[:8:8], append(appendObject(nil, o), b[8:]...)...)
			if got, err := Parse(reseal(b)); err != nil || got.TunnelEnd {
				t.Errorf("%s %s: %v %v", name, what, got, err)
			}
		}
	}
}

// FuzzSessionAssoc: what is read is written the same.
func FuzzSessionAssoc(f *testing.F) {
	for _, a := range []SessionAssoc{four.assoc(), six.assoc()} {
		f.Add(a.Object().Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseSessionAssoc(Object{Class: ClassSessionAssoc, Body: body})
		if err != nil {
			if asError(t, err).Respond {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseSessionAssoc(a.Object())
		if err != nil || again != a {
			t.Fatalf("%+v, %+v, %v", a, again, err)
		}
	})
}
