package wire

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// parts are the objects of a message, to be put together in wrong ways.
func parts(m *Message) (os []object) {
	for o := range m.objects() {
		os = append(os, o)
	}
	return os
}

func without(os []object, c Class) (out []object) {
	for _, o := range os {
		if class, _ := o.header(); class != c {
			out = append(out, o)
		}
	}
	return out
}

// TestRequiredObjectsRFC2205Section3_1: without a required object a message is
// dropped, never answered (Appendix B); without any other it is read.
func TestRequiredObjectsRFC2205Section3_1(t *testing.T) {
	for name, m := range four.samples() {
		for c := range Class(16) {
			os := parts(m)
			rest := without(os, c)
			if len(rest) == len(os) || c == ClassFlowSpec || c == ClassFilterSpec {
				continue
			}
			_, err := Parse(raw(m.Type, rest...))
			if rules[m.Type].required.has(c) {
				if err == nil || asError(t, err).Respond {
					t.Errorf("%s without %v: %v", name, c, err)
				}
			} else if err != nil {
				t.Errorf("%s without %v: %v", name, c, err)
			}
		}
	}
}

// TestIllegalObjectsRFC2205AppendixB: a class that does not belong into a
// message, or a second one of a kind, condemns it.
func TestIllegalObjectsRFC2205AppendixB(t *testing.T) {
	one := map[Class]object{}
	for _, m := range four.samples() {
		for _, o := range parts(m) {
			c, _ := o.header()
			one[c] = o
		}
	}
	for name, m := range four.samples() {
		r := rules[m.Type]
		for c, o := range one {
			switch {
			case !c.known() || c == ClassIntegrity || c == ClassFlowSpec || c == ClassFilterSpec:
				continue
			case !(r.required | r.optional).has(c):
				_, err := Parse(raw(m.Type, append([]object{o}, parts(m)...)...))
				if m.Integrity != nil {
					_, err = Parse(raw(m.Type, append(parts(m), o)...))
				}
				if err == nil || asError(t, err).Kind != KindIllegalClass {
					t.Errorf("%s with %v: %v", name, c, err)
				}
			case r.required.has(c) && c != ClassStyle:
				_, err := Parse(raw(m.Type, append(without(parts(m), ClassIntegrity), o)...))
				wanted := KindDuplicate
				if r.required.has(ClassStyle) {
					wanted = KindOrder
				}
				if err == nil || asError(t, err).Kind != wanted {
					t.Errorf("%s with two %v: %v", name, c, err)
				}
			}
		}
	}
}

