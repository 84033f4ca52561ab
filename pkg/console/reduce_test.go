package console_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

func TestReduceGolden(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	want := console.ReductionRequest{
		Dst: "10.2.0.8", Protocol: console.Text("udp"), Dport: 5006, Src: "10.1.0.7", Sport: 5006, Interface: "wan0",
		Rate: console.Text("120kbit"), Peak: console.Value{Text: "40000", Number: true},
	}
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "rsvp-reduce-request.json", indent(t, append(body, '\n')))
	post := func(body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/rsvp/reduce", strings.NewReader(body)))
		return w
	}
	w := post(string(body))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	golden(t, "rsvp-reduce.json", indent(t, w.Body.Bytes()))
	if diff := cmp.Diff(want, b.ReduceAsked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b.ReducedValue = console.Reduction{}
	if w = post(string(body)); !strings.Contains(w.Body.String(), `"senders":[]`) {
		t.Errorf("%s", w.Body)
	}
	b.ReduceErr = &console.Error{Status: 409, Code: "ambiguous", Message: "2 match", Details: []string{"a", "b"}}
	if w = post(string(body)); w.Code != 409 || !strings.Contains(w.Body.String(), `"details":["a","b"]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"", `{"dst":"10.2.0.8","bandwidth":"1mbit"}`, `{"dport":70000}`} {
		if w = post(bad); w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"bad_request"`) {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	if w = ask(t, s, http.MethodGet, "/v1/rsvp/reduce"); w.Code != 405 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The client and the server understand each other.
func TestReduceOverTheSocket(t *testing.T) {
	b := consoletest.Example()
	path, _ := serve(t, b)
	c := console.NewClient(path)
	done, err := c.Reduce(t.Context(), console.ReductionRequest{Dst: "10.2.0.8", Rate: console.Text("120kbit")})
	if diff := cmp.Diff(consoletest.Example().ReducedValue, done); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	b.ReduceErr = &console.Error{Status: 404, Code: "no_session", Message: "none"}
	var e *console.Error
	if _, err = c.Reduce(t.Context(), console.ReductionRequest{}); !errors.As(err, &e) || e.Status != 404 || e.Code != "no_session" {
		t.Errorf("%v", err)
	}
}
