package wire

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func fullReport(f family) *Report {
	sample := f.samples()["path"]
	return &Report{
		Hop: &Hop{Addr: f.hop, LIH: 9}, SenderTemplate: &Filter{Src: f.src, SrcPort: 4000},
		SenderTSpec: sample.SenderTSpec, AdSpec: sample.AdSpec, Style: SE,
		FlowSpec: &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: *sample.SenderTSpec},
		Filters:  []Filter{{Src: f.src, SrcPort: 4000}, {Src: f.src2, SrcPort: 4001}},
		Scope:    []netip.Addr{f.src, f.src2}, ResvConfirm: f.dst,
	}
}

// RFC 2745 sections 3.4 and 3.6: every class that may be asked for comes back as
// it was; nothing selected means the default list; C-Type 0 means any.
func TestReportRFC2745Section3_6(t *testing.T) {
	every := []ClassCType{
		{Class: ClassHop},
		{Class: ClassSenderTemplate},
		{Class: ClassSenderTSpec},
		{Class: ClassAdSpec},
		{Class: ClassStyle},
		{Class: ClassFlowSpec},
		{Class: ClassFilterSpec},
		{Class: ClassScope},
		{Class: ClassResvConfirm},
	}
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		want := fullReport(f)
		r := DiagResponse{Objects: want.Objects(every)}
		if d := cmp.Diff(want, r.Report(), cmpOptions); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		classes := map[Class]int{}
		for _, o := range want.Objects(nil) {
			classes[o.Class]++
		}
		if d := cmp.Diff(map[Class]int{ClassSenderTSpec: 1, ClassFilterSpec: 2, ClassFlowSpec: 1, ClassStyle: 1}, classes); d != "" {
			t.Errorf("%s: default list: %s", name, d)
		}
		ctype := uint8(1)
		if name == "ipv6" {
			ctype = 2
		}
		if n := len(want.Objects([]ClassCType{{ClassFilterSpec, ctype}})); n != 2 {
			t.Errorf("%s: %d filter specs of C-Type %d", name, n, ctype)
		}
		if n := len(want.Objects([]ClassCType{{ClassFilterSpec, 3 - ctype}, {Class: 99}})); n != 0 {
			t.Errorf("%s: %d objects of a C-Type or class that is not there", name, n)
		}
	}
	if os := (&Report{}).Objects(nil); len(os) != 0 {
		t.Errorf("of nothing: %v", os)
	}
	raw := Object{Class: ClassSenderTSpec, CType: 2, Body: make([]byte, 40)}
	if os := (&Report{RawTSpec: &raw}).Objects(nil); len(os) != 1 || len(os[0].Body) != 40 {
		t.Errorf("a TSPEC that is more than we know: %v", os)
	}
}

// What cannot be read, and what comes a second time, is kept as it came.
func TestReportKeepsWhatItCannotRead(t *testing.T) {
	r := DiagResponse{Objects: fullReport(four).Objects(nil)}
	r.Objects = append(r.Objects, r.Objects...)
	for c := range Class(40) {
		r.Objects = append(r.Objects, Object{Class: c, CType: 1, Body: []byte{1, 2, 3}}, Object{Class: c, CType: 77})
	}
	got := r.Report()
	again := DiagResponse{Objects: got.Objects(nil)}
	if n := len(got.Other); n != 3+2*40 { // SENDER_TSPEC, FLOWSPEC, STYLE came twice
		t.Errorf("%d others", n)
	}
	if d := cmp.Diff(r.Objects[0].Body, again.Objects[0].Body); d != "" {
		t.Error(d)
	}
}

func TestFreshRequestRFC2745Section4_1(t *testing.T) {
	for name, d := range allDiags() {
		b := encodeDiag(t, d)
		want := d.Type == DiagRequest && !d.Started()
		if FreshRequest(b) != want {
			t.Errorf("%s: %v", name, !want)
		}
		fresh := *d
		fresh.Type, fresh.Responses = DiagRequest, nil
		fresh.Diagnostic.FragmentOffset, fresh.Diagnostic.More = 0, false
		if b = encodeDiag(t, &fresh); !FreshRequest(b) || fresh.Started() {
			t.Errorf("%s without responses is no fresh request", name)
		}
		for n := range b {
			if FreshRequest(b[:n]) && n < commonHeader+20 {
				t.Errorf("%s: prefix of %d bytes", name, n)
			}
		}
		if got := d.ResponseBytes(); len(d.Responses) > 0 {
			none := *d
			none.Responses = nil
			if got != d.Length()-none.Length() {
				t.Errorf("%s: %d bytes of responses", name, got)
			}
		}
	}
}

// The timestamp repeats every 65,536 seconds; a clock that is a little behind or
// ahead is told apart from one that is not.
func TestNTP32TimeRFC2745Section3_6(t *testing.T) {
	now := time.Date(2036, 2, 7, 6, 28, 15, 0, time.UTC) // where 32 bits of seconds end
	for _, d := range []time.Duration{0, time.Millisecond, -time.Millisecond, 9 * time.Hour, -9 * time.Hour, time.Second, -3 * time.Second} {
		got := NTP32Time(NTP32(now.Add(d)), now).Sub(now)
		if math.Abs(float64(got-d)) > 2*float64(time.Second)/65536 {
			t.Errorf("%v came back as %v", d, got)
		}
	}
}
