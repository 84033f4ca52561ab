package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

// changing is a box whose reservation is in another state each time it is
// looked at.
type changing struct {
	*consoletest.Backend
	mu     sync.Mutex
	states []console.ReservationRow
}

func (c *changing) Reservation(string) (console.ReservationRow, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.states[0]
	if len(c.states) > 1 {
		c.states = c.states[1:]
	}
	return row, nil
}

func (c *changing) Reserve(ctx context.Context, r console.ReservationRequest) (console.ReservationRow, error) {
	_, _ = c.Backend.Reserve(ctx, r)
	return c.Reservation("")
}

func row(state string) console.ReservationRow {
	return console.ReservationRow{ID: "4", State: state, PHB: "ef", Class: map[string]string{console.SessionReserved: "1:10"}[state]}
}

func TestReserveWaits(t *testing.T) {
	path, requested, reserved := row(console.SessionPath), row(console.SessionRequested), row(console.SessionReserved)
	path.Reason = "waiting for RESV"
	group := row(console.SessionReserved)
	group.Reason = "waiting for RESV on wan1"
	group.Branches = []console.Branch{{Interface: "wan0", State: console.SessionReserved, Class: "1:10"}, {Interface: "wan1", State: console.SessionPath}}
	rejected := row(console.SessionRejected)
	rejected.Error = "no bandwidth (code 1 value 2) at 192.0.2.2"
	args := []string{"reserve", "udp", "10.1.0.2:4000", "[fd00::2]:5004", "--bandwidth", "8mbit", "--timeout", "400ms"}
	for _, tt := range []struct {
		states   []console.ReservationRow
		more     []string
		code     int
		out, err string
		json     string // error code
	}{
		{states: []console.ReservationRow{path, requested, reserved}, out: "reservation 4: reserved, class 1:10, marked ef\n"},
		{states: []console.ReservationRow{path, group}, out: "reservation 4: reserved on 1 of 2 interfaces, class 1:10, waiting for RESV on wan1, marked ef\n"},
		{states: []console.ReservationRow{path}, more: []string{"--no-wait"}, out: "reservation 4: path, waiting for RESV, marked ef\n"},
		{states: []console.ReservationRow{path}, more: []string{"--wait=false"}, out: "reservation 4: path, waiting for RESV, marked ef\n"},
		{states: []console.ReservationRow{path, rejected}, code: 1, err: "refused: no bandwidth (code 1 value 2) at 192.0.2.2", json: "refused"},
		{states: []console.ReservationRow{path}, code: 1, err: "not reserved within 400ms: waiting for RESV", json: "not_in_time"},
	} {
		b := &changing{Backend: consoletest.Example(), states: tt.states}
		sock := daemon(t, b)
		got := run(t, append(append(args, tt.more...), "-s", sock)...)
		if got.code != tt.code || got.out != tt.out || !strings.Contains(got.err, tt.err) || tt.err != "" && !strings.Contains(got.err, "qosproxy release 4") {
			t.Errorf("%v: %+v", tt.states, got)
		}
		want := console.ReservationRequest{
			Protocol: console.Text("udp"), Src: "10.1.0.2", Sport: 4000, Dst: "fd00::2", Dport: 5004, Rate: console.Text("8mbit"),
		}
		if diff := cmp.Diff([]console.ReservationRequest{want}, b.Asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		b.states = tt.states
		got = run(t, append(append(args, tt.more...), "--json", "-s", sock)...)
		var r console.ReservationRow
		switch {
		case got.code != tt.code:
			t.Errorf("--json: %+v", got)
		case tt.json != "":
			if e := jsonError(t, got.out); e.Code != tt.json || len(e.Details) != 1 || got.err != "" {
				t.Errorf("--json: %+v", got)
			}
		default:
			if err := json.Unmarshal([]byte(got.out), &r); err != nil || r.ID != "4" {
				t.Errorf("--json: %v %+v", err, got)
			}
		}
	}
}

// Every flag comes to the daemon.
func TestReserveFlags(t *testing.T) {
	b := &changing{Backend: consoletest.Example(), states: []console.ReservationRow{row(console.SessionReserved)}}
	got := rooms{}.exec(t, map[string]string{"USER": "anna"}, "reserve", "47", "10.1.0.2", "10.2.0.2", "--bandwidth", "1mbit", "--burst", "2kB", "--peak", "2mbit",
		"--min-unit", "64B", "--max-packet", "400B", "--service", "guaranteed", "--delay", "50ms", "--side", "sender", "--style", "se", "--mark", "ef",
		"--tcp", "none", "--excess", "drop", "--priority", "3:4", "--comment", "c", "--duration", "2h", "--expires", "x", "-s", daemon(t, b))
	want := console.ReservationRequest{
		Protocol: console.Text("47"), Src: "10.1.0.2", Dst: "10.2.0.2", Side: "sender", Service: "guaranteed", Rate: console.Text("1mbit"),
		Burst: console.Text("2kB"), Peak: console.Text("2mbit"), MinUnit: console.Text("64B"), MaxPacket: console.Text("400B"), Delay: console.Text("50ms"),
		Style: "se", Mark: console.Text("ef"), TCP: "none", Excess: "drop", Priority: &console.Priority{Setup: 3, Hold: 4},
		Owner: "anna", Comment: "c", Duration: console.Text("2h"), Expires: "x",
	}
	if diff := cmp.Diff([]console.ReservationRequest{want}, b.Asked); diff != "" || got.code != exitOK {
		t.Errorf("%+v, asked (-want +got):\n%s", got, diff)
	}
}

// An entry of flows: the direction of the data, or the other one.
func TestReserveOfAFlow(t *testing.T) {
	conn := consoletest.Example().FlowRows[0].Conn
	for _, reverse := range []bool{false, true} {
		b := &changing{Backend: consoletest.Example(), states: []console.ReservationRow{row(console.SessionReserved)}}
		args := []string{"reserve", "--conn", conn, "--bandwidth", "1mbit", "-s", daemon(t, b)}
		want := console.ReservationRequest{Protocol: console.Text("tcp"), Src: "10.1.0.5", Sport: 40112, Dst: "10.2.0.9", Dport: 104, Rate: console.Text("1mbit")}
		if reverse {
			args = append(args, "--reverse")
			want.Src, want.Sport, want.Dst, want.Dport = want.Dst, want.Dport, want.Src, want.Sport
		}
		got := run(t, args...)
		if diff := cmp.Diff([]console.ReservationRequest{want}, b.Asked); diff != "" || got.code != exitOK {
			t.Errorf("%+v, asked (-want +got):\n%s", got, diff)
		}
	}
	got := run(t, "reserve", "--conn", "none", "--bandwidth", "1mbit", "-s", daemon(t, consoletest.Example()))
	if got.code != exitFailed || !strings.Contains(got.err, "no flow has conn none") {
		t.Errorf("%+v", got)
	}
}

func TestRelease(t *testing.T) {
	sock := daemon(t, consoletest.Example())
	if got := run(t, "release", "3", "-s", sock); got.code != exitOK || got.out != "reservation 3 is released\n" {
		t.Errorf("%+v", got)
	}
	if got := run(t, "release", "3", "--json", "-s", sock); got.code != exitFailed || jsonError(t, got.out).Code != "no_reservation" {
		t.Errorf("%+v", got)
	}
	got := run(t, "release", "7", "--json", "-s", sock)
	var r console.ReservationRow
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || r.ID != "7" || got.code != exitOK {
		t.Errorf("%v %+v", err, got)
	}
}
