package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// eventIdle is how often a client that nothing is told is written to, so that
	// both sides notice if the other has gone.
	eventIdle = 15 * time.Second
	// eventPatience is how long one write may take.
	eventPatience = 10 * time.Second
)

// events answers with server-sent events until the client goes or the daemon
// stops.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	hub := s.backend.Events()
	f, err := hub.follow()
	if err != nil {
		s.fail(w, http.StatusServiceUnavailable, "too_many_clients", fmt.Sprintf("%v (%d): end one of them", err, eventClients), nil)
		return
	}
	defer hub.leave(f)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	write := func(text string) error {
		// Not every transport has deadlines; a socket has.
		if err := out.SetWriteDeadline(time.Now().Add(eventPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		return out.Flush()
	}
	idle := time.NewTicker(eventIdle)
	defer idle.Stop()
	err = write(": events follow\n\n")
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-idle.C:
			err = write(": still here\n\n")
		case e := <-f.events:
			text := ""
			if n := f.lost.Swap(0); n > 0 {
				text = eventText(event{e.id, EventLost, LostEvent{n}})
			}
			err = write(text + eventText(e))
		}
	}
	if r.Context().Err() == nil {
		s.onError(fmt.Errorf("control socket: events: %w", err))
	}
}

// eventText is an event on the wire.
func eventText(e event) string {
	data, err := json.Marshal(e.data)
	if err != nil { // cannot be: the types have no such values
		data = []byte("null")
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.id, e.kind, data)
}

// Events follows the daemon's events until ctx ends or take returns an error,
// which is returned.
func (c *Client) Events(ctx context.Context, take func(kind string, data json.RawMessage) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://qosproxy/v1/events", http.NoBody)
	if err != nil {
		return &Error{Code: "bad_request", Message: err.Error()}
	}
	endless := http.Client{Transport: c.http.Transport} // without the timeout of a request
	resp, err := endless.Do(req)
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // the caller's wish, before there was an answer
	}
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }() // it has been read as far as is wanted
	if resp.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxHeader))
		if err != nil {
			return c.unreachable(err)
		}
		return c.refusal(resp, data)
	}
	lines := bufio.NewScanner(resp.Body)
	kind := ""
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "event":
			kind = value
		case "data":
			if err := take(kind, json.RawMessage(value)); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.unreachable(errors.Join(errors.New("the daemon has ended the events"), lines.Err()))
}
