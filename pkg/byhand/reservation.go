package byhand

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Side is the host for which the box speaks.
type Side string

// The sides.
const (
	Both     Side = "both" // whichever of the two is behind this box
	Sender   Side = "sender"
	Receiver Side = "receiver"
)

// Style is the reservation style that a receiver's side asks in.
type Style string

// The styles of RFC 2205 section 1.3.
const (
	Auto     Style = "auto"
	Fixed    Style = "ff"
	Explicit Style = "se"
	Wildcard Style = "wf"
)

// TCP is what is done for the connection of a TCP flow beside its reservation.
type TCP string

// The modes.
const (
	TCPNone     TCP = "none"
	TCPRealtime TCP = "realtime"
	TCPReliable TCP = "reliable"
)

// Priority are the preemption priorities of RFC 3181: the higher number wins.
type Priority struct {
	Given bool   // else nothing is said of it
	Setup uint16 // of what asks to be admitted
	Hold  uint16 // of what is admitted; not below Setup
}

// Reservation is one entry of the book.
type Reservation struct {
	ID      uint64
	Flow    packet.FlowKey
	Side    Side
	Service intserv.Service
	TSpec   intserv.TSpec
	Delay   time.Duration // guaranteed service: queueing delay that must be kept; 0: not asked for
	Style   Style
	Marked  bool // DSCP is given; else the service's is used
	DSCP    uint8
	TCP     TCP
	Drop    bool  // what exceeds the TSpec is dropped; else it becomes best effort
	Excess  uint8 // with this DSCP
	Priority
	Owner, Comment string
	Made           time.Time
	Expires        time.Time // zero: when it is released
}

// Expired says whether the reservation is over.
func (r *Reservation) Expired(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}
