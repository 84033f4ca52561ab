package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// EventKind is what happened to a flow.
type EventKind uint8

// The events.
const (
	EventStarted   EventKind = iota // the reservation is being used
	EventLeftAlone                  // passes untouched from now on
	EventDraining                   // nothing new is taken in hand
	EventDrained                    // given back to its ends
	EventReset                      // ended by a reset
	EventEnded                      // ended
	EventReplaced                   // a new connection uses the ports; it is followed instead
)

// String is the event's name.
func (k EventKind) String() string {
	switch k {
	case EventStarted:
		return "started"
	case EventLeftAlone:
		return "left-alone"
	case EventDraining:
		return "draining"
	case EventDrained:
		return "drained"
	case EventReset:
		return "reset"
	case EventEnded:
		return "ended"
	case EventReplaced:
		return "replaced"
	}
	return "?"
}

// Event tells of a change in a flow's life. Final is its state at that moment.
type Event struct {
	Key    packet.FlowKey // direction of the data
	Kind   EventKind
	Reason string
	Final  Stats
	// Fins are those that were seen: the source's and the receiver's.
	Fins [2]bool
	// Recalled: the connection was an earlier process's. Healed: its receiver has got
	// what that one had promised.
	Recalled, Healed bool
}

// maxEvents bounds what waits for a shell that does not take it.
const maxEvents = 64 << 10

func (e *Engine) event(c *conn, kind EventKind, why string) {
	if len(e.events) < maxEvents {
		e.events = append(e.events, Event{
			Key: c.key, Kind: kind, Reason: why, Final: c.snapshot(), Fins: [2]bool{c.src.finSeen, c.rcv.finSeen},
			Recalled: c.recall != nil, Healed: c.recall != nil && c.recall.healed,
		})
	}
}

// TakeEvents gives the events since the last call. They are valid until the
// call after the next one.
func (e *Engine) TakeEvents() []Event {
	got := e.events
	e.events, e.spare = e.spare[:0], got
	return got
}
