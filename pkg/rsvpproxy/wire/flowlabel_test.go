package wire

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// labelled is a sender of an IPv6 session that its flow label names.
func labelled() (path, resv *Message) {
	f := Filter{Src: six.src, Format: FormatFlowLabel, Label: 0xabcde}
	path, resv = six.samples()["path"], six.samples()["resv-ff"]
	path.SenderTemplate = &f
	resv.Flows = []FlowDescriptor{{FlowSpec: controlledLoad(), Filters: []Filter{f}}}
	return path, resv
}

// RFC 2205 Appendix A.9 and A.10: FILTER_SPEC and SENDER_TEMPLATE of C-Type 3, which
// a node without extensions reads too.
func TestFlowLabelRFC2205AppendixA9(t *testing.T) {
	path, resv := labelled()
	for name, m := range map[string]*Message{"path": path, "resv": resv} {
		b := encode(t, m)
		got, err := Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(m, got, cmpOptions); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		for n := commonHeader; n < len(b); n++ {
			if got, err := Parse(reseal(append([]byte{}, b[:n]...))); err == nil && len(encode(t, got)) != n {
				t.Errorf("%s: prefix of %d bytes read as %d", name, n, got.Length())
			}
		}
	}
	f := filterSpec{path.SenderTemplate}
	class, ctype := f.header()
	if class != ClassFilterSpec || ctype != 3 {
		t.Errorf("class %d, C-Type %d", class, ctype)
	}
	if got, want := hex.EncodeToString(f.appendBody(nil)), hex.EncodeToString(six.src.AsSlice())+"000abcde"; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	if got := path.SenderTemplate.String(); got != six.src.String()+"/label 0xabcde" {
		t.Error(got)
	}
	ports := Session{Dst: six.dst, Protocol: 17, DstPort: 1}
	for name, c := range map[string]struct {
		s Session
		f Filter
	}{
		"label 0":  {ports, Filter{Src: six.src, Format: FormatFlowLabel}},
		"of IPsec": {Session{Dst: six.dst, Protocol: 50, DstPort: 1, Format: FormatGPI}, *path.SenderTemplate},
		"of IPv4":  {Session{Dst: four.dst, Protocol: 17, DstPort: 1}, Filter{Src: four.src, Format: FormatFlowLabel, Label: 1}},
	} {
		if err := c.f.check(c.s, ClassFilterSpec); err == nil || err.Kind != KindFormat {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := path.SenderTemplate.check(Session{Dst: six.dst, Protocol: 17}, ClassFilterSpec); err != nil {
		t.Errorf("a session without a port: %v", err)
	}
}
