package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Backend is what the API shows and does. Its methods are called from several
// goroutines at once; the rows that they return are the caller's.
type Backend interface {
	Status() Status
	Flows() []FlowRow
	Sessions() []SessionRow
	Links() []LinkRow
	Policies() []PolicyRow
	Users() []UserRow
	Stats() Stats
	// RSVPNeighbors to RSVPInterfaces show the state of the protocol itself.
	RSVPNeighbors() ([]RSVPNeighborRow, error)
	RSVPSenders() ([]RSVPSenderRow, error)
	RSVPReservations() ([]RSVPReservationRow, error)
	RSVPInterfaces() ([]RSVPInterfaceRow, error)
	// Reservations lists what was reserved by hand, and Reservation finds one by
	// its id. The errors of these and of the next two are *Error with the HTTP
	// status, or faults of the daemon.
	Reservations() ([]ReservationRow, error)
	Reservation(id string) (ReservationRow, error)
	// Reserve begins a reservation: what becomes of it is told by its row.
	Reserve(ctx context.Context, r ReservationRequest) (ReservationRow, error)
	// Release ends it and returns what it was.
	Release(ctx context.Context, id string) (ReservationRow, error)
	// Trace asks the boxes on a session's way. Its errors are *Error with the HTTP
	// status, or faults of the daemon.
	Trace(ctx context.Context, q TraceQuery) (Trace, error)
	// Reduce takes bandwidth away from a reservation in place. Its errors are *Error
	// with the HTTP status, or faults of the daemon.
	Reduce(ctx context.Context, r ReductionRequest) (Reduction, error)
	// Accounting lists the records of reservations: ended ones in the order of their
	// ends, then those that run. AccountingRead strikes out the ended ones up to a
	// serial number. AccountingUsers lists the users.
	Accounting() []AccountingRow
	AccountingUsers() []AccountingSum
	AccountingRead(through uint64) AccountingStruck
	// Events is where changes of sessions and reservations are told.
	Events() *Hub
	// Reload reads the config file again. After an error the old config is
	// still in use.
	Reload(ctx context.Context) error
	// Healthy returns nil while packets are handled as they should be.
	Healthy() error
}

// Bounds of the server, so that no client can make it grow.
const (
	maxConns        = 64
	maxHeader       = 16 << 10
	headerTimeout   = 5 * time.Second
	idleTimeout     = 60 * time.Second
	shutdownTimeout = 3 * time.Second
)

// Server answers the API.
type Server struct {
	backend Backend
	metrics http.Handler
	onError func(error)
}

// New returns a server. metrics answers GET /metrics, nil where there is none;
// onError is told of what no client can be told, nil to ignore it.
func New(b Backend, metrics http.Handler, onError func(error)) *Server {
	if onError == nil {
		onError = func(error) {}
	}
	return &Server{backend: b, metrics: metrics, onError: onError}
}

// Serve answers on l until ctx ends, then lets running requests finish for a
// short time. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(errorWriter{s.onError}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(netutil.LimitListener(l, maxConns)) }()
	select {
	case err := <-done:
		return fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("control socket: requests were cut off: %w", err), srv.Close())
	}
	if e := <-done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// errorWriter takes net/http's own messages.
type errorWriter struct{ tell func(error) }

func (w errorWriter) Write(p []byte) (int, error) {
	w.tell(errors.New(string(p)))
	return len(p), nil
}

func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		// Mostly a client that went away; it cannot be told any more.
		s.onError(fmt.Errorf("control socket: answer not sent: %w", err))
	}
}

// discardBody reads what a client sent with a request that takes no body.
func discardBody(r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, maxHeader) // the answer does not depend on it
}
