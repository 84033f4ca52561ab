package daemon

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/nfq"
)

// capturer takes RSVP messages.
type capturer interface {
	Capture(now time.Time, pkt []byte, iface int) (consumed bool)
}

// controlHandler answers the queue of RSVP messages. What the protocol takes is
// dropped here: a router forwards such a message itself, changed.
type controlHandler struct {
	noTimers
	rsvp capturer
}

// Handle gives the packet to the protocol.
func (h *controlHandler) Handle(now time.Time, p *nfq.Packet) nfq.Verdict {
	if h.rsvp.Capture(now, p.Data, p.InIndex) {
		return nfq.Drop
	}
	return nfq.Accept
}
