package console

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Kinds of events.
const (
	EventSession     = "session"     // a SessionEvent
	EventReservation = "reservation" // a ReservationEvent
	EventLost        = "lost"        // a LostEvent
)

// SessionEvent tells that a row of sessions has changed.
type SessionEvent struct {
	At         string `json:"at"` // RFC 3339
	Dst        string `json:"dst"`
	Protocol   string `json:"protocol"`
	Dport      uint16 `json:"dport"`
	Src        string `json:"src"`
	Sport      uint16 `json:"sport"`
	Role       string `json:"role"`
	State      string `json:"state"`
	Previous   string `json:"previous"`  // state
	Gone       bool   `json:"gone"`      // the row is no more
	Interface  string `json:"interface"` // the data leaves by it
	Error      string `json:"error"`
	ErrorCode  uint8  `json:"error_code"`
	ErrorValue uint16 `json:"error_value"`
	ErrorNode  string `json:"error_node"`
	ErrorFlags
}

// ReservationEvent tells that a reservation by hand has changed.
type ReservationEvent struct {
	At         string `json:"at"`
	Change     string `json:"change"` // made, state, released, expired
	ID         string `json:"id"`
	Owner      string `json:"owner"`
	Protocol   string `json:"protocol"`
	Src        string `json:"src"`
	Sport      uint16 `json:"sport"`
	Dst        string `json:"dst"`
	Dport      uint16 `json:"dport"`
	State      string `json:"state"` // as of its session
	Error      string `json:"error"`
	ErrorCode  uint8  `json:"error_code"`
	ErrorValue uint16 `json:"error_value"`
	ErrorNode  string `json:"error_node"`
	ErrorFlags
}

// LostEvent tells a client that it was too slow.
type LostEvent struct {
	Lost uint64 `json:"lost"` // events that were not kept for it
}

// Bounds of a Hub: what one client may leave unread, and how many there may be.
const (
	eventBuffer  = 256
	eventClients = 16
)

// Hub hands events to the clients that follow them. It never waits for one:
// what a client has no room for is counted, and the client is told.
type Hub struct {
	mu      sync.Mutex
	last    uint64
	clients map[*follower]struct{}
	sent    atomic.Uint64
	lost    atomic.Uint64
	refused atomic.Uint64
}

// event is one for a client.
type event struct {
	id   uint64
	kind string
	data any
}

// follower is one client.
type follower struct {
	events chan event
	lost   atomic.Uint64
}

// NewHub returns a Hub that nobody follows.
func NewHub() *Hub { return &Hub{clients: map[*follower]struct{}{}} }

var errTooMany = errors.New("as many clients follow the events as may")

func (h *Hub) follow() (*follower, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= eventClients {
		h.refused.Add(1)
		return nil, errTooMany
	}
	f := &follower{events: make(chan event, eventBuffer)}
	h.clients[f] = struct{}{}
	return f, nil
}

func (h *Hub) leave(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, f)
}

// Publish tells all clients, and does not block.
func (h *Hub) Publish(kind string, data any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	for f := range h.clients {
		select {
		case f.events <- event{h.last, kind, data}:
			h.sent.Add(1)
		default:
			f.lost.Add(1)
			h.lost.Add(1)
		}
	}
}

// Stats returns the counters.
func (h *Hub) Stats() EventStats {
	h.mu.Lock()
	n := len(h.clients)
	h.mu.Unlock()
	return EventStats{Clients: n, Sent: h.sent.Load(), Lost: h.lost.Load(), Refused: h.refused.Load()}
}
