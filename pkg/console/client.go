package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// maxAnswer bounds what a client reads: 100,000 flows are about 70 MB.
const maxAnswer = 1 << 30

// clientTimeout bounds one request, a reload included.
const clientTimeout = 30 * time.Second

// Client speaks to a daemon's control socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the daemon behind a unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{
		Timeout:   clientTimeout,
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}}
}

// Status returns the daemon at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, "status") }

// Flows returns one row per direction of a flow.
func (c *Client) Flows(ctx context.Context) ([]FlowRow, error) {
	return get[[]FlowRow](ctx, c, "flows")
}

// Sessions returns one row per RSVP session and sender.
func (c *Client) Sessions(ctx context.Context) ([]SessionRow, error) {
	return get[[]SessionRow](ctx, c, "sessions")
}

// Links returns one row per managed interface.
func (c *Client) Links(ctx context.Context) ([]LinkRow, error) {
	return get[[]LinkRow](ctx, c, "links")
}

// Policies returns one row per policy.
func (c *Client) Policies(ctx context.Context) ([]PolicyRow, error) {
	return get[[]PolicyRow](ctx, c, "policies")
}

// Users returns one row per user whose reservations are counted together.
func (c *Client) Users(ctx context.Context) ([]UserRow, error) {
	return get[[]UserRow](ctx, c, "users")
}

// Stats returns every counter.
func (c *Client) Stats(ctx context.Context) (Stats, error) { return get[Stats](ctx, c, "stats") }

// RSVPCounters returns the counters of RSVP messages, a part of Stats.
func (c *Client) RSVPCounters(ctx context.Context) (RSVPStats, error) {
	return get[RSVPStats](ctx, c, "rsvp/counters")
}

// RSVPNeighbors returns the neighbours that state depends on.
func (c *Client) RSVPNeighbors(ctx context.Context) ([]RSVPNeighborRow, error) {
	return get[[]RSVPNeighborRow](ctx, c, "rsvp/neighbors")
}

// RSVPSenders returns the path state.
func (c *Client) RSVPSenders(ctx context.Context) ([]RSVPSenderRow, error) {
	return get[[]RSVPSenderRow](ctx, c, "rsvp/senders")
}

// RSVPReservations returns what next hops ask for.
func (c *Client) RSVPReservations(ctx context.Context) ([]RSVPReservationRow, error) {
	return get[[]RSVPReservationRow](ctx, c, "rsvp/reservations")
}

// RSVPInterfaces returns what RSVP does on each interface.
func (c *Client) RSVPInterfaces(ctx context.Context) ([]RSVPInterfaceRow, error) {
	return get[[]RSVPInterfaceRow](ctx, c, "rsvp/interfaces")
}

// Reservations returns what was reserved by hand.
func (c *Client) Reservations(ctx context.Context) ([]ReservationRow, error) {
	return get[[]ReservationRow](ctx, c, "reservations")
}

// Reservation returns one of them.
func (c *Client) Reservation(ctx context.Context, id string) (ReservationRow, error) {
	return get[ReservationRow](ctx, c, "reservations/"+url.PathEscape(id))
}

// Reserve asks for a reservation by hand.
func (c *Client) Reserve(ctx context.Context, r ReservationRequest) (ReservationRow, error) {
	return call[ReservationRow](ctx, c, http.MethodPost, "reservations", r)
}

// Release ends a reservation by hand and returns what it was.
func (c *Client) Release(ctx context.Context, id string) (ReservationRow, error) {
	return call[ReservationRow](ctx, c, http.MethodDelete, "reservations/"+url.PathEscape(id), nil)
}

// Reload makes the daemon read its config file again and returns its status.
func (c *Client) Reload(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "reload", nil)
}

func get[T any](ctx context.Context, c *Client, what string) (T, error) {
	return call[T](ctx, c, http.MethodGet, what, nil)
}

// call sends a request, with a body if there is one, and returns what is answered.
func call[T any](ctx context.Context, c *Client, method, what string, ask any) (v T, err error) {
	var body []byte
	if ask != nil {
		if body, err = json.Marshal(ask); err != nil {
			return v, &Error{Code: "bad_request", Message: err.Error()}
		}
	}
	data, err := c.do(ctx, method, what, body)
	if err != nil {
		return v, err
	}
	return v, decode(data, &v)
}

func decode(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return &Error{Code: "bad_answer", Message: "the daemon's answer cannot be read, are both of one version? " + err.Error()}
	}
	return nil
}

// do sends one request. Every error that it returns is an *Error.
func (c *Client) do(ctx context.Context, method, what string, body []byte) (data []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://qosproxy/v1/"+what, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Code: "bad_request", Message: err.Error()}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer func() {
		if e := resp.Body.Close(); e != nil && err == nil {
			err = c.unreachable(e)
		}
	}()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode/100 == 2 {
		return data, nil
	}
	return nil, c.refusal(resp, data)
}

// refusal is the error of an answer that is one.
func (c *Client) refusal(resp *http.Response, data []byte) *Error {
	var body ErrorBody
	if err := json.Unmarshal(data, &body); err != nil || body.Error == nil {
		return &Error{Code: "bad_answer", Status: resp.StatusCode, Message: fmt.Sprintf("%s answers %s: is this a qosproxy?", c.socket, resp.Status)}
	}
	body.Error.Status = resp.StatusCode
	return body.Error
}

func (c *Client) unreachable(err error) *Error {
	msg := fmt.Sprintf("no answer on %s: %v", c.socket, err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		msg = fmt.Sprintf("no qosproxy listens on %s: start it with qosproxy run, or name its socket with -s or QOSPROXY_SOCKET", c.socket)
	case errors.Is(err, fs.ErrPermission):
		msg = fmt.Sprintf("%s may not be opened by this user: use root, or a member of the socket's group", c.socket)
	}
	return &Error{Code: "unreachable", Message: msg}
}
