package wire

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

const guaranteedHex = tspecHex + "82000002 45fa0000 000004d2"

// TestFlowSpecRFC2210Section3_2 has both figures.
func TestFlowSpecRFC2210Section3_2(t *testing.T) {
	for _, tc := range []struct {
		f    *intserv.FlowSpec
		want string
	}{
		{controlledLoad(), "0024 0902 00000007 05000006" + tspecHex},
		{guaranteed(), "0030 0902 0000000a 02000009" + guaranteedHex},
	} {
		body := golden(t, flowSpec{tc.f}, tc.want)
		got, more, err := decodeFlowSpec(body)
		if err != nil || more || got != *tc.f {
			t.Errorf("decoded %v, %v, %v", got, more, err)
		}
	}
}

// TestFlowSpecFootnoteRFC2210Section3_2_2: a peer that believed the footnote
// writes 9 where the figure has 10.
func TestFlowSpecFootnoteRFC2210Section3_2_2(t *testing.T) {
	got, _, err := decodeFlowSpec(unhex("00000009 02000009" + guaranteedHex))
	if err != nil || got != *guaranteed() {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFlowSpecErrorsRFC2205AppendixB(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		value uint16
	}{
		"a service not known":      {"00000007 03000006" + tspecHex, TCServiceUnsupported},
		"null with a token bucket": {"00000007 06000006" + tspecHex, TCBadFlowSpec},
		"null without M":           {"00000003 06000002 80000001 00000000", TCBadFlowSpec},
		"null twice":               {"00000005 06000004 80000001 000005dc 80000001 000005dc", TCBadFlowSpec},
		"general is no service":    {"00000007 01000006" + tspecHex, TCServiceUnsupported},
		"guaranteed without RSpec": {"00000007 02000006" + tspecHex, TCBadFlowSpec},
		"R below r":                {"0000000a 02000009" + tspecHex + "82000002 453b8000 00000000", TCBadFlowSpec},
		"R NaN":                    {"0000000a 02000009" + tspecHex + "82000002 7fc00000 00000000", TCBadFlowSpec},
		"cut off":                  {"00000006 05000006 7f000005 45bb8000 45bb8000 7f800000 00000040", TCBadFlowSpec},
		"trailing":                 {"00000008 05000006" + tspecHex + "00000000", TCBadFlowSpec},
		"empty":                    {"", TCBadFlowSpec},
	} {
		_, _, err := decodeFlowSpec(unhex(tc.in))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if e := flowSpecError(err); e.Code != ErrTrafficControl || e.Value != tc.value || !e.Respond {
			t.Errorf("%s: %v %d/%d, want value %d", name, e, e.Code, e.Value, tc.value)
		}
	}
}
