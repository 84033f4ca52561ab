package console_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

func post(t *testing.T, s *console.Server, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/reservations", strings.NewReader(body)))
	return w
}

// The request of the golden file is understood key by key, and answered by 201
// and the row.
func TestReserve(t *testing.T) {
	body, err := os.ReadFile("testdata/reservation-request.json")
	if err != nil {
		t.Fatal(err)
	}
	b := consoletest.Example()
	b.AddedRow = b.ReservationRows[0]
	w := post(t, console.New(b, nil, nil), string(body))
	if w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var row console.ReservationRow
	if err := json.Unmarshal(w.Body.Bytes(), &row); err != nil || row.ID != "3" {
		t.Errorf("%v, %v", row, err)
	}
	want := console.ReservationRequest{
		Protocol: console.Text("udp"), Src: "10.1.0.7", Sport: 5008, Dst: "10.2.0.7", Dport: 5008, Side: "both",
		Service: "controlled-load", Rate: console.Text("88kbit"), Burst: console.Value{Text: "800", Number: true}, Peak: console.Text("1mbit"),
		MinUnit: console.Text("64B"), MaxPacket: console.Text("400B"), Delay: console.Text("50ms"), Style: "ff", Mark: console.Text("voice-admit"),
		TCP: "none", Excess: "best-effort", Priority: &console.Priority{Setup: 1, Hold: 2}, Owner: "ops", Comment: "the monday meeting",
		Duration: console.Text("2h"), Expires: "2026-01-02T05:04:05Z",
	}
	if diff := cmp.Diff([]console.ReservationRequest{want}, b.Asked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	out, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "reservation-request.json", indent(t, append(out, '\n')))
}

func TestReserveBadRequests(t *testing.T) {
	b := consoletest.Example()
	s := console.New(b, nil, nil)
	for body, want := range map[string]string{
		"":                       "it is empty",
		"[]":                     "cannot unmarshal array",
		`{"rate":"8mbit","x":1}`: "unknown field",
		`{"rate":{}}`:            "give text in quotes or a number",
		`{"rate":"8mbit"} {}`:    "more follows",
		`{"rate":"8mbit"`:        "unexpected",
		`{"sport":70000}`:        "cannot unmarshal number",
		`{"priority":{"set":1}}`: "unknown field",
		`{"comment":"` + strings.Repeat("x", 17<<10) + `"}`: "more than 16384 bytes",
	} {
		w := post(t, s, body)
		var e console.ErrorBody
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error == nil || !strings.Contains(e.Error.Message, want) || w.Code/100 != 4 {
			t.Errorf("%.40s: %d %s, want %q", body, w.Code, w.Body, want)
		}
	}
	if len(b.Asked) != 0 {
		t.Errorf("asked: %+v", b.Asked)
	}
	b.ReserveErr = &console.Error{Status: 409, Code: "taken", Message: "no", Details: []string{"a", "b"}}
	if w := post(t, s, `{"rate":1}`); w.Code != 409 || !strings.Contains(w.Body.String(), `"code":"taken","message":"no","details":["a","b"]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	b.ReserveErr = errors.New("disk on fire")
	if w := post(t, s, `{"rate":1}`); w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The client and the server understand each other.
func TestReserveAndRelease(t *testing.T) {
	b := consoletest.Example()
	b.AddedRow = console.ReservationRow{ID: "9"}
	path, _ := serve(t, b)
	c := console.NewClient(path)
	row, err := c.Reserve(t.Context(), console.ReservationRequest{Src: "10.1.0.2", Rate: console.Text("8mbit"), Mark: console.Value{Text: "46", Number: true}})
	if err != nil || row.ID != "9" || len(b.Asked) != 1 || b.Asked[0].Mark.Text != "46" || !b.Asked[0].Burst.IsZero() {
		t.Fatalf("%+v, %v, asked %+v", row, err, b.Asked)
	}
	if row, err = c.Reservation(t.Context(), "9"); err != nil || row.ID != "9" {
		t.Errorf("%+v, %v", row, err)
	}
	if row, err = c.Release(t.Context(), "9"); err != nil || row.ID != "9" {
		t.Errorf("%+v, %v", row, err)
	}
	var e *console.Error
	if _, err = c.Release(t.Context(), "9"); !errors.As(err, &e) || e.Status != 404 || e.Code != "no_reservation" {
		t.Errorf("%v", err)
	}
	rows, err := c.Reservations(t.Context())
	if diff := cmp.Diff(consoletest.Example().ReservationRows, rows); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
