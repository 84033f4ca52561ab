package wire

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var diagOptions = cmp.Options{cmpOptions, cmpopts.IgnoreUnexported(Route{})}

func (f family) diags() map[string]*Diag {
	zero := netip.IPv4Unspecified()
	if f.dst.Is6() {
		zero = netip.IPv6Unspecified()
	}
	d := Diag{
		Type: DiagRequest, SendTTL: 63, Session: Session{Dst: f.dst, Protocol: 17, DstPort: 5004},
		Hop: Hop{Addr: f.hop, LIH: 7},
		Diagnostic: Diagnostic{
			MaxHops: 9, Hops: 2, RequestID: 0x01020304, PathMTU: 1500, FragmentOffset: 8, LastHop: f.dst,
			Sender: Filter{Src: f.src, SrcPort: 4000}, Requester: Filter{Src: f.src2, SrcPort: 40000},
		},
	}
	full := d
	full.Select = []ClassCType{{ClassFlowSpec, 2}, {ClassStyle, 0}, {ClassHop, 0}}
	full.Route = &Route{Pointer: 2, Nodes: []netip.Addr{f.hop, f.src2}}
	style := Object{Class: ClassStyle, CType: 1, Body: []byte{0, 0, 0, 0x0a}}
	full.Responses = []DiagResponse{
		{
			Arrival: 0xaabbccdd, In: f.hop, Out: f.dst, Previous: f.src, TTL: 1, Merged: true,
			Error: DiagTooBig, K: 3, Timer: 30, Objects: []Object{style},
		},
		{In: zero, Out: zero, Previous: zero, Error: DiagNoPath},
	}
	reply := full
	reply.Type, reply.Diagnostic.More = DiagReply, true
	integrity := *handshakes()["response"].Integrity
	reply.Integrity = &integrity
	hopByHop := d
	hopByHop.Route = NewRoute(f.dst.Is6())
	return map[string]*Diag{"dreq": &d, "full dreq": &full, "drep": &reply, "empty route": &hopByHop}
}

func allDiags() map[string]*Diag {
	all := map[string]*Diag{}
	for name, f := range map[string]family{"ipv4 ": four, "ipv6 ": six} {
		for kind, d := range f.diags() {
			all[name+kind] = d
		}
	}
	return all
}

