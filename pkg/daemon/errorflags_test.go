package daemon

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.11.1: who has asked for a reservation, by hand or by a
// policy, sees the Error_flags of what became of it, in rows and in events.
func TestErrorFlagsRFC2205Section3_11_1(t *testing.T) {
	r := testHands(t, t.TempDir())
	d := &Daemon{flows: r.trafficControl.flows, tc: r.trafficControl, hands: r.hands, events: console.NewHub()}
	d.cfg.Store(&config.Config{})
	d.links.Store(r.trafficControl.links())
	a := ask(4000)
	a.Side, a.Src, a.Dst = "receiver", a.Dst, a.Src
	made, err := reservationOf(&a, r.clock)
	if err != nil {
		t.Fatal(err)
	}
	if made, err = r.add(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	session, sender := sessionOf(made.Flow)
	v := softstate.SessionView{
		Session: session, Sender: sender, Role: softstate.ReceiverProxy, State: softstate.Reserved,
		Failure: &softstate.Failure{
			Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Flags: wire.InPlace | wire.NotGuilty, Node: netip.MustParseAddr("192.0.2.9"), Upstream: true,
		},
	}
	want := console.ErrorFlags{InPlace: true, NotGuilty: true}
	hand := d.rowOf(&made, &v)
	row := d.sessionRow(&v)
	for what, got := range map[string]struct {
		flags console.ErrorFlags
		text  string
	}{"reservations": {hand.ErrorFlags, hand.Error}, "sessions": {row.ErrorFlags, row.Error}} {
		if got.flags != want || !strings.Contains(got.text, "not because of this request") || !strings.Contains(got.text, "at 192.0.2.9") {
			t.Errorf("%s: %+v %q", what, got.flags, got.text)
		}
	}

	s := httptest.NewServer(http.HandlerFunc(console.New(struct{ *Daemon }{d}, nil, nil).Handler().ServeHTTP))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	d.tellSession(&softstate.Event{Session: session, Sender: sender, Role: v.Role, State: v.State, Failure: v.Failure})
	lines := bufio.NewScanner(resp.Body)
	for seen := 0; seen < 2 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		seen++
		var e console.ReservationEvent // the flags have the same keys in both
		if err := json.Unmarshal([]byte(data), &e); err != nil || e.ErrorFlags != want {
			t.Errorf("%v %s", err, data)
		}
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	v.Failure = nil
	if got := d.sessionRow(&v).ErrorFlags; got != (console.ErrorFlags{}) {
		t.Errorf("without an error: %+v", got)
	}
}
