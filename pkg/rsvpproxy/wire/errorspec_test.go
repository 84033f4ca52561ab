package wire

import "testing"

// TestErrorSpecRFC2205AppendixA5 has the figure's layout.
func TestErrorSpecRFC2205AppendixA5(t *testing.T) {
	for _, tc := range []struct {
		e     ErrorSpec
		ctype uint8
		want  string
	}{
		{ErrorSpec{ip("10.1.24.4"), InPlace, ErrAdmission, AdmissionBandwidth}, 1, "000c 0601 0a011804 01 01 0002"},
		{ErrorSpec{ip("2001:db8::2"), 0, ErrUnknownCType, 0x0902}, 2, "0018 0602 20010db8000000000000000000000002 00 0e 0902"},
	} {
		body := golden(t, tc.e, tc.want)
		if got, err := decodeErrorSpec(tc.ctype, body); err != nil || *got != tc.e {
			t.Errorf("decoded %v, %v", got, err)
		}
		if _, err := decodeErrorSpec(7, body); err == nil || err.Kind != KindUnknownCType {
			t.Errorf("C-Type 7: %v", err)
		}
	}
	e := ErrorSpec{ip("10.1.24.4"), InPlace, ErrAdmission, AdmissionBandwidth}
	const want = "admission control failure: requested bandwidth unavailable at 10.1.24.4, the earlier reservation stays in place"
	if e.String() != want {
		t.Error(e)
	}
}

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		code  ErrorCode
		value uint16
		want  string
	}{
		{ErrConfirm, 0, "confirmation"},
		{ErrAdmission, AdmissionMTU, "admission control failure: MTU in flowspec larger than interface MTU"},
		{ErrAdmission, informational | AdmissionDelay, "admission control failure: delay bound cannot be met"},
		{ErrAdmission, 0xc001, "admission control failure: value 0xc001"}, // service-specific sub-code
		{ErrPolicy, PolicyPreempted, "policy control failure: reservation was preempted"},
		{ErrNoPath, 0, "no path information for this Resv"},
		{ErrStyleConflict, 0x12, "conflicting reservation style: se is in place"},
		{ErrUnknownClass, 0x1701, "unknown object class: MESSAGE_ID, C-Type 1"},
		{ErrUnknownCType, 0x0902, "unknown object C-Type: FLOWSPEC, C-Type 2"},
		{ErrTrafficControl, TCServiceConflict, "traffic control error: service conflict"},
		{ErrReceiverProxy, 0x0103, "unrecoverable receiver proxy error: no path information for this Resv"},
		{33, 1, "traffic engineering error 33: value 0x0001"},
		{99, 0, "error 99"},
	} {
		if got := Describe(tc.code, tc.value); got != tc.want {
			t.Errorf("%d/%#x: %q, want %q", tc.code, tc.value, got, tc.want)
		}
	}
	if !Informational(ErrAdmission, informational) || Informational(ErrAdmission, 2) || Informational(ErrPolicy, informational) {
		t.Error("u bit")
	}
}

// TestErrorCodeAllowedInRFC2205AppendixB: which codes may travel upstream.
func TestErrorCodeAllowedInRFC2205AppendixB(t *testing.T) {
	for _, tc := range []struct {
		code                       ErrorCode
		pathErr, resvErr, resvConf bool
	}{
		{ErrConfirm, false, false, true},
		{ErrAdmission, true, true, false}, // in PathErr by RFC 5946 section 3.1.2
		{ErrNoPath, false, true, false},
		{ErrStyleConflict, false, true, false},
		{ErrDstPorts, true, true, false},
		{ErrSrcPorts, true, false, false},
		{ErrTrafficControl, true, true, false},
		{ErrReceiverProxy, true, true, false},
	} {
		got := [...]bool{tc.code.AllowedIn(PathErr), tc.code.AllowedIn(ResvErr), tc.code.AllowedIn(ResvConf)}
		if want := [...]bool{tc.pathErr, tc.resvErr, tc.resvConf}; got != want {
			t.Errorf("%v: %v, want %v", tc.code, got, want)
		}
		if tc.code.AllowedIn(Path) {
			t.Errorf("%v in a Path", tc.code)
		}
	}
}
