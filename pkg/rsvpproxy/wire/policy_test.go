package wire

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func policySample(f family) (*PolicyData, PolicyOptions) {
	integrity := Integrity{KeyID: 1, Sequence: 2, Digest: make([]byte, 16)}.Object()
	o := PolicyOptions{
		Filters:     []Filter{{Src: f.src, SrcPort: 1}, {Src: f.src2}},
		Originating: &Hop{Addr: f.hop}, Destination: &Hop{Addr: f.dst, LIH: 3},
		Integrity: &integrity, Refresh: &TimeValues{Refresh: 90000},
		Unknown: []Object{{Class: 0xc0, CType: 1, Body: []byte{1, 2, 3, 4}}},
	}
	id := Identity{Type: AuthUser, Attributes: []AuthAttribute{
		{AuthPolicyLocator, LocatorASCII, []byte("CN=Ann, O=Example")},
		{AuthCredential, CredentialASCII, []byte("ann")},
	}}
	user, _ := id.Element()
	return &PolicyData{Options: o.Objects(), Elements: []PolicyElement{
		Preemption{Strategy: MergeHighestQoS, Priority: 3, Defending: 5}.Element(), user,
		{Type: 53248, Body: []byte{9, 9, 9, 9}}, // private use: opaque
		{Type: AuthApp},                         // empty: deletes state (section 3.4)
	}}, o
}

// TestPolicyRFC2750Section3_1 has the figure's layout.
func TestPolicyRFC2750Section3_1(t *testing.T) {
	p := &PolicyData{
		Options:  PolicyOptions{Originating: &Hop{Addr: four.hop}}.Objects(),
		Elements: []PolicyElement{Preemption{Strategy: MergeForceError, Error: PreemptionHeterogeneous, Priority: 1, Defending: 0xffff}.Element()},
	}
	o, err := p.Object()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, o, "0020 0e01 0014 0000 000c 0301 0a011802 00000000 000c 0001 00 03 02 00 0001 ffff")
}

func TestPolicyRoundTrip(t *testing.T) {
	for _, f := range []family{four, six} {
		p, options := policySample(f)
		o, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePolicy(o)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got, cmpOptions); d != "" {
			t.Error(d)
		}
		read, err := got.Read()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(options, read, cmpOptions); d != "" {
			t.Error(d)
		}
		// In a message it stays what it is.
		m := four.samples()["path"]
		m.Policy = []Object{o}
		back, err := Parse(encode(t, m))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, back.Policy[0]); d != "" {
			t.Error(d)
		}
		for n := range o.Body {
			got, err := ParsePolicy(Object{o.Class, o.CType, o.Body[:n]})
			if err == nil {
				if again, err := got.Object(); err != nil || len(again.Body) != n {
					t.Errorf("prefix of %d bytes read as %d, %v", n, len(again.Body), err)
				}
			}
		}
	}
}

// TestPolicySyntaxRFC2750AppendixA: lengths of zero, short ones and ones past
// the end are bad syntax, reported by code 2 and value 11 or 13.
func TestPolicySyntaxRFC2750AppendixA(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want uint16
	}{
		"empty":                    {"", PolicyBadSyntax},
		"offset 0":                 {"0000 0000", PolicyBadSyntax},
		"offset into the header":   {"0004 0000", PolicyBadSyntax},
		"odd offset":               {"000a 0000 00040001", PolicyBadSyntax},
		"offset past the end":      {"000c 0000", PolicyBadSyntax},
		"offset 0xffff":            {"fffc 0000 00040001", PolicyBadSyntax},
		"option of length 0":       {"000c 0000 00000301", PolicyBadSyntax},
		"option of length 2":       {"000c 0000 00020301", PolicyBadSyntax},
		"option into the elements": {"000c 0000 00080301 00000000", PolicyBadSyntax},
		"element of length 0":      {"0008 0000 00000001", PolicyBadElement},
		"element of length 3":      {"0008 0000 00030001", PolicyBadElement},
		"element of length 5":      {"0008 0000 00050001 00000000", PolicyBadElement},
		"element past the end":     {"0008 0000 00080001", PolicyBadElement},
	} {
		p, err := ParsePolicy(Object{ClassPolicyData, 1, unhex(tc.body)})
		if err == nil || p != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if e := asError(t, err); e.Code != ErrPolicy || e.Value != tc.want || !e.Respond || e.Kind != KindPolicy {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if p, err := ParsePolicy(Object{ClassPolicyData, 1, unhex("0008 0000")}); err != nil || p.Elements != nil {
		t.Errorf("nothing in it: %+v, %v", p, err)
	}
	if _, err := ParsePolicy(Object{ClassPolicyData, 2, nil}); err == nil || asError(t, err).Code != ErrUnknownCType {
		t.Errorf("C-Type 2: %v", err)
	}
	if _, err := ParsePolicy(Object{ClassStyle, 1, unhex("0008 0000")}); err == nil {
		t.Error("STYLE accepted")
	}
}

// TestPolicyOptionsRFC2750Section3_2: FILTER_SPEC and SCOPE exclude each other;
// there are at most two RSVP_HOPs.
// TIME_VALUES and INTEGRITY among them.
func TestPolicyOptionsRFC2750Section3_2(t *testing.T) {
	hop := PolicyOptions{Originating: &Hop{Addr: four.hop}}.Objects()[0]
	filter := PolicyOptions{Filters: []Filter{{Src: four.src}}}.Objects()[0]
	scoped := PolicyOptions{Scope: []netip.Addr{four.src}}.Objects()[0]
	integrity := *handshakes()["response"].Integrity
	refresh := PolicyOptions{Refresh: &TimeValues{1}}.Objects()[0]
	for name, os := range map[string][]Object{
		"FILTER_SPEC and SCOPE": {filter, scoped},
		"two SCOPEs":            {scoped, scoped},
		"three RSVP_HOPs":       {hop, hop, hop},
		"two INTEGRITYs":        {integrity, integrity},
		"two TIME_VALUES":       {refresh, refresh},
		"short HOP":             {{ClassHop, 1, nil}},
	} {
		_, err := (&PolicyData{Options: os}).Read()
		if err == nil || asError(t, err).Value != PolicyBadSyntax {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := (&PolicyData{Options: []Object{scoped, hop}}).Read()
	if err != nil || len(got.Scope) != 1 || got.Originating == nil || got.Destination != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPolicyObjectRefuses(t *testing.T) {
	for name, p := range map[string]PolicyData{
		"odd option":  {Options: []Object{{Class: 1, Body: []byte{1}}}},
		"odd element": {Elements: []PolicyElement{{Type: 1, Body: []byte{1}}}},
		"too long":    {Elements: []PolicyElement{{Type: 1, Body: make([]byte, 40000)}, {Type: 2, Body: make([]byte, 40000)}}},
		"long option": {Options: []Object{{Class: 1, Body: make([]byte, 1<<16)}}},
	} {
		if _, err := p.Object(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
