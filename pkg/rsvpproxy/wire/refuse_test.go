package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// TestUnknownClassRFC2205Section3_10 has rule 1, class by class and message by
// message.
func TestUnknownClassRFC2205Section3_10(t *testing.T) {
	for name, m := range samples() {
		for class := Class(2); class != 0; class++ {
			if class.known() {
				continue
			}
			o := Object{Class: class, CType: 5, Body: []byte{9, 8, 7, 6}}
			got, err := Parse(raw(m.Type, append(parts(m), o)...))
			switch class >> 6 {
			case 0b11:
				if err != nil {
					t.Fatalf("%s, class %d: %v", name, class, err)
				}
				if n := len(got.More); n > 0 {
					got = got.More[n-1]
				}
				kept := got.Unknown
				if n := len(got.Flows); n > 0 {
					kept = got.Flows[n-1].Unknown
				}
				if d := cmp.Diff(o, kept[len(kept)-1]); d != "" {
					t.Fatalf("%s, class %d: %s", name, class, d)
				}
			case 0b10:
				if err != nil || len(got.Unknown) != len(m.Unknown) {
					t.Fatalf("%s, class %d: %v", name, class, err)
				}
			default:
				if err == nil {
					t.Fatalf("%s, class %d: accepted", name, class)
				}
				e := asError(t, err)
				answer := m.Type == Path || m.Type == Resv
				if e.Kind != KindUnknownClass || e.Respond != answer || (got != nil) != answer ||
					e.Code != ErrUnknownClass || e.Value != uint16(class)<<8|5 {
					t.Fatalf("%s, class %d: %v, %+v", name, class, got, e)
				}
			}
		}
	}
}

// TestUnknownObjectsAreForwarded: byte for byte, in their order, and where
// their position says something, there.
func TestUnknownObjectsAreForwarded(t *testing.T) {
	m := four.samples()["resv-ff"]
	a, b, c := Object{0xc0, 1, []byte{1, 2, 3, 4}}, Object{0xff, 2, nil}, Object{0xc0, 1, []byte{5, 6, 7, 8}}
	os := parts(m)
	os = append([]object{a}, append(os[:3:3], append([]object{b, c}, os[3:]...)...)...)
	got, err := Parse(raw(m.Type, os...))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Object{a, b, c}, got.Unknown, cmpOptions); d != "" {
		t.Error(d)
	}
	again, err := Parse(encode(t, got))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again, cmpOptions); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(m.Flows, again.Flows, cmpOptions); d != "" {
		t.Errorf("DCLASS strayed: %s", d)
	}
}

// TestUnknownCTypeRFC2205Section3_10 has rule 2: error 14 with class and C-Type,
// and the message as far as it was understood.
func TestUnknownCTypeRFC2205Section3_10(t *testing.T) {
	for name, m := range four.samples() {
		for i, o := range parts(m) {
			class, _ := o.header()
			opaque := set(ClassIntegrity, ClassPolicyData, ClassFlowSpec) // for FLOWSPEC see BadFlows
			if !class.known() || opaque.has(class) || m.Type == PathTear && senderDescriptor.has(class) && class != ClassSenderTemplate ||
				m.Type == PathErr && class == ClassSenderTSpec {
				continue
			}
			os := parts(m)
			os[i] = Object{Class: class, CType: 99, Body: o.appendBody(nil)}
			got, err := Parse(raw(m.Type, os...))
			if err == nil {
				t.Errorf("%s, %v: accepted", name, class)
				continue
			}
			e := asError(t, err)
			answer := (m.Type == Path || m.Type == Resv) && class != ClassSession && class != ClassHop
			if e.Kind != KindUnknownCType || e.Value != uint16(class)<<8|99 || e.Respond != answer {
				t.Errorf("%s, %v: %+v", name, class, e)
			}
			if (got != nil) != answer || got != nil && got.Session != m.Session {
				t.Errorf("%s, %v: message %+v", name, class, got)
			}
		}
	}
}

// TestBadFlowsRFC2205Section3_1_8: FF flow descriptors are judged one by one,
// and the ResvErr to a bad one carries it unchanged.
func TestBadFlowsRFC2205Section3_1_8(t *testing.T) {
	unknown := Object{Class: ClassFlowSpec, CType: 2, Body: unhex("00000007 03000006" + tspecHex)}
	future := Object{Class: ClassFlowSpec, CType: 3, Body: []byte{1, 2, 3, 4}}
	filter := func(port uint16) filterSpec { return filterSpec{&Filter{Src: four.src, SrcPort: port}} }
	session := Session{Dst: four.dst, Protocol: 17, DstPort: 1}
	m, err := Parse(raw(Resv, session, Hop{Addr: four.hop}, TimeValues{30000}, FF,
		unknown, filter(1), filter(2), flowSpec{controlledLoad()}, filter(3), future, filter(4)))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Flows) != 1 || m.Flows[0].Filters[0].SrcPort != 3 || len(m.BadFlows) != 3 {
		t.Fatalf("%+v", m)
	}
	for i, want := range []struct {
		raw   Object
		code  ErrorCode
		value uint16
	}{
		{unknown, ErrTrafficControl, TCServiceUnsupported},
		{unknown, ErrTrafficControl, TCServiceUnsupported},
		{future, ErrUnknownCType, 0x0903},
	} {
		bad := m.BadFlows[i]
		if bad.Err.Code != want.code || bad.Err.Value != want.value || !bad.Err.Respond {
			t.Errorf("%d: %+v", i, bad.Err)
		}
		answer := &Message{
			Type: ResvErr, Session: m.Session, Hop: m.Hop, ErrorSpec: bad.Err.Spec(four.hop),
			Style: m.Style, Flows: []FlowDescriptor{bad.FlowDescriptor},
		}
		got, err := Parse(encode(t, answer))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(answer, got, cmpOptions); d != "" {
			t.Errorf("%d: %s", i, d)
		}
		if d := cmp.Diff(&want.raw, got.Flows[0].Raw, cmpOptions); d != "" {
			t.Errorf("%d: %s", i, d)
		}
	}
}

