package rsvpproxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// captured is an RSVP message as it came from the queue, copied out of the
// worker's buffer.
type captured struct {
	at       time.Time
	iface    int
	src, dst netip.Addr
	ttl      uint8
	alert    bool
	message  []byte
}

// CaptureCounters count what the queue of RSVP messages brought.
type CaptureCounters struct {
	Taken     uint64 // messages given to the protocol
	Passed    uint64 // addressed to others and none of the router's business
	Fragments uint64 // passed: a fragment is no message
	Malformed uint64 // IP packets that end too early; dropped
	Limited   uint64 // dropped: more than limits.rsvp_rate
	Overflow  uint64 // dropped: the protocol did not keep up
}

type captureCounters struct {
	taken, passed, fragments, malformed, limited, overflow atomic.Uint64
}

// Capture takes an IP packet that carries RSVP. It tells whether the packet was
// consumed, and so must not be forwarded: what a router handles and forwards
// itself (RFC 2205 section 3.11.5). The bytes are copied; Capture never blocks.
func (p *Proxy) Capture(now time.Time, b []byte, iface int) (consumed bool) {
	v, err := packet.Parse(b)
	if err != nil {
		p.capture.malformed.Add(1)
		return true
	}
	if v.Fragment() {
		p.capture.fragments.Add(1)
		return false
	}
	if v.Proto() != packet.ProtoRSVP {
		p.capture.passed.Add(1)
		return false
	}
	msg := v.Transport()
	if len(msg) < 8 {
		p.capture.malformed.Add(1)
		return true
	}
	alert := hasRouterAlert(v)
	if !p.concernsUs(wire.MsgType(msg[1]), v.Dst(), iface, alert) {
		p.capture.passed.Add(1)
		return false
	}
	if !p.limiter.allow(now) {
		p.capture.limited.Add(1)
		return true
	}
	c := captured{
		at: now, iface: iface, src: v.Src(), dst: v.Dst(), ttl: v.TTL(),
		alert: alert, message: append([]byte(nil), msg...),
	}
	select {
	case p.in <- c:
		p.capture.taken.Add(1)
	default:
		p.capture.overflow.Add(1)
	}
	return true
}

// concernsUs is RFC 2209's first step: Path, PathTear and ResvConf are handled
// by every hop, the others only by the node that they are addressed to. RSVP
// for IPv6, and what comes by an interface that is none of ours, is left to
// others. A Srefresh with Router Alert is addressed to a session and meant for
// the next node that takes it (RFC 2961 section 5.2).
func (p *Proxy) concernsUs(t wire.MsgType, dst netip.Addr, iface int, alert bool) bool {
	if _, ours := p.ifaces.Load().byIndex[iface]; !ours || !dst.Is4() {
		return false
	}
	switch t {
	case wire.Path, wire.PathTear, wire.ResvConf:
		return true
	case wire.Srefresh:
		return p.layer != nil && alert || p.ifaces.Load().local[dst]
	default:
		return p.ifaces.Load().local[dst]
	}
}

// CaptureCounters reads the counters; safe from any goroutine.
func (p *Proxy) CaptureCounters() CaptureCounters {
	c := &p.capture
	return CaptureCounters{
		Taken: c.taken.Load(), Passed: c.passed.Load(), Fragments: c.fragments.Load(),
		Malformed: c.malformed.Load(), Limited: c.limited.Load(), Overflow: c.overflow.Load(),
	}
}

// limiter is a token bucket of messages: limits.rsvp_rate a second, and as many
// at once. It is used by the one worker that captures RSVP.
type limiter struct {
	rate   float64
	tokens float64
	last   time.Time
}

func (l *limiter) allow(now time.Time) bool {
	if l.rate <= 0 {
		return true
	}
	if l.last.IsZero() {
		l.tokens = l.rate
	} else {
		l.tokens = min(l.rate, l.tokens+now.Sub(l.last).Seconds()*l.rate)
	}
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