// TestObjectOrderRFC2205Section3_1: what comes before STYLE may come in any
// order; INTEGRITY comes first, STYLE and the flow descriptors last.
func TestObjectOrderRFC2205Section3_1(t *testing.T) {
	m := four.samples()["resv-ff"]
	os := parts(m)
	style := 0
	for i, o := range os {
		if c, _ := o.header(); c == ClassStyle {
			style = i
		}
	}
	reversed := append([]object{}, os...)
	for i := range style / 2 {
		reversed[i], reversed[style-1-i] = reversed[style-1-i], reversed[i]
	}
	got, err := Parse(raw(m.Type, reversed...))
	if err != nil {
		t.Fatal(err)
	}
	want := *m
	want.SendTTL = 64
	if d := cmp.Diff(&want, got, cmpOptions); d != "" {
		t.Error(d)
	}

	integrity := Object{Class: ClassIntegrity, CType: 1, Body: make([]byte, 32)}
	for name, tc := range map[string]struct {
		os   []object
		want Kind
	}{
		"flow descriptor before STYLE": {append([]object{*controlledLoadObject()}, os...), KindOrder},
		"SCOPE behind STYLE":           {append(append([]object{}, os...), scope{four.src}), KindOrder},
		"second STYLE":                 {append(append([]object{}, os...), FF), KindOrder},
		"INTEGRITY second":             {append([]object{os[0], integrity}, os[1:]...), KindOrder},
		"INTEGRITY behind an unknown":  {append([]object{Object{Class: 0xc0}, integrity}, os...), KindOrder},
		"INTEGRITY twice":              {append([]object{integrity, integrity}, os...), KindOrder},
	} {
		if _, err := Parse(raw(m.Type, tc.os...)); err == nil || asError(t, err).Kind != tc.want {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := Parse(raw(m.Type, append([]object{Object{}, integrity}, os...)...)); err != nil {
		t.Errorf("INTEGRITY behind a NULL: %v", err)
	}
}

func controlledLoadObject() *flowSpec { return &flowSpec{controlledLoad()} }

// TestNullRFC2205Section3_1_2: a NULL object is ignored wherever it is, with any
// C-Type and contents.
func TestNullRFC2205Section3_1_2(t *testing.T) {
	null := Object{Class: ClassNull, CType: 99, Body: []byte{0xde, 0xad, 0xbe, 0xef}}
	for name, m := range samples() {
		var os []object
		for _, o := range parts(m) {
			os = append(os, null, o, Object{})
		}
		got, err := Parse(raw(m.Type, os...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := *m
		want.Flags, want.SendTTL = 0, 64
		if d := cmp.Diff(&want, got, cmpOptions); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

// TestFlowDescriptorsRFC2205Section3_1_4 has the composition of the list, style
// by style.
func TestFlowDescriptorsRFC2205Section3_1_4(t *testing.T) {
	fs, gs := flowSpec{controlledLoad()}, flowSpec{guaranteed()}
	one, two := filterSpec{&Filter{Src: four.src}}, filterSpec{&Filter{Src: four.src2}}
	for _, tc := range []struct {
		name  string
		typ   MsgType
		style Style
		list  []object
		want  Kind // 0: fine
		flows int
	}{
		{"ff", Resv, FF, []object{fs, one, gs, two}, 0, 2},
		{"ff, FLOWSPEC left out", Resv, FF, []object{fs, one, two}, 0, 2},
		{"ff, first FLOWSPEC left out", Resv, FF, []object{one, fs, two}, KindFlowCount, 0},
		{"ff, two FLOWSPECs", Resv, FF, []object{fs, gs, one}, KindFlowCount, 0},
		{"ff, FLOWSPEC at the end", Resv, FF, []object{fs, one, gs}, KindFlowCount, 0},
		{"ff, empty", Resv, FF, nil, KindFlowCount, 0},
		{"se", Resv, SE, []object{fs, one, two}, 0, 1},
		{"se, two FLOWSPECs", Resv, SE, []object{fs, one, gs, two}, KindFlowCount, 0},
		{"se, filters first", Resv, SE, []object{one, fs}, KindFlowCount, 0},
		{"se, no FLOWSPEC", Resv, SE, []object{one}, KindFlowCount, 0},
		{"se, no filter", Resv, SE, []object{fs}, KindFlowCount, 0},
		{"se, empty", Resv, SE, nil, KindFlowCount, 0},
		{"wf", Resv, WF, []object{fs}, 0, 1},
		{"wf, filter", Resv, WF, []object{fs, one}, KindFlowCount, 0},
		{"wf, two FLOWSPECs", Resv, WF, []object{fs, gs}, KindFlowCount, 0},
		{"wf, empty", Resv, WF, nil, KindFlowCount, 0},
		{"tear ff without FLOWSPEC", ResvTear, FF, []object{one, two}, 0, 2},
		{"tear ff with FLOWSPEC", ResvTear, FF, []object{fs, one, two}, 0, 2},
		{"tear ff, empty", ResvTear, FF, nil, KindFlowCount, 0},
		{"tear se", ResvTear, SE, []object{one, two}, 0, 1},
		{"tear wf", ResvTear, WF, nil, 0, 0},
		{"tear wf with FLOWSPEC", ResvTear, WF, []object{fs}, 0, 0},
		{"error ff", ResvErr, FF, []object{fs, one}, 0, 1},
		{"error ff, two", ResvErr, FF, []object{fs, one, gs, two}, KindFlowCount, 0},
		{"error without descriptor", ResvErr, SE, nil, 0, 0},
	} {
		os := []object{Session{Dst: four.dst, Protocol: 17}, Hop{Addr: four.hop}}
		switch tc.typ {
		case Resv:
			os = append(os, TimeValues{30000})
		case ResvErr:
			os = append(os, ErrorSpec{Node: four.hop, Code: ErrAdmission})
		default:
		}
		m, err := Parse(raw(tc.typ, append(append(os, tc.style), tc.list...)...))
		switch {
		case tc.want == 0 && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want == 0 && len(m.Flows) != tc.flows:
			t.Errorf("%s: %d flows, want %d", tc.name, len(m.Flows), tc.flows)
		case tc.want != 0 && (err == nil || asError(t, err).Kind != tc.want):
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if tc.name == "ff, FLOWSPEC left out" && *m.Flows[1].FlowSpec != *fs.FlowSpec {
			t.Error("the FLOWSPEC left out was not filled in")
		}
	}
}

// TestResvTearFlowSpecRFC2205Section3_1_6: whatever it holds, it is ignored; so
// are the TSPEC and ADSPEC of a PathTear (section 3.1.5).
func TestTearsIgnoreRFC2205Section3_1_6(t *testing.T) {
	junk := Object{Class: ClassFlowSpec, CType: 77, Body: []byte{1, 2, 3, 4}}
	m, err := Parse(raw(ResvTear, Session{Dst: four.dst, Protocol: 17}, Hop{Addr: four.hop}, FF,
		junk, filterSpec{&Filter{Src: four.src}}))
	if err != nil || len(m.Flows) != 1 || m.Flows[0].FlowSpec != nil || m.Flows[0].Raw != nil {
		t.Errorf("ResvTear: %+v, %v", m, err)
	}
	m, err = Parse(raw(PathTear, Session{Dst: four.dst, Protocol: 17}, Hop{Addr: four.hop},
		senderTemplate{&Filter{Src: four.src}}, Object{Class: ClassSenderTSpec, CType: 9}, Object{Class: ClassAdSpec}))
	if err != nil || m.SenderTSpec != nil || m.RawTSpec != nil || m.AdSpec != nil {
		t.Errorf("PathTear: %+v, %v", m, err)
	}
}

func TestAddressRules(t *testing.T) {
	for name, edit := range map[string]func(*Message){
		"hop zero":          func(m *Message) { m.Hop = &Hop{Addr: ip("0.0.0.0")} },
		"hop multicast":     func(m *Message) { m.Hop = &Hop{Addr: ip("224.0.0.5")} },
		"hop other family":  func(m *Message) { m.Hop = &Hop{Addr: six.hop} },
		"no hop address":    func(m *Message) { m.Hop = &Hop{} },
		"destination zero":  func(m *Message) { m.Session.Dst = ip("0.0.0.0") },
		"no destination":    func(m *Message) { m.Session = Session{Protocol: 17} },
		"source zero":       func(m *Message) { m.Flows[0].Filters[0].Src = ip("0.0.0.0") },
		"scope mixed":       func(m *Message) { m.Scope = []netip.Addr{six.src} },
		"confirm multicast": func(m *Message) { m.ResvConfirm = ip("224.0.0.5") },
	} {
		m := four.samples()["resv-ff"]
		edit(m)
		if _, err := m.Append(nil); err == nil || asError(t, err).Kind != KindAddress {
			t.Errorf("%s, append: %v", name, err)
		}
		if name == "no hop address" || name == "no destination" {
			continue
		}
		if _, err := Parse(raw(m.Type, parts(m)...)); err == nil || asError(t, err).Kind != KindAddress || asError(t, err).Respond {
			t.Errorf("%s, parse: %v", name, err)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*Message)
		want Kind
	}{
		"type":                 {func(m *Message) { m.Type = 14 }, KindType},
		"no time values":       {func(m *Message) { m.TimeValues = nil }, KindMissing},
		"no style":             {func(m *Message) { m.Style = 0 }, KindMissing},
		"unknown style":        {func(m *Message) { m.Style = 9 }, KindUnknownStyle},
		"error in a Resv":      {func(m *Message) { m.ErrorSpec = &ErrorSpec{Node: four.hop} }, KindIllegalClass},
		"no FLOWSPEC":          {func(m *Message) { m.Flows[0].FlowSpec = nil }, KindFlowCount},
		"no filter":            {func(m *Message) { m.Flows[0].Filters = nil }, KindFlowCount},
		"only bad flows":       {func(m *Message) { m.BadFlows = []BadFlow{{}}; m.Flows = nil }, KindFlowCount},
		"bad FLOWSPEC":         {func(m *Message) { m.Flows[0].FlowSpec.TSpec.Rate = -1 }, KindTrafficControl},
		"unknown of low class": {func(m *Message) { m.Unknown = []Object{{Class: 0x20}} }, KindIllegalClass},
		"unknown of ours":      {func(m *Message) { m.Flows[0].Unknown = []Object{{Class: ClassHop}} }, KindIllegalClass},
		"policy of ours":       {func(m *Message) { m.Policy = []Object{{Class: ClassHop}} }, KindIllegalClass},
		"raw of wrong class":   {func(m *Message) { m.Flows[0].Raw = &Object{Class: ClassHop} }, KindIllegalClass},
		"odd object":           {func(m *Message) { m.Unknown = []Object{{Class: 0xc0, Body: []byte{1}}} }, KindObjectLength},
	} {
		m := four.samples()["resv-ff"]
		tc.edit(m)
		b, err := m.Append(nil)
		if err == nil || asError(t, err).Kind != tc.want || asError(t, err).Respond || len(b) != 0 {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	m := four.samples()["path"]
	m.SenderTSpec = &intserv.TSpec{}
	if _, err := m.Append(nil); err == nil || asError(t, err).Value != TCBadTSpec {
		t.Errorf("zero TSpec: %v", err)
	}
}