// TestBadSenderSpecs: the PathErr copies the sender descriptor from the message
// in error (RFC 2205 section 3.1.7), bad as it is.
func TestBadSenderSpecs(t *testing.T) {
	for _, tc := range []struct {
		bad   Object
		value uint16
	}{
		{Object{ClassSenderTSpec, 2, make([]byte, 32)}, TCBadTSpec},
		{Object{ClassAdSpec, 2, make([]byte, 32)}, TCBadAdSpec},
	} {
		m := four.samples()["path"]
		os := parts(m)
		for i, o := range os {
			if c, _ := o.header(); c == tc.bad.Class {
				os[i] = tc.bad
			}
		}
		got, err := Parse(raw(Path, os...))
		e := asError(t, err)
		if !e.Respond || e.Code != ErrTrafficControl || e.Value != tc.value || got == nil {
			t.Fatalf("%+v, %+v", got, e)
		}
		answer := &Message{
			Type: PathErr, Session: got.Session, ErrorSpec: e.Spec(four.hop), SenderTemplate: got.SenderTemplate,
			SenderTSpec: got.SenderTSpec, RawTSpec: got.RawTSpec, AdSpec: got.AdSpec, RawAdSpec: got.RawAdSpec,
		}
		back, err := Parse(encode(t, answer))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(answer, back, cmpOptions); d != "" {
			t.Error(d)
		}
	}
}

// TestUnknownStyleRFC2205AppendixB: error 6, and the ResvErr can name the style.
func TestUnknownStyleRFC2205AppendixB(t *testing.T) {
	m := four.samples()["resv-ff"]
	os := parts(m)
	for i, o := range os {
		if c, _ := o.header(); c == ClassStyle {
			os[i] = Style(0x09)
		}
	}
	got, err := Parse(raw(Resv, os...))
	e := asError(t, err)
	if e.Code != ErrUnknownStyle || !e.Respond || got == nil || got.Style != 0x09 {
		t.Fatalf("%+v, %+v", got, e)
	}
	answer := &Message{
		Type: ResvErr, Session: got.Session, Hop: got.Hop, ErrorSpec: e.Spec(four.hop), Style: got.Style,
		Flows: got.Flows[:1],
	}
	if back, err := Parse(encode(t, answer)); err != nil || back.Style != 0x09 || len(back.Flows) != 1 {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestSourcePortRFC2205Section3_2: rule 2, silently discarded.
func TestSourcePortRFC2205Section3_2(t *testing.T) {
	for _, kind := range []string{"path", "resv-ff", "pathtear", "resvconf"} {
		m := four.samples()[kind]
		m.Session.DstPort = 0
		got, err := Parse(raw(m.Type, parts(m)...))
		if err == nil || got != nil || asError(t, err).Kind != KindSourcePort || asError(t, err).Respond {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestFaultsArePreferred: a message that is both malformed and unknown is
// dropped: its sender cannot mend it by another C-Type.
func TestFaultsArePreferred(t *testing.T) {
	unknown := Object{Class: 23, CType: 1, Body: make([]byte, 8)}
	_, err := Parse(raw(Path, unknown, Session{Dst: four.dst, Protocol: 17}, Hop{Addr: four.hop}))
	if e := asError(t, err); e.Kind != KindMissing || e.Respond {
		t.Errorf("%+v", e)
	}
}

func TestErrorStrings(t *testing.T) {
	e := trafficControl(ClassFlowSpec, TCBadFlowSpec, intserv.ErrNegative)
	if got := e.Error(); got != "rsvp: traffic-control: FLOWSPEC (C-Type 2): negative" {
		t.Error(got)
	}
	for k := KindShort; k <= KindPolicy; k++ {
		if k.String() == "unknown" {
			t.Errorf("kind %d has no name", k)
		}
	}
	if Class(200).String() != "class-200" || MsgType(14).String() != "type-14" || Path.String() != "Path" || Kind(99).String() != "unknown" {
		t.Error("names")
	}
}
