package softstate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func element(s wire.MergeStrategy, preempting, defending uint16) wire.PolicyElement {
	return wire.Preemption{Strategy: s, Priority: preempting, Defending: defending}.Element()
}

func policyData(t testing.TB, opts wire.PolicyOptions, elements ...wire.PolicyElement) wire.Object {
	t.Helper()
	o, err := (&wire.PolicyData{Options: opts.Objects(), Elements: elements}).Object()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func withPolicy(objects ...wire.Object) func(*wire.Message) {
	return func(m *wire.Message) { m.Policy = objects }
}

// from has a RESV come from another next hop on the same link.
func from(hop netip.Addr) func(*wire.Message) {
	return func(m *wire.Message) { m.Hop = &wire.Hop{Addr: hop, LIH: uint32(right)} }
}

// priorityIn are the priorities that a message's POLICY_DATA tells.
func priorityIn(t *testing.T, m *wire.Message) (out []wire.Preemption) {
	t.Helper()
	for _, o := range m.Policy {
		d, err := wire.ParsePolicy(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range d.Elements {
			if e.Type != wire.PreemptionPriority {
				continue
			}
			p, err := wire.ParsePreemption(e)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, p)
		}
	}
	return out
}

var (
	hopTwo   = addr("198.51.100.3")
	hopThree = addr("198.51.100.4")
)

// RFC 3181 section 4: the sender proxy tells its policy's priority in PATH, a
// new one at once; traffic control is told it where the receiver says nothing.
func TestSenderPriorityRFC3181Section4(t *testing.T) {
	r := newRig(t, Config{})
	s := Sender{Session: sess, Filter: filter, TSpec: tspec, In: left, Priority: &Priority{3, 7}}
	add := func() []Effect {
		t.Helper()
		es, err := r.n.AddSender(r.now, s)
		if err != nil {
			t.Fatal(err)
		}
		return r.checked(es)
	}
	want := []wire.Preemption{{Strategy: wire.MergeHighestQoS, Priority: 3, Defending: 7}}
	if diff := cmp.Diff(want, priorityIn(t, onlySend(t, add(), wire.Path).Msg)); diff != "" {
		t.Error(diff)
	}
	s.Priority = &Priority{3, 7}
	if es := add(); len(es) != 0 {
		t.Errorf("the same priority once more: %s", dump(es))
	}
	if v := only[Reserve](t, r.grant(r.resv())); v.Priority != (Priority{3, 7}) || v.DSCPs != nil {
		t.Errorf("%+v", v)
	}
	s.Priority = &Priority{4, 8}
	es := r.grant(add())
	want[0].Priority, want[0].Defending = 4, 8
	if diff := cmp.Diff(want, priorityIn(t, onlySend(t, es, wire.Path).Msg)); diff != "" {
		t.Error(diff)
	}
	if v := only[Reserve](t, es); !v.Change || v.Priority != (Priority{4, 8}) {
		t.Errorf("%+v", v)
	}
	// What the receiver says counts more.
	es = r.grant(r.resv(withPolicy(policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 1, 2)))))
	if v := only[Reserve](t, es); !v.Change || v.Priority != (Priority{1, 2}) || *r.view().Priority != (Priority{1, 2}) {
		t.Errorf("%+v, view %v", v, r.view().Priority)
	}
	s.Priority = nil
	if m := onlySend(t, add(), wire.Path).Msg; len(m.Policy) != 0 {
		t.Errorf("%v", m.Policy)
	}
}

