package console_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-golden +got); the schema is a contract, run with -update only if it is meant to change:\n%s", name, diff)
	}
}

func ask(t *testing.T, s *console.Server, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("ignored")))
	return w
}

func indent(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		t.Fatalf("not JSON: %v: %s", err, data)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	s := console.New(consoletest.Example(), nil, nil)
	for _, what := range []string{"status", "flows", "sessions", "links", "policies", "users", "stats", "rsvp/counters", "accounting", "accounting/users", "reservations", "rsvp/neighbors", "rsvp/senders", "rsvp/reservations", "rsvp/interfaces"} {
		w := ask(t, s, http.MethodGet, "/v1/"+what)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", what, w.Code, w.Header())
		}
		golden(t, strings.ReplaceAll(what, "/", "-")+".json", indent(t, w.Body.Bytes()))
	}
}

// A program may iterate over every list of an empty box.
func TestNothingIsNullThatIsAList(t *testing.T) {
	b := &consoletest.Backend{
		LinkRows: make([]console.LinkRow, 1), PolicyRows: make([]console.PolicyRow, 1),
		SenderRows: make([]console.RSVPSenderRow, 1), RequestRows: make([]console.RSVPReservationRow, 1),
		UserRows: make([]console.UserRow, 1), SessionRows: make([]console.SessionRow, 1), AccountRows: make([]console.AccountingRow, 1),
	}
	s := console.New(b, nil, nil)
	for what, want := range map[string][]string{
		"accounting": {`"users":[]`, `"branches":[]`}, "accounting/users": {"[]\n"},
		"flows": {"[]\n"}, "sessions": {`"identities":[]`, `"dclass":[]`}, "users": {`"identities":[]`, `"from":[]`}, "reservations": {"[]\n"},
		"rsvp/neighbors": {"[]\n"}, "rsvp/interfaces": {"[]\n"}, "rsvp/senders": {`"interfaces":[]`}, "rsvp/reservations": {`"filters":[]`}, "status": {`"problems":[]`}, "stats": {`"queues":[]`, `"left_alone":{}`},
		"links":    {`"services":[]`, `"levels":[]`, `"shared":[]`, `"dscps":[]`, `"classes":[]`},
		"policies": {`"from":[]`, `"to":[]`, `"from_port":[]`, `"to_port":[]`},
	} {
		got := ask(t, s, http.MethodGet, "/v1/"+what).Body.String()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %s in %s", what, w, got)
			}
		}
	}
	*b = consoletest.Backend{}
	for _, what := range []string{"links", "policies", "users", "sessions", "accounting"} {
		if got := ask(t, s, http.MethodGet, "/v1/"+what).Body.String(); got != "[]\n" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

type manyErrors []error

func (m manyErrors) Error() string   { return "two errors" }
func (m manyErrors) Unwrap() []error { return m }

func TestErrors(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v1/nothing", 404, "not_found"},
		{"GET", "/v2/flows", 404, "not_found"},
		{"GET", "/metrics", 404, "not_found"}, // no handler was given
		{"POST", "/v1/flows", 405, "method_not_allowed"},
		{"GET", "/v1/reload", 405, "method_not_allowed"},
		{"GET", "/v1/connections", 501, "not_implemented"},
		{"POST", "/v1/events", 405, "method_not_allowed"},
		{"POST", "/v1/reservations", 400, "bad_request"},
		{"PUT", "/v1/reservations", 405, "method_not_allowed"},
		{"GET", "/v1/reservations/5", 404, "no_reservation"},
		{"DELETE", "/v1/reservations/5", 404, "no_reservation"},
		{"POST", "/v1/accounting", 405, "method_not_allowed"},
		{"GET", "/v1/accounting?state=over", 400, "bad_request"},
		{"DELETE", "/v1/accounting", 400, "bad_request"},
		{"DELETE", "/v1/accounting?through=-1", 400, "bad_request"},
		{"GET", "/", 501, "not_implemented"},
	} {
		w := ask(t, s, tt.method, tt.path)
		var body console.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == nil {
			t.Errorf("%s %s: %v: %s", tt.method, tt.path, err, w.Body)
			continue
		}
		if w.Code != tt.status || body.Error.Code != tt.code || body.Error.Message == "" {
			t.Errorf("%s %s: %d %+v, want %d %s", tt.method, tt.path, w.Code, body.Error, tt.status, tt.code)
		}
		if allow := w.Header().Get("Allow"); (allow != "") != (tt.status == 405) {
			t.Errorf("%s %s: Allow: %q", tt.method, tt.path, allow)
		}
	}
	b.HealthErr = errors.New("queue 102 is not read")
	b.ReloadErr = manyErrors{errors.New("f:1:1: one"), errors.New("f:2:1: two")}
	w := ask(t, s, "GET", "/healthz")
	if w.Code != 503 {
		t.Errorf("healthz: %d %s", w.Code, w.Body)
	}
	golden(t, "unhealthy.json", indent(t, w.Body.Bytes()))
	w = ask(t, s, "POST", "/v1/reload")
	if w.Code != 422 {
		t.Errorf("reload: %d %s", w.Code, w.Body)
	}
	golden(t, "reload-error.json", indent(t, w.Body.Bytes()))
}