func encodeDiag(t testing.TB, d *Diag) []byte {
	t.Helper()
	b, err := d.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDiagRoundTrip(t *testing.T) {
	for name, d := range allDiags() {
		b := encodeDiag(t, d)
		if d.Length() != len(b) {
			t.Errorf("%s: Length %d, wrote %d bytes", name, d.Length(), len(b))
		}
		got, err := ParseDiag(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(d, got, diagOptions); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(b, encodeDiag(t, got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for n := range b {
			if _, err := ParseDiag(b[:n]); err == nil {
				t.Errorf("%s: prefix of %d bytes accepted", name, n)
			}
			if n < commonHeader {
				continue
			}
			got, err := ParseDiag(reseal(append([]byte{}, b[:n]...)))
			if err == nil && got.Length() != n {
				t.Errorf("%s: prefix of %d bytes read as %d", name, n, got.Length())
			}
		}
		if _, err := Parse(b); err == nil || asError(t, err).Kind != KindType {
			t.Errorf("%s: Parse: %v", name, err)
		}
	}
}

// TestDiagObjectsRFC2745Section3 has the layouts of the figures.
func TestDiagObjectsRFC2745Section3(t *testing.T) {
	d := four.diags()["drep"]
	golden(t, d.Diagnostic, `002c 1e01 09 02 0001 01020304 05dc 0008 0a012406
		000c 0b01 0a010c01 0000 0fa0 000c 0a01 0a010c02 0000 9c40`)
	golden(t, diagSelect(d.Select), "000c 2101 09 02 08 00 03 00 0000")
	golden(t, *d.Route, "0010 1f01 000000 02 0a011802 0a010c02")
	golden(t, *NewRoute(false), "0008 1f01 000000 00")
	golden(t, *NewRoute(true), "0008 1f02 000000 00")
	golden(t, d.Responses[0], "0020 2001 aabbccdd 0a011802 0a012406 0a010c01 01 a3 001e 0008 0801 0000000a")
}

// TestNTP32RFC2745Section3_6: the middle of the 64-bit NTP timestamp.
func TestNTP32RFC2745Section3_6(t *testing.T) {
	// 1970 is second 2208988800 = 0x83aa7e80 of NTP.
	if got := NTP32(time.Unix(1, 5e8)); got != 0x7e818000 {
		t.Errorf("%#x", got)
	}
}

// TestDiagRefusedRFC2745Section3: the sequence of objects is a must, MF is not
// for requests, all addresses are of the session's family.
func TestDiagRefusedRFC2745Section3(t *testing.T) {
	good := four.diags()["full dreq"]
	os := good.objects() // SESSION HOP DIAGNOSTIC DIAG_SELECT ROUTE DIAG_RESPONSE*2
	diagnostic := func(edit func(d *Diagnostic)) object {
		d := good.Diagnostic
		edit(&d)
		return d
	}
	integrity := *handshakes()["response"].Integrity
	for name, tc := range map[string]struct {
		os   []object
		want Kind
	}{
		"no SESSION":          {os[1:], KindMissing},
		"no HOP":              {[]object{os[0], os[2]}, KindMissing},
		"no DIAGNOSTIC":       {os[:2], KindMissing},
		"HOP first":           {[]object{os[1], os[0], os[2]}, KindOrder},
		"ROUTE before SELECT": {[]object{os[0], os[1], os[2], os[4], os[3]}, KindOrder},
		"response first":      {[]object{os[0], os[1], os[2], os[5], os[4]}, KindOrder},
		"two DIAGNOSTICs":     {[]object{os[0], os[1], os[2], os[2]}, KindDuplicate},
		"two ROUTEs":          {[]object{os[0], os[1], os[2], os[4], os[4]}, KindDuplicate},
		"INTEGRITY late":      {[]object{os[0], integrity, os[1], os[2]}, KindOrder},
		"INTEGRITY after unknown": {
			[]object{Object{Class: 0xc0}, integrity, os[0], os[1], os[2]}, KindOrder,
		},
		"STYLE":         {append(os[:3:3], FF), KindIllegalClass},
		"unknown class": {append(os[:3:3], Object{Class: 66}), KindIllegalClass},
		"MF": {
			[]object{os[0], os[1], diagnostic(func(d *Diagnostic) { d.More = true })}, KindOrder,
		},
		"last hop zero": {
			[]object{os[0], os[1], diagnostic(func(d *Diagnostic) { d.LastHop = ip("0.0.0.0") })}, KindAddress,
		},
		"family": {
			[]object{os[0], os[1], diagnostic(func(d *Diagnostic) { d.Sender.Src = six.src })}, KindAddress,
		},
		"sender of another format": {
			[]object{os[0], os[1], diagnostic(func(d *Diagnostic) { d.Sender.Format = FormatGPI })}, KindFormat,
		},
		"pointer past the route": {
			[]object{os[0], os[1], os[2], Route{Pointer: 2, Nodes: []netip.Addr{four.hop}}}, KindOrder,
		},
		"route of the other family": {[]object{os[0], os[1], os[2], *NewRoute(true)}, KindAddress},
		"multicast in the route":    {[]object{os[0], os[1], os[2], Route{Nodes: []netip.Addr{ip("224.0.0.1")}}}, KindAddress},
		"response of the other family": {
			[]object{os[0], os[1], os[2], six.diags()["full dreq"].Responses[0]}, KindAddress,
		},
		"hop of the other family": {[]object{os[0], Hop{Addr: six.hop}, os[2]}, KindAddress},
	} {
		d, err := ParseDiag(raw(DiagRequest, tc.os...))
		if err == nil || d != nil || asError(t, err).Kind != tc.want || asError(t, err).Respond {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := ParseDiag(raw(DiagRequest, append([]object{Object{}, Object{Class: 0x90}}, os...)...)); err != nil {
		t.Errorf("what is to be ignored: %v", err)
	}
	if _, err := ParseDiag(raw(Path, os...)); err == nil || asError(t, err).Kind != KindType {
		t.Errorf("Path: %v", err)
	}
}

// TestDiagObjectLengths: contents that are too short, and embedded objects that
// lie about their length, for every object.
func TestDiagObjectLengths(t *testing.T) {
	os := four.diags()["full dreq"].objects()
	body := func(o object) []byte { return o.appendBody(nil) }
	lie := func(o object, at int, length byte) []byte {
		b := body(o)
		b[at], b[at+1] = 0, length
		return b
	}
	for name, o := range map[string]Object{
		"DIAGNOSTIC empty":            {ClassDiagnostic, 1, nil},
		"DIAGNOSTIC header only":      {ClassDiagnostic, 1, body(os[2])[:16]},
		"DIAGNOSTIC without filter":   {ClassDiagnostic, 1, body(os[2])[:28]},
		"DIAGNOSTIC inner length 0":   {ClassDiagnostic, 1, lie(os[2], 16, 0)},
		"DIAGNOSTIC inner length 3":   {ClassDiagnostic, 1, lie(os[2], 16, 3)},
		"DIAGNOSTIC inner length 8":   {ClassDiagnostic, 1, lie(os[2], 16, 8)},
		"DIAGNOSTIC inner past end":   {ClassDiagnostic, 1, lie(os[2], 28, 16)},
		"DIAGNOSTIC C-Type":           {ClassDiagnostic, 3, body(os[2])},
		"DIAGNOSTIC IPv6":             {ClassDiagnostic, 2, body(os[2])},
		"DIAG_SELECT empty":           {ClassDiagSelect, 1, nil},
		"DIAG_SELECT C-Type":          {ClassDiagSelect, 2, body(os[3])},
		"ROUTE empty":                 {ClassRoute, 1, nil},
		"ROUTE half an address":       {ClassRoute, 2, body(os[4])},
		"ROUTE C-Type":                {ClassRoute, 7, body(os[4])},
		"DIAG_RESPONSE empty":         {ClassDiagResponse, 1, nil},
		"DIAG_RESPONSE short":         {ClassDiagResponse, 1, body(os[5])[:16]},
		"DIAG_RESPONSE inner 0":       {ClassDiagResponse, 1, lie(os[5], 20, 0)},
		"DIAG_RESPONSE inner past":    {ClassDiagResponse, 1, lie(os[5], 20, 12)},
		"DIAG_RESPONSE C-Type":        {ClassDiagResponse, 9, body(os[5])},
		"SESSION short":               {ClassSession, 1, nil},
		"HOP short":                   {ClassHop, 1, nil},
		"DIAG_RESPONSE as if it were": {ClassDiagResponse, 2, body(os[5])},
	} {
		broken := append([]object{}, os...)
		for i := range broken {
			if c, _ := broken[i].header(); c == o.Class {
				broken[i] = o
			}
		}
		if _, err := ParseDiag(raw(DiagRequest, broken...)); err == nil || asError(t, err).Respond {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiagAppendRefuses(t *testing.T) {
	for name, edit := range map[string]func(d *Diag){
		"type":       func(d *Diag) { d.Type = Path },
		"session":    func(d *Diag) { d.Session = Session{} },
		"hop":        func(d *Diag) { d.Hop = Hop{} },
		"MF":         func(d *Diag) { d.Diagnostic.More = true },
		"requester":  func(d *Diag) { d.Diagnostic.Requester.Format = FormatGPI },
		"integrity":  func(d *Diag) { d.Integrity = &Object{Class: ClassStyle} },
		"odd digest": func(d *Diag) { d.Integrity = &Object{Class: ClassIntegrity, Body: []byte{1}} },
		"K":          func(d *Diag) { d.Responses[0].K = 16 },
		"R-error":    func(d *Diag) { d.Responses[0].Error = 8 },
		"odd object": func(d *Diag) { d.Responses[0].Objects = []Object{{Body: []byte{1}}} },
		"no address": func(d *Diag) { d.Responses[0].In = netip.Addr{} },
		"too long": func(d *Diag) {
			d.Responses[0].Objects = []Object{{Body: make([]byte, 40000)}, {Body: make([]byte, 40000)}}
		},
	} {
		d := four.diags()["full dreq"]
		edit(d)
		if b, err := d.Append([]byte{1}); err == nil || len(b) != 1 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}