// The receiver proxy tells its policy's priority in RESV, a new one at once.
func TestReceiverPriorityRFC3181Section4(t *testing.T) {
	r := proxyRig(t)
	pri := &Priority{5, 5}
	r.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		s, _ := sayYes(i)
		s.Priority = pri
		return s, true
	}
	es := r.grant(r.path())
	if v := only[Reserve](t, es); v.Priority != (Priority{5, 5}) {
		t.Errorf("%+v", v)
	}
	want := []wire.Preemption{{Strategy: wire.MergeHighestQoS, Priority: 5, Defending: 5}}
	if diff := cmp.Diff(want, priorityIn(t, onlySend(t, es, wire.Resv).Msg)); diff != "" {
		t.Error(diff)
	}
	if es := r.path(); len(es) != 0 {
		t.Errorf("a refresh changes nothing: %s", dump(es))
	}
	pri = &Priority{5, 9}
	es = r.grant(r.checked(r.n.ReceiverChanged(r.now, sess, filter)))
	want[0].Defending = 9
	if v := only[Reserve](t, es); !v.Change || v.Priority != (Priority{5, 9}) {
		t.Errorf("%+v", v)
	}
	if diff := cmp.Diff(want, priorityIn(t, onlySend(t, es, wire.Resv).Msg)); diff != "" {
		t.Error(diff)
	}
	pri = nil
	es = r.grant(r.checked(r.n.ReceiverChanged(r.now, sess, filter)))
	if v := only[Reserve](t, es); v.Priority != (Priority{}) {
		t.Errorf("%+v", v)
	}
	if m := onlySend(t, es, wire.Resv).Msg; len(m.Policy) != 0 {
		t.Errorf("%v", m.Policy)
	}
}

// RFC 3181 section 5.1 and the examples of Appendix A.
func TestMergeRFC3181Section5_1(t *testing.T) {
	at := func(rate float64) intserv.FlowSpec {
		f := flow
		f.TSpec.Rate = rate
		return f
	}
	hi, low := at(20000), at(10000)
	wide, long := hi, hi // of neither is all in the other
	wide.TSpec.Rate, long.TSpec.Bucket = 30000, 3000
	b := func(f intserv.FlowSpec, s wire.MergeStrategy, preempting, defending uint16) bid {
		return bid{f, priority{Preemption: wire.Preemption{Strategy: s, Priority: preempting, Defending: defending}}}
	}
	const qos, highest, force = wire.MergeHighestQoS, wire.MergeHighestPriority, wire.MergeForceError
	for name, tt := range map[string]struct {
		bids []bid
		also []intserv.FlowSpec // requests without a priority
		want Priority
		ok   bool
		up   []wire.Preemption
	}{
		"nobody": {also: []intserv.FlowSpec{hi}},
		"A.1 at B": {
			bids: []bid{b(hi, qos, 3, 3), b(low, highest, 4, 4), b(low, qos, 7, 7)}, want: Priority{4, 4}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 3, Defending: 3}, {Strategy: highest, Priority: 4, Defending: 4}},
		},
		"A.1 at A": {
			bids: []bid{b(hi, qos, 3, 3), b(hi, highest, 4, 4), b(low, force, 9, 9)}, want: Priority{4, 4}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 3, Defending: 3}, {Strategy: highest, Priority: 4, Defending: 4}},
		},
		"A.2": {
			bids: []bid{b(hi, qos, 3, 3), b(hi, qos, 7, 7), b(hi, highest, 4, 4), b(hi, highest, 9, 9), b(hi, highest, 6, 6)},
			want: Priority{9, 9}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 7, Defending: 7}, {Strategy: highest, Priority: 9, Defending: 9}},
		},
		"each by itself": {
			bids: []bid{b(hi, qos, 1, 9), b(hi, qos, 5, 6)}, want: Priority{5, 9}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 5, Defending: 9}},
		},
		"5.1.1 of equals both": {
			bids: []bid{b(hi, qos, 1, 1), b(hi, qos, 5, 5)}, want: Priority{5, 5}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 5, Defending: 5}},
		},
		"5.1.1 both contribute": {
			bids: []bid{b(wide, qos, 1, 1), b(long, qos, 5, 5)}, want: Priority{5, 5}, ok: true,
			up: []wire.Preemption{{Strategy: qos, Priority: 5, Defending: 5}},
		},
		"5.1.1 below one who says nothing": {bids: []bid{b(low, qos, 5, 5)}, also: []intserv.FlowSpec{hi}},
		"5.1.1 below two together":         {bids: []bid{b(hi, qos, 5, 5)}, also: []intserv.FlowSpec{wide, long}},
		"5.1.2 below one who says nothing": {
			bids: []bid{b(low, highest, 5, 5)}, also: []intserv.FlowSpec{hi}, want: Priority{5, 5}, ok: true,
			up: []wire.Preemption{{Strategy: highest, Priority: 5, Defending: 5}},
		},
		"5.1.3 homogeneous": {
			bids: []bid{b(hi, force, 5, 5)}, also: []intserv.FlowSpec{hi}, want: Priority{5, 5}, ok: true,
			up: []wire.Preemption{{Strategy: force, Priority: 5, Defending: 5}},
		},
		"5.1.3 heterogeneous": {bids: []bid{b(hi, force, 5, 5)}, also: []intserv.FlowSpec{low}},
	} {
		flows := slices.Clone(tt.also)
		for _, x := range tt.bids {
			flows = append(flows, x.flow)
		}
		got, ok := mergePriorities(tt.bids, flows)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v %v, want %v", name, got, ok, tt.want)
		}
		if diff := cmp.Diff(tt.up, compress(tt.bids, flows)); diff != "" {
			t.Errorf("%s: upstream (-want +got):\n%s", name, diff)
		}
	}
}

