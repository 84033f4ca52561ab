package daemon

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// idleStopped is idleUDP and idleTCP for a flow whose host has just ended its
// own RSVP: as a rule the flow ends too, and nobody is to speak for it then.
const idleStopped = 10 * time.Second

// told notes in a flow's row what RSVP says of its session.
func (t *flowTable) told(now time.Time, key packet.FlowKey, e softstate.Event) {
	t.update(key, func(_ *conn, f *flow) {
		f.speaker(now, e)
		if f.state != stateWatched {
			return
		}
		switch {
		case e.Failure != nil:
			f.reason = "no reservation: " + e.Failure.String()
		case e.Gone:
			f.reason = "the reservation has ended"
		case e.State == softstate.Inactive:
			f.reason = "there is no route to send PATH"
		}
	})
}

// speaker follows who speaks for the flow's sender (RFC 5945 section 2.2).
func (f *flow) speaker(now time.Time, e softstate.Event) {
	if f.role != roleSender || e.Gone {
		return
	}
	itself := e.Role == softstate.Transit || e.Role == softstate.ReceiverProxy
	switch {
	case itself && !f.itself:
		f.stopped = time.Time{}
		if f.state == stateWatched {
			f.state, f.reason = stateLeftAlone, reasonItself
		}
	case !itself && f.itself:
		f.stopped = now
		if f.state == stateLeftAlone {
			f.state, f.reason = stateWatched, "PATH is sent since the sender has stopped to, waiting for RESV"
		}
	}
	f.itself = itself
}

const reasonItself = "the sender speaks RSVP itself"

// idle is how long the connection may be without packets; last is when the
// latest came.
func (c *conn) idle(last time.Time) time.Duration {
	limit := idleUDP
	if c.dirs[0].key.Proto == packet.ProtoTCP {
		limit = idleTCP
	}
	for i := range c.dirs {
		f := &c.dirs[i]
		switch {
		case f.stopped.IsZero():
		case last.Sub(f.stopped) > idleStopped: // it has gone on
			f.stopped = time.Time{}
		default:
			limit = min(limit, idleStopped)
		}
	}
	return limit
}
