package wire

import (
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

var cmpOptions = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// family is the addresses of one address family for sample messages.
type family struct{ src, src2, dst, hop netip.Addr }

var (
	four = family{ip("10.1.12.1"), ip("10.1.12.2"), ip("10.1.36.6"), ip("10.1.24.2")}
	six  = family{ip("2001:db8:1::1"), ip("2001:db8:1::2"), ip("2001:db8:2::6"), ip("2001:db8:3::2")}
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func tspec() intserv.TSpec {
	return intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: math.Inf(1), MinUnit: 64, MaxPacket: 1500}
}

func controlledLoad() *intserv.FlowSpec {
	return &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec()}
}

func guaranteed() *intserv.FlowSpec {
	return &intserv.FlowSpec{
		Service: intserv.Guaranteed, TSpec: tspec(), RSpec: intserv.RSpec{Rate: 8000, Slack: 1234},
	}
}

func adspec() *intserv.AdSpec {
	a := intserv.NewAdSpec(intserv.Hop{
		Bandwidth: 1.25e6, Latency: 20, MTU: 1500,
		ControlledLoad: &intserv.ServiceHop{
			Override: intserv.Params{Set: intserv.ParamBandwidth, Bandwidth: 1e6},
		},
		Guaranteed: &intserv.GuaranteedHop{C: 1500, D: 1200},
	})
	a.Unknown = []intserv.UnknownAd{{Service: 3, Body: []byte{1, 2, 3, 4}}, {Service: 6, Break: true}}
	return &a
}

// samples returns messages of all types, styles and families, which together
// have every object.
func samples() map[string]*Message {
	all := map[string]*Message{}
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		for kind, m := range f.samples() {
			all[name+"/"+kind] = m
		}
	}
	several := notifySample()
	several.More = []*Message{notifyDown()}
	several.More[0].ErrorSpec = several.ErrorSpec
	all["notify/up"], all["notify/down"], all["notify/several"] = notifySample(), notifyDown(), several
	return all
}

func (f family) samples() map[string]*Message {
	session := Session{Dst: f.dst, Protocol: 17, Flags: SessionEPolice, DstPort: 5004}
	hop, hop2 := &Hop{Addr: f.hop, LIH: 0x08000403}, &Hop{Addr: f.hop}
	refresh := &TimeValues{Refresh: 30000}
	one, two := Filter{Src: f.src, SrcPort: 4000}, Filter{Src: f.src2}
	t := tspec()
	failed := &ErrorSpec{Node: f.hop, Flags: InPlace, Code: ErrAdmission, Value: AdmissionBandwidth}
	future := []Object{{Class: 0xc1, CType: 7, Body: []byte{1, 2, 3, 4}}}
	dclass := []Object{{Class: 225, CType: 1, Body: []byte{0, 0, 0, 0x1a << 2}}}
	policy := []Object{{Class: ClassPolicyData, CType: 1, Body: []byte{0, 4, 0, 8, 0, 0, 0, 0}}}

	return map[string]*Message{
		"path": {
			Type: Path, Flags: 1, SendTTL: 254, Session: session, Hop: hop, TimeValues: refresh,
			SenderTemplate: &one, SenderTSpec: &t, AdSpec: adspec(), Policy: policy, Unknown: future,
			Integrity: &Object{Class: ClassIntegrity, CType: 1, Body: make([]byte, 32)},
		},
		"resv-ff": {
			Type: Resv, SendTTL: 255, Session: session, Hop: hop, TimeValues: refresh,
			ResvConfirm: f.dst, Style: FF, Flows: []FlowDescriptor{
				{FlowSpec: controlledLoad(), Filters: []Filter{one}, Unknown: dclass},
				{FlowSpec: guaranteed(), Filters: []Filter{two}},
			},
		},
		"resv-se": {
			Type: Resv, SendTTL: 255, Session: session, Hop: hop, TimeValues: refresh, Policy: policy,
			Style: SE, Flows: []FlowDescriptor{{FlowSpec: guaranteed(), Filters: []Filter{one, two}}},
		},
		"resv-wf": {
			Type: Resv, SendTTL: 255, Session: session, Hop: hop, TimeValues: refresh, Unknown: future,
			Style: WF, Scope: []netip.Addr{f.src, f.src2}, Flows: []FlowDescriptor{{FlowSpec: controlledLoad()}},
		},
		"patherr": {
			Type: PathErr, SendTTL: 255, Session: session, SenderTemplate: &one, SenderTSpec: &t,
			ErrorSpec: &ErrorSpec{Node: f.hop, Code: ErrReceiverProxy, Value: 0x0103},
		},
		"resverr": {
			Type: ResvErr, SendTTL: 255, Session: session, Hop: hop2, ErrorSpec: failed, Style: FF,
			Flows: []FlowDescriptor{{FlowSpec: controlledLoad(), Filters: []Filter{one}}},
		},
		"pathtear":    {Type: PathTear, SendTTL: 64, Session: session, Hop: hop, SenderTemplate: &one},
		"resvtear-ff": {Type: ResvTear, SendTTL: 255, Session: session, Hop: hop, Style: FF, Flows: []FlowDescriptor{{Filters: []Filter{one}}, {Filters: []Filter{two}}}},
		"resvtear-se": {Type: ResvTear, SendTTL: 255, Session: session, Hop: hop, Style: SE, Flows: []FlowDescriptor{{Filters: []Filter{one, two}}}},
		"resvtear-wf": {Type: ResvTear, SendTTL: 255, Session: session, Hop: hop, Style: WF},
		"resvconf": {
			Type: ResvConf, SendTTL: 255, Session: session, ErrorSpec: &ErrorSpec{Node: f.hop},
			ResvConfirm: f.dst, Style: FF,
			Flows: []FlowDescriptor{{FlowSpec: controlledLoad(), Filters: []Filter{one}}},
		},
	}
}

func encode(t testing.TB, m *Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatalf("append %v: %v", m.Type, err)
	}
	return b
}

// reseal puts right length and checksum of a message that a test edited.
func reseal(b []byte) []byte {
	b[6], b[7] = byte(len(b)>>8), byte(len(b))
	b[2], b[3] = 0, 0
	c := checksum(b)
	b[2], b[3] = byte(c>>8), byte(c)
	return b
}

// raw builds a message from objects in the order given, right or wrong.
func raw(t MsgType, objects ...object) []byte {
	b := []byte{version << 4, byte(t), 0, 0, 64, 0, 0, 0}
	for _, o := range objects {
		b = appendObject(b, o)
	}
	return reseal(b)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	return e
}

// golden holds an object to its bytes in the RFC's figure.
func golden(t *testing.T, o object, want string) []byte {
	t.Helper()
	got := appendObject(nil, o)
	if d := cmp.Diff(unhex(want), got); d != "" {
		t.Errorf("bytes (-want +got):\n%s", d)
	}
	if len(got) != objectHeader+o.size() {
		t.Errorf("size %d, wrote %d", o.size(), len(got)-objectHeader)
	}
	return got[objectHeader:]
}
