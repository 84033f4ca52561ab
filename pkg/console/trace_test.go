package console_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

func TestTraceGolden(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	w := ask(t, s, http.MethodGet, "/v1/rsvp/trace?dst=10.2.0.9&protocol=tcp&dport=104&timeout=500ms")
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	golden(t, "rsvp-trace.json", indent(t, w.Body.Bytes()))
	want := console.TraceQuery{Dst: netip.MustParseAddr("10.2.0.9"), Protocol: 6, Dport: 104, Timeout: 500 * time.Millisecond}
	if b.TraceAsked != want {
		t.Errorf("asked for %+v", b.TraceAsked)
	}
	b.TraceValue = console.Trace{Hops: make([]console.TraceHop, 1)}
	if w = ask(t, s, http.MethodGet, "/v1/rsvp/trace?dst=10.2.0.9"); !strings.Contains(w.Body.String(), `"errors":[]`) || !strings.Contains(w.Body.String(), `"filters":[]`) {
		t.Errorf("%s", w.Body)
	}
}

func TestTraceErrors(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{&console.Error{Status: 409, Code: "ambiguous", Message: "2 match", Details: []string{"a", "b"}}, 409, "ambiguous"},
		{errors.New("rsvp is stopped"), 500, "internal"},
	} {
		b.TraceErr = tt.err
		w := ask(t, s, http.MethodGet, "/v1/rsvp/trace?dst=10.2.0.9")
		var body console.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == nil || w.Code != tt.status || body.Error.Code != tt.code {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if w := ask(t, s, http.MethodGet, "/v1/rsvp/trace"); w.Code != 400 || !strings.Contains(w.Body.String(), "dst=ADDRESS") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, s, http.MethodPost, "/v1/rsvp/trace?dst=10.2.0.9"); w.Code != 405 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A query comes back as it was; what is wrong with one is told in a sentence.
func TestTraceQuery(t *testing.T) {
	a := netip.MustParseAddr
	for _, q := range []console.TraceQuery{
		{Dst: a("10.2.0.9")},
		{
			Dst: a("2001:db8::9"), Src: a("2001:db8::1"), LastHop: a("2001:db8::8"), Protocol: 17, Dport: 1, Sport: 65535,
			MaxHops: 255, HopByHop: true, Timeout: time.Second, Attempts: 10,
		},
	} {
		got, err := console.ParseTraceQuery(q.Values())
		if d := cmp.Diff(q, got, cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil {
			t.Errorf("%v %s", err, d)
		}
	}
	for query, want := range map[string]string{
		"dst=here":                       "write one IPv4 or IPv6 address",
		"dst=0.0.0.0":                    "write one",
		"dst=fe80::1%25eth0":             "write one",
		"dst=10.2.0.9&dport=0":           "from 1 to 65535",
		"dst=10.2.0.9&dport=x":           "from 1 to 65535",
		"dst=10.2.0.9&max_hops=256":      "from 1 to 255",
		"dst=10.2.0.9&attempts=11":       "from 1 to 10",
		"dst=10.2.0.9&timeout=1h":        "write a time up to 5s",
		"dst=10.2.0.9&timeout=-1s":       "write a time",
		"dst=10.2.0.9&protocol=icmpx":    "write tcp, udp or a number",
		"dst=10.2.0.9&protocol=0":        "write tcp, udp or a number",
		"dst=10.2.0.9&hop_by_hop=maybe":  "true or false",
		"dst=10.2.0.9&hops=3":            `no parameter "hops"`,
		"dst=10.2.0.9&dst=10.2.0.8":      "given twice",
		"dst=10.2.0.9&src=2001:db8::1":   "one family",
		"dst=10.2.0.9&last_hop=2001::1":  "one family",
		"dst=10.2.0.9&src=224.0.0.9":     "not groups",
		"dst=10.2.0.9&last_hop=224.1.2.": "write one",
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := console.ParseTraceQuery(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want ... %s", query, err, want)
		}
	}
}
