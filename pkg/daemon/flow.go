package daemon

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// flowState is the word that `flows` shows.
type flowState string

// The states of a flow: the words are the contract's.
const (
	stateWatched   flowState = "watched"    // claimed by a policy; the reservation is not in place
	stateManaged   flowState = "managed"    // treated by the kernel
	stateCheated   flowState = "cheated"    // managed, and its TCP source is spoken to by the box
	stateLeftAlone flowState = "left-alone" // passes untouched; the reason says why
)

// role is the host for which the box speaks.
type role uint8

const (
	roleNone role = iota
	roleSender
	roleReceiver
)

// flow is one direction of a flow: its packets go from key.Src to key.Dst.
type flow struct {
	key     packet.FlowKey
	present bool // a packet was seen, or the other direction implies it
	policy  *config.Policy
	state   flowState
	reason  string
	caveat  string // why a reserved flow is not cheated, if it should be; follows the reason
	role    role
	in, out int   // interfaces of this direction's packets, by index
	ttl     uint8 // of the first packet, on its way out

	treated bool         // the kernel counts it (and treats it, if managed)
	class   plan.ClassID // HTB class; 0: none
	dscp    uint8
	marked  bool
	rate    float64 // reserved, bytes/s of IP packets; 0: no reservation

	astray  bool      // claimed before one of its interfaces was known, see flowTable.found
	itself  bool      // its sender speaks RSVP itself; we go on when it stops
	stopped time.Time // when it stopped to; zero: never, or the flow has gone on since

	renewed  time.Time // it was settled anew, for it is busy
	fin      bool      // of a connection that is not cheated: its end was seen
	asked    time.Time // first packet of a flow that wants a reservation
	reserved time.Time // zero: not in place

	counts counts
	last   *tcpcheat.Stats // of an engine that has let it alone; nil: none has
}

// counts are the kernel's counters of a flow, and the rate between two looks.
type counts struct {
	packets, bytes   uint64
	conform          uint64 // packets, like the next two
	exceed, dropped  uint64
	at               time.Time
	bitsPerSecond    float64
	lastMove         time.Time // when the packet counter last moved
	lastMoveRecorded bool
}

// update notes a new reading of the kernel's counters.
func (c *counts) update(now time.Time, packets, bytes, conform, exceed, dropped uint64) {
	if dt := now.Sub(c.at).Seconds(); !c.at.IsZero() && dt > 0 && bytes >= c.bytes {
		c.bitsPerSecond = float64(bytes-c.bytes) * 8 / dt
	}
	if packets != c.packets || !c.lastMoveRecorded {
		c.lastMove, c.lastMoveRecorded = now, true
	}
	c.packets, c.bytes, c.conform, c.exceed, c.dropped, c.at = packets, bytes, conform, exceed, dropped, now
}

// conn is the two directions of a flow.
type conn struct {
	id     uint64
	dirs   [2]flow // the direction of the first packet, and the other
	seen   time.Time
	shard  int            // the cheat queue that has it; -1: none
	data   packet.FlowKey // of the direction whose data the queue's engine is for
	retire bool           // to be forgotten when its engine has given it back
	moving moving         // of a bridge's connection that has an engine
}

// held says whether a flow is kept though it has no packets. A reservation that
// others asked for lives as long as they refresh it. What was reserved by hand does
// not end with its packets, but a branch to a group that they have left does.
func (f *flow) held() bool {
	reserved := !f.reserved.IsZero()
	return reserved && f.role != roleSender || isByHand(f.policy) && (reserved || !toGroup(f.key))
}

// text is what `flows` shows as the reason.
func (f *flow) text() string { return f.reason + f.caveat }

// engine is the cheat queue whose engine is for the data of a direction; -1: none.
func (c *conn) engine(key packet.FlowKey) int {
	if c.data != key {
		return -1
	}
	return c.shard
}

// dir returns the direction that has key.
func (c *conn) dir(key packet.FlowKey) *flow {
	for i := range c.dirs {
		if c.dirs[i].key == key {
			return &c.dirs[i]
		}
	}
	return nil
}
