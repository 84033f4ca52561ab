package main

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
)

// handler gives the queue's packets to RSVP, as the daemon's does.
type handler struct{ proxy *rsvpproxy.Proxy }

// Handle gives one packet.
func (h *handler) Handle(now time.Time, p *nfq.Packet) nfq.Verdict {
	if h.proxy.Capture(now, p.Data, p.InIndex) {
		return nfq.Drop
	}
	return nfq.Accept
}

// NextDeadline tells that there are no timers.
func (*handler) NextDeadline() (time.Time, bool) { return time.Time{}, false }

// Advance has nothing to do.
func (*handler) Advance(time.Time) {}

// Wake has nothing to do.
func (*handler) Wake(time.Time) {}

// BatchEnd has nothing to do.
func (*handler) BatchEnd(time.Time) {}
