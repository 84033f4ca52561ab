package wire

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func notifySample() *Message {
	t := intserv.TSpec{Rate: 10000, Bucket: 1500, Peak: 20000, MinUnit: 64, MaxPacket: 1500}
	return &Message{
		Type: Notify, SendTTL: 64, ErrorSpec: &ErrorSpec{Node: netip.MustParseAddr("192.0.2.1"), Code: ErrAdmission, Value: 2},
		Session:        Session{Dst: netip.MustParseAddr("10.2.0.1"), Protocol: 17, DstPort: 5004},
		SenderTemplate: &Filter{Src: netip.MustParseAddr("10.1.0.1"), SrcPort: 4000}, SenderTSpec: &t,
	}
}

func notifyDown() *Message {
	m := notifySample()
	f := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: *m.SenderTSpec}
	m.Style, m.Flows = FF, []FlowDescriptor{{FlowSpec: &f, Filters: []Filter{*m.SenderTemplate}}}
	m.SenderTemplate, m.SenderTSpec = nil, nil
	return m
}

// RFC 3473 section 4.3.1: ERROR_SPEC comes first, one session is told of up or
// down stream, and every truncated message is refused.
func TestNotifyRFC3473Section4_3(t *testing.T) {
	for name, m := range map[string]*Message{"upstream": notifySample(), "downstream": notifyDown()} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b[1] != 21 || b[commonHeader+2] != byte(ClassErrorSpec) || len(b) != m.Length() {
			t.Errorf("%s: % x", name, b)
		}
		got, err := Parse(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for n := range b {
			if m, err := Parse(b[:n]); err == nil || m != nil {
				t.Fatalf("%s: a prefix of %d bytes is taken", name, n)
			}
		}
	}
	if Notify.NeedsRouterAlert() || Notify.String() != "Notify" || ClassNotify.String() != "NOTIFY_REQUEST" {
		t.Error("names, or Router Alert, which a Notify is sent without")
	}
}

// One message may tell of several sessions.
func TestNotifySessionsRFC3473Section4_3(t *testing.T) {
	a, d := notifySample(), notifyDown()
	d.ErrorSpec, d.SendTTL = a.ErrorSpec, a.SendTTL
	d.Session.DstPort = 5006
	a.More = []*Message{d}
	b, err := a.Append(nil)
	if err != nil || len(b) != a.Length() {
		t.Fatal(err)
	}
	got, err := Parse(b)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Fatalf("%+v, %v", got, err)
	}
	d.Type = PathErr
	if _, err := a.Append(nil); err == nil {
		t.Error("a PathErr within a Notify")
	}
}

func TestNotifyRefuses(t *testing.T) {
	m := notifySample()
	m.ErrorSpec = nil
	var we *Error
	if _, err := m.Append(nil); !errors.As(err, &we) || we.Kind != KindMissing {
		t.Errorf("without ERROR_SPEC: %v", err)
	}
	m = notifySample()
	m.Hop = &Hop{Addr: netip.MustParseAddr("192.0.2.1")}
	if _, err := m.Append(nil); !errors.As(err, &we) || we.Kind != KindIllegalClass {
		t.Errorf("with a hop: %v", err)
	}
}

// RFC 3473 section 4.2.1.
func TestNotifyRequestRFC3473Section4_2(t *testing.T) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1"} {
		a := netip.MustParseAddr(s)
		o := NotifyRequest(a)
		if o.Class>>6 != 0b11 {
			t.Error("it would not travel")
		}
		if got := NotifyNode([]Object{{Class: ClassDClass}, o, NotifyRequest(netip.MustParseAddr("192.0.2.9"))}); got != a {
			t.Errorf("%v, want %v", got, a)
		}
		o.CType = 3
		if got := NotifyNode([]Object{o}); got.IsValid() {
			t.Errorf("C-Type 3: %v", got)
		}
	}
	for _, bad := range []Object{{Class: ClassNotify, CType: 1, Body: []byte{0, 0, 0, 0}}, {Class: ClassNotify, CType: 1, Body: make([]byte, 16)}, {Class: ClassNotify, CType: 1}} {
		if got := NotifyNode([]Object{bad}); got.IsValid() {
			t.Errorf("%v: %v", bad, got)
		}
	}
}
