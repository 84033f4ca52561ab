package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func exampleEvents() (console.SessionEvent, console.ReservationEvent) {
	s := console.SessionEvent{
		At: "2026-01-02T03:04:05.678Z", Dst: "10.2.0.7", Protocol: "udp", Dport: 5008, Src: "10.1.0.7", Sport: 5008, Role: "receiver-proxy",
		State: console.SessionReserved, Previous: console.SessionRequested, Interface: "lan0",
		Error: "requested bandwidth unavailable (code 1 value 2) at 192.0.2.2: not because of this request, but of a larger one", ErrorCode: 1, ErrorValue: 2, ErrorNode: "192.0.2.2",
		ErrorFlags: console.ErrorFlags{InPlace: true, NotGuilty: true},
	}
	return s, console.ReservationEvent{
		At: s.At, Change: "state", ID: "3", Owner: "ops", Protocol: s.Protocol, Src: s.Src, Sport: s.Sport, Dst: s.Dst, Dport: s.Dport, State: s.State,
		Error: s.Error, ErrorCode: s.ErrorCode, ErrorValue: s.ErrorValue, ErrorNode: s.ErrorNode, ErrorFlags: s.ErrorFlags,
	}
}

// raw asks for the events without the client.
func raw(t *testing.T, path string) *bufio.Reader {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /v1/events HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(c)
}

// The form on the wire is a contract, as the rows are.
func TestEventsGolden(t *testing.T) {
	b := consoletest.Example()
	hub := b.Events()
	path, stop := serve(t, b)
	r := raw(t, path)
	eventually(t, "no client", func() bool { return hub.Stats().Clients == 1 })
	s, h := exampleEvents()
	hub.Publish(console.EventSession, s)
	hub.Publish(console.EventReservation, h)
	var got strings.Builder
	for n := 0; n < 2; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			got.Reset() // the header ends
			continue
		}
		if strings.HasPrefix(strings.ToLower(line), "content-type") && !strings.Contains(line, "text/event-stream") {
			t.Error(line)
		}
		got.WriteString(line)
		if strings.HasPrefix(line, "data: ") {
			n++
		}
	}
	golden(t, "events.txt", []byte(got.String()))
	// A daemon that stops does not wait for those that follow.
	begin := time.Now()
	if err := stop(); err != nil || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	if n := hub.Stats().Clients; n != 0 {
		t.Errorf("%d clients after the end", n)
	}
}

func TestEventsClient(t *testing.T) {
	b := consoletest.Example()
	hub := b.Events()
	path, _ := serve(t, b)
	s, _ := exampleEvents()
	got := make(chan console.SessionEvent, 1)
	ended := make(chan error, 1)
	enough := errors.New("enough")
	go func() {
		ended <- console.NewClient(path).Events(t.Context(), func(kind string, data json.RawMessage) error {
			var e console.SessionEvent
			if err := json.Unmarshal(data, &e); err != nil || kind != console.EventSession {
				return fmt.Errorf("%s: %w", kind, err)
			}
			got <- e
			return enough
		})
	}()
	eventually(t, "no client", func() bool { return hub.Stats().Clients == 1 })
	hub.Publish(console.EventSession, s)
	if diff := cmp.Diff(s, <-got); diff != "" {
		t.Error(diff)
	}
	if err := <-ended; !errors.Is(err, enough) {
		t.Error(err)
	}
	eventually(t, "the client is still there", func() bool { return hub.Stats().Clients == 0 })

	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- console.NewClient(path).Events(ctx, nil) }()
	eventually(t, "no client", func() bool { return hub.Stats().Clients == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Nobody waits for a client that does not read: it is told what it has missed.
func TestEventsAreBounded(t *testing.T) {
	b := consoletest.Example()
	hub := b.Events()
	path, _ := serve(t, b)
	r := raw(t, path)
	eventually(t, "no client", func() bool { return hub.Stats().Clients == 1 })
	s, _ := exampleEvents()
	s.Error = strings.Repeat("x", 4000) // fills the socket soon
	const many = 5000
	for range many {
		hub.Publish(console.EventSession, s)
	}
	st := hub.Stats()
	if st.Lost == 0 || st.Sent+st.Lost != many {
		t.Fatalf("%+v", st)
	}
	told, lost := uint64(0), uint64(0)
	next := func() {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		data, ok := strings.CutPrefix(line, "data: ")
		var e struct {
			Lost uint64 `json:"lost"`
			Dst  string `json:"dst"`
		}
		if !ok {
			return
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		lost += e.Lost
		if e.Dst != "" {
			told++
		}
	}
	for told < st.Sent {
		next()
	}
	hub.Publish(console.EventSession, s)
	for told < st.Sent+1 {
		next()
	}
	if lost != st.Lost {
		t.Errorf("told of %d lost events, %d are", lost, st.Lost)
	}
}

func TestEventsTooManyClients(t *testing.T) {
	b := consoletest.Example()
	hub := b.Events()
	path, _ := serve(t, b)
	for i := range 16 {
		raw(t, path)
		eventually(t, "no client", func() bool { return hub.Stats().Clients == i+1 })
	}
	err := console.NewClient(path).Events(t.Context(), nil)
	var e *console.Error
	if !errors.As(err, &e) || e.Status != 503 || e.Code != "too_many_clients" || hub.Stats().Refused != 1 {
		t.Errorf("%v %+v", err, hub.Stats())
	}
	// The rest of the API works.
	if _, err := console.NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}