func TestReloadAndHealth(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	w := ask(t, s, "POST", "/v1/reload")
	var st console.Status
	if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || w.Code != 200 || b.Reloads != 1 || st.PID != 4711 {
		t.Errorf("reload: %v %d %s, %d reloads", err, w.Code, w.Body, b.Reloads)
	}
	w = ask(t, s, "GET", "/healthz")
	if got := w.Body.String(); w.Code != 200 || got != "{\"healthy\":true}\n" {
		t.Errorf("healthz: %d %s", w.Code, got)
	}
}

// A bad row must not end the daemon, and the client is told.
func TestPanicIsAnAnswer(t *testing.T) {
	b := consoletest.Example()
	b.BeforeAnswers = func() { panic("bug") }
	var told []error
	s := console.New(b, nil, func(err error) { told = append(told, err) })
	w := ask(t, s, "GET", "/v1/flows")
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(told) != 1 || !strings.Contains(told[0].Error(), "bug") {
		t.Errorf("told %v", told)
	}
}

// Every JSON key of every schema is described in docs/api.md.
func TestKeysAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type, visit func(string))
	walk = func(rt reflect.Type, visit func(string)) {
		for rt.Kind() == reflect.Slice || rt.Kind() == reflect.Pointer {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct || seen[rt] {
			return
		}
		seen[rt] = true
		for f := range rt.Fields() {
			if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" {
				visit(key)
			}
			walk(f.Type, visit)
		}
	}
	for _, v := range []any{
		console.Status{},
		console.FlowRow{},
		console.SessionRow{},
		console.LinkRow{},
		console.PolicyRow{},
		console.UserRow{},
		console.Stats{},
		console.ErrorBody{},
		console.Health{},
		console.ReservationRequest{},
		console.ReservationRow{},
		console.RSVPNeighborRow{},
		console.RSVPSenderRow{},
		console.RSVPReservationRow{},
		console.RSVPInterfaceRow{},
		console.AccountingRow{},
		console.AccountingSum{},
		console.AccountingStruck{},
		console.Trace{},
		console.ReductionRequest{},
		console.Reduction{},
		console.SessionEvent{},
		console.ReservationEvent{},
		console.LostEvent{},
	} {
		walk(reflect.TypeOf(v), func(key string) {
			if !bytes.Contains(doc, []byte("`"+key+"`")) {
				t.Errorf("docs/api.md does not describe `%s` of %T", key, v)
			}
		})
	}
}

var _ console.Backend = (*consoletest.Backend)(nil)