// RFC 2750 section 4.2 and RFC 3181 section 5.2: merged RESVs carry every
// POLICY_DATA once and unchanged, but the priorities one for each strategy;
// those that are protected stay as they are.
// RFC 2750 section 3.2: what is signed is left alone.
func TestMergedPolicyRFC2750Section4_2(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	vendor := wire.PolicyElement{Type: 49152, Body: []byte{1, 2, 3, 4}}
	alone := policyData(t, wire.PolicyOptions{}, vendor)
	mixed := policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestPriority, 2, 3), vendor)
	sealed := policyData(t, wire.PolicyOptions{
		Integrity: &wire.Object{Class: wire.ClassIntegrity, CType: 1, Body: make([]byte, 32)},
	}, element(wire.MergeHighestPriority, 60000, 60000))
	es := r.grant(r.resv(withPolicy(mixed, sealed)))
	m := onlySend(t, es, wire.Resv).Msg
	if !sameObjects(m.Policy, []wire.Object{mixed, sealed}) {
		t.Errorf("of one next hop, unchanged: %v", m.Policy)
	}
	if v := only[Reserve](t, es); v.Priority != (Priority{2, 3}) {
		t.Errorf("%+v", v) // not what nobody here can check
	}
	es = r.grant(r.resv(from(hopTwo), rate(20000), withPolicy(alone, policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 1, 9)))))
	if v := only[Reserve](t, es); v.Priority != (Priority{2, 9}) {
		t.Errorf("%+v", v)
	}
	last := sends(es, wire.Resv)
	m = last[len(last)-1].Msg
	want := []wire.Object{
		alone, sealed, // mixed without its priority is the same as alone, and is there once
		policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 1, 9), element(wire.MergeHighestPriority, 2, 3)),
	}
	if diff := cmp.Diff(want, m.Policy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// RFC 3181 sections 5.1.3 and 6: a priority that forbids the merge is sent back
// with the error, the reservation stands without it.
func TestHeterogeneousMergeRFC3181Section6(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	forced := withPolicy(policyData(t, wire.PolicyOptions{}, element(wire.MergeForceError, 9, 9)))
	es := r.grant(r.resv(forced))
	noSend(t, es, wire.ResvErr)
	if v := only[Reserve](t, es); v.Priority != (Priority{9, 9}) {
		t.Errorf("%+v", v)
	}
	want := []wire.Preemption{{Strategy: wire.MergeForceError, Error: wire.PreemptionHeterogeneous, Priority: 9, Defending: 9}}
	told := func(es []Effect) {
		t.Helper()
		s := onlySend(t, es, wire.ResvErr)
		if e := s.Msg.ErrorSpec; s.Dst != nextHop || e.Code != wire.ErrPolicy || e.Value != wire.PolicyMerge || e.Flags != wire.InPlace {
			t.Errorf("to %v: %+v", s.Dst, e)
		}
		if diff := cmp.Diff(want, priorityIn(t, s.Msg)); diff != "" {
			t.Error(diff)
		}
	}
	es = r.grant(r.resv(from(hopTwo), rate(20000)))
	told(es)
	if v := only[Reserve](t, es); v.Priority != (Priority{}) {
		t.Errorf("%+v", v)
	}
	r.wantState(Reserved)
	up := sends(es, wire.Resv)
	if m := up[len(up)-1].Msg; len(m.Policy) != 0 {
		t.Errorf("upstream: %v", m.Policy)
	}
	noSend(t, r.grant(r.resv(from(hopTwo), rate(20000))), wire.ResvErr)
	told(r.grant(r.resv(forced))) // it asks again: it was lost, perhaps
	es = r.grant(r.resv(from(hopTwo)))
	noSend(t, es, wire.ResvErr)
	if v := only[Reserve](t, es); v.Priority != (Priority{9, 9}) {
		t.Errorf("homogeneous again: %+v", v)
	}
	told(r.grant(r.resv(from(hopTwo), rate(30000))))
}

// RFC 2750 Appendix A: what cannot be read is answered by error 2, with the
// object that is meant (section 4.3), and changes nothing.
func TestBadPolicyRFC2750AppendixA(t *testing.T) {
	bad := func(body ...byte) wire.Object {
		return wire.Object{Class: wire.ClassPolicyData, CType: 1, Body: body}
	}
	wrong := element(wire.MergeHighestQoS, 9, 8)
	short := wire.PolicyElement{Type: wire.PreemptionPriority, Body: make([]byte, 4)}
	many := make([]wire.Object, maxPolicies+1)
	for i := range many {
		many[i] = policyData(t, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 1, uint16(i+1)))
	}
	for name, tt := range map[string]struct {
		objects []wire.Object
		value   uint16
		about   wire.Object
	}{
		"data offset":           {[]wire.Object{bad(0, 4, 0, 0)}, wire.PolicyBadSyntax, bad(0, 4, 0, 0)},
		"element length":        {[]wire.Object{bad(0, 8, 0, 0, 0, 9, 0, 1)}, wire.PolicyBadElement, bad(0, 8, 0, 0, 0, 9, 0, 1)},
		"defends less":          {[]wire.Object{policyData(t, wire.PolicyOptions{}, wrong)}, wire.PolicyBadElement, policyData(t, wire.PolicyOptions{}, wrong)},
		"strategy":              {[]wire.Object{policyData(t, wire.PolicyOptions{}, element(4, 1, 1))}, wire.PolicyBadElement, policyData(t, wire.PolicyOptions{}, element(4, 1, 1))},
		"length of 3181":        {[]wire.Object{policyData(t, wire.PolicyOptions{}, short)}, wire.PolicyBadElement, policyData(t, wire.PolicyOptions{}, short)},
		"identity":              {[]wire.Object{policyData(t, wire.PolicyOptions{}, wire.PolicyElement{Type: wire.AuthUser, Body: []byte{0, 9, 1, 1}})}, wire.PolicyBadElement, policyData(t, wire.PolicyOptions{}, wire.PolicyElement{Type: wire.AuthUser, Body: []byte{0, 9, 1, 1}})},
		"too many":              {many, wire.PolicyNoResources, many[0]},
		"too long":              {[]wire.Object{bad(make([]byte, maxPolicyData+4)...)}, wire.PolicyNoResources, bad(make([]byte, maxPolicyData+4)...)},
		"the second of several": {[]wire.Object{many[0], bad(0, 4, 0, 0)}, wire.PolicyBadSyntax, bad(0, 4, 0, 0)},
	} {
		r := newRig(t, Config{})
		s := onlySend(t, r.path(withPolicy(tt.objects...)), wire.PathErr)
		if e := s.Msg.ErrorSpec; e.Code != wire.ErrPolicy || e.Value != tt.value || !sameObjects(s.Msg.Policy, []wire.Object{tt.about}) {
			t.Errorf("%s: %+v %v", name, e, s.Msg.Policy)
		}
		if _, ok := r.n.Session(r.now, sess, filter); ok {
			t.Errorf("%s: state was made", name)
		}
		r.reserved()
		before := r.view()
		es := r.resv(rate(20000), withPolicy(tt.objects...))
		s = onlySend(t, es, wire.ResvErr)
		if e := s.Msg.ErrorSpec; len(es) != 1 || e.Code != wire.ErrPolicy || e.Value != tt.value || !sameObjects(s.Msg.Policy, []wire.Object{tt.about}) {
			t.Errorf("%s: %s", name, dump(es))
		}
		if v := r.view(); *v.FlowSpec != *before.FlowSpec || v.State != Reserved {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// RFC 2750 section 3.2 and 4.2: what is for another policy node, of another
// C-Type, or of an element that is not known here, is no business of ours and
// travels unchanged. An element without contents takes the others back (3.4).
// RFC 2750 sections 3.3 and 3.4, RFC 2205 section 2.7.
func TestForeignPolicyRFC2750Section3_2(t *testing.T) {
	pri := element(wire.MergeHighestQoS, 5, 5)
	far := &wire.Hop{Addr: addr("192.0.2.77")}
	objects := []wire.Object{
		policyData(t, wire.PolicyOptions{Originating: &wire.Hop{Addr: nextHop}, Destination: far}, pri),
		{Class: wire.ClassPolicyData, CType: 9, Body: []byte{0, 0, 0, 1}},
		policyData(t, wire.PolicyOptions{}, wire.PolicyElement{Type: 777, Body: []byte{0, 1, 2, 3}}),
		policyData(t, wire.PolicyOptions{}, wire.PolicyElement{Type: wire.PreemptionPriority}),
		policyData(t, wire.PolicyOptions{}, wire.Preemption{Strategy: 1, Error: 1, Priority: 8, Defending: 8}.Element()),
	}
	r := newRig(t, Config{})
	if m := onlySend(t, r.path(withPolicy(objects...)), wire.Path).Msg; !sameObjects(m.Policy, objects) {
		t.Errorf("PATH: %v", m.Policy)
	}
	es := r.grant(r.resv(withPolicy(objects...)))
	if m := onlySend(t, es, wire.Resv).Msg; !sameObjects(m.Policy, objects) {
		t.Errorf("RESV: %v", m.Policy)
	}
	if v := only[Reserve](t, es); v.Priority != (Priority{}) || r.view().Priority != nil {
		t.Errorf("%+v", v)
	}
	// For us it is, if it names us.
	us := policyData(t, wire.PolicyOptions{Originating: far, Destination: &wire.Hop{Addr: rightAdr}}, pri)
	if v := only[Reserve](t, r.grant(r.resv(withPolicy(us)))); v.Priority != (Priority{5, 5}) {
		t.Errorf("%+v", v)
	}
}

// RFC 2750 section 3.2: in a RESV of fixed filter style FILTER_SPEC tells which
// flow a POLICY_DATA is about.
func TestFilterOptionRFC2750Section3_2(t *testing.T) {
	second := wire.Filter{Src: srcHost, SrcPort: 4001}
	r := newRig(t, Config{})
	r.path()
	r.path(func(m *wire.Message) { m.SenderTemplate = &second })
	first := policyData(t, wire.PolicyOptions{Filters: []wire.Filter{filter}}, element(wire.MergeHighestQoS, 5, 5))
	other := policyData(t, wire.PolicyOptions{Filters: []wire.Filter{second}}, element(wire.MergeHighestQoS, 6, 6))
	es := r.grant(r.resv(withPolicy(first, other), func(m *wire.Message) {
		m.Flows = append(m.Flows, wire.FlowDescriptor{FlowSpec: m.Flows[0].FlowSpec, Filters: []wire.Filter{second}})
	}))
	for _, v := range all[Reserve](es) {
		if want := (Priority{v.Filters[0].SrcPort - 3995, v.Filters[0].SrcPort - 3995}); v.Priority != want {
			t.Errorf("%v: %v, want %v", v.Filters, v.Priority, want)
		}
	}
	for _, s := range sends(es, wire.Resv) {
		want := first
		if s.Msg.Flows[0].Filters[0] == second {
			want = other
		}
		if !sameObjects(s.Msg.Policy, []wire.Object{want}) {
			t.Errorf("%v: %v", s.Msg.Flows[0].Filters, s.Msg.Policy)
		}
	}
	if n := len(sends(es, wire.Resv)); n != 2 {
		t.Errorf("%d RESVs", n)
	}
}

// RFC 3181 section 6: a flow that was preempted is told by whom.
func TestPreemptedRFC3181Section6(t *testing.T) {
	want := []wire.Preemption{{Strategy: wire.MergeHighestQoS, Error: wire.PreemptionPreempted, Priority: 8, Defending: 9}}
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	es := r.checked(r.n.Withdraw(r.now, id, Refusal{Code: wire.ErrPolicy, Value: wire.PolicyPreempted, By: &Priority{8, 9}}))
	s := onlySend(t, es, wire.ResvErr)
	if diff := cmp.Diff(want, priorityIn(t, s.Msg)); diff != "" || s.Msg.ErrorSpec.Value != wire.PolicyPreempted {
		t.Errorf("%+v %s", s.Msg.ErrorSpec, diff)
	}
	r = proxyRig(t)
	r.env.proxy = sayYes
	id = only[Reserve](t, r.grant(r.path())).ID
	es = r.checked(r.n.Withdraw(r.now, id, Refusal{By: &Priority{8, 9}}))
	if diff := cmp.Diff(want, priorityIn(t, onlySend(t, es, wire.PathErr).Msg)); diff != "" {
		t.Error(diff)
	}
}

// RFC 3182 section 3: who asks is shown, in a form that harms no terminal.
func TestIdentitiesRFC3182Section3(t *testing.T) {
	identity := func(typ wire.PolicyType, attributes ...wire.AuthAttribute) wire.PolicyElement {
		e, err := wire.Identity{Type: typ, Attributes: attributes}.Element()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	text := func(typ wire.AuthType, sub uint8, s string) wire.AuthAttribute {
		return wire.AuthAttribute{Type: typ, SubType: sub, Value: []byte(s)}
	}
	r := newRig(t, Config{})
	r.path(withPolicy(policyData(t, wire.PolicyOptions{}, identity(wire.AuthUser,
		text(wire.AuthPolicyLocator, wire.LocatorASCII, "CN=Joe,O=Acme"),
		text(wire.AuthCredential, wire.CredentialASCII, "joe\x1b[2J\x00\x00"),
		text(wire.AuthDigitalSignature, 0, "x")))))
	r.grant(r.resv(withPolicy(policyData(t, wire.PolicyOptions{},
		identity(wire.AuthApp, text(wire.AuthPolicyLocator, wire.LocatorUnicode, "\x00V\x00o\x20\xac"), text(wire.AuthCredential, wire.CredentialX509, "\x30")),
		identity(wire.AuthUser, text(wire.AuthCredential, wire.CredentialKerberos, "t"), text(wire.AuthPolicyLocator, wire.LocatorASCIIEncrypted, "c")),
		identity(wire.AuthUser, text(wire.AuthCredential, wire.CredentialPGP, "t")),
	))))
	want := []string{
		"user CN=Joe,O=Acme joe?[2J", "application Vo\u20ac (X.509 certificate)", "user (Kerberos ticket) (encrypted name)", "user (PGP certificate)",
	}
	if diff := cmp.Diff(want, r.view().Identities); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var crowd []wire.PolicyElement
	for i := range 3 * maxIdentities {
		crowd = append(crowd, identity(wire.AuthUser, text(wire.AuthCredential, wire.CredentialASCII, strings.Repeat(string(rune('a'+i)), 2*maxIdentity))))
	}
	r.path(withPolicy(policyData(t, wire.PolicyOptions{}, crowd...)))
	v := r.view()
	if len(v.Identities) > 2*maxIdentities || utf8.RuneCountInString(v.Identities[0]) != maxIdentity {
		t.Errorf("%d identities, the first of %d characters", len(v.Identities), len(v.Identities[0]))
	}
}

// FuzzPolicy: whatever is in a POLICY_DATA object, what is taken from it keeps
// its promises, and what goes on can be read as well as what came.
func FuzzPolicy(f *testing.F) {
	add := func(o wire.Object) { f.Add(o.Body) }
	add(policyData(f, wire.PolicyOptions{}, element(wire.MergeHighestQoS, 1, 2), element(wire.MergeForceError, 3, 4)))
	add(policyData(f, wire.PolicyOptions{Filters: []wire.Filter{filter}, Refresh: &wire.TimeValues{Refresh: 9}}, element(wire.MergeHighestPriority, 1, 2)))
	add(policyData(f, wire.PolicyOptions{Originating: &wire.Hop{Addr: prevHop}, Destination: &wire.Hop{Addr: leftAddr}}))
	e, err := wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{
		{Type: wire.AuthPolicyLocator, SubType: wire.LocatorUnicode, Value: []byte{0xd8, 0, 0, 65, 7}},
	}}.Element()
	if err != nil {
		f.Fatal(err)
	}
	add(policyData(f, wire.PolicyOptions{}, e, wire.PolicyElement{Type: 50000}))
	n := New(Config{}, newEnv(), nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body)%4 != 0 || len(body) > maxPolicyData+8 {
			return
		}
		o := wire.Object{Class: wire.ClassPolicyData, CType: 1, Body: body}
		p, refusal := n.readPolicy([]wire.Object{o})
		if refusal != nil {
			if v := refusal.Value; refusal.Code != wire.ErrPolicy || v != wire.PolicyBadSyntax && v != wire.PolicyBadElement && v != wire.PolicyNoResources {
				t.Fatalf("%+v", refusal)
			}
			return
		}
		if len(p.priorities) > 3 || len(p.identities) > maxIdentities {
			t.Fatalf("%+v", p)
		}
		for _, id := range p.identities {
			for _, s := range append(id.Names, id.Text) {
				if utf8.RuneCountInString(s) > maxIdentity || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
					t.Fatalf("%q", s)
				}
			}
			if _, err := (&Denial{Who: id.Said, Value: wire.AuthInsufficientPrivileges}).object("no"); err != nil {
				t.Fatal(err)
			}
		}
		s := &session{}
		tc := &tcsb{s: s, style: wire.FF}
		from := []*rsb{
			{t: tc, hop: wire.Hop{Addr: nextHop}, have: true, now: request{flow: flow}, policy: []wire.Object{o}, said: p},
			{t: tc, hop: wire.Hop{Addr: hopTwo}, have: true, now: request{flow: flow}},
		}
		again, refusal := n.readPolicy(mergePolicy(from))
		if refusal != nil {
			t.Fatalf("merged: %v", refusal)
		}
		sorted := func(list []priority) []wire.Preemption {
			var out []wire.Preemption
			for _, x := range list {
				out = append(out, x.Preemption)
			}
			slices.SortFunc(out, func(a, b wire.Preemption) int { return int(a.Strategy) - int(b.Strategy) })
			return out
		}
		if diff := cmp.Diff(sorted(p.priorities), sorted(again.priorities)); diff != "" {
			t.Fatalf("the priorities of one next hop have changed:\n%s", diff)
		}
	})
}
