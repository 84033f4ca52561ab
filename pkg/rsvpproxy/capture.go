package rsvpproxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
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
	hidden   bool     // protocol 134, and for us to take
	from     fair.Key // the neighbour
	message  []byte
	parsed   *wire.Message // by a transparent box, which had to know whether it is its
}

// CaptureCounters count what the queue of RSVP messages brought.
type CaptureCounters struct {
	Taken     uint64 // messages given to the protocol
	Passed    uint64 // addressed to others and none of the router's business
	Fragments uint64 // passed: a fragment is no message, and these were not put together to one of ours
	Malformed uint64 // IP packets that end too early; dropped
	Limited   uint64 // dropped: more than a neighbour's share of limits.rsvp_rate
	Strangers uint64 // dropped, or PATH that goes by a transparent box: more than the share of those who hold no state here
	Overflow  uint64 // dropped: the protocol did not keep up
	Intruders uint64 // dropped: of protocol 134, into an aggregation region from outside
	// Of what went by a transparent box: messages that it does not understand, and
	// messages that are signed.
	Foreign, Signed uint64
}

type captureCounters struct {
	taken, passed, fragments, malformed, limited, strangers, overflow, intruders, foreign, signed atomic.Uint64
}

// Capture takes an IP packet that carries RSVP. It tells whether the packet was
// consumed, and so must not be forwarded: what a router handles and forwards
// itself (RFC 2205 section 3.11.5). The bytes are copied; Capture never blocks.
func (p *Proxy) Capture(now time.Time, b []byte, iface int) (consumed bool) {
	v, err := packet.Parse(b)
	if err != nil {
		return p.broken()
	}
	if v.Fragment() {
		if p.gathers(v, iface) {
			if list, ok := p.unseen.gather(now, v, iface); ok {
				p.gathered(now, list)
				return true
			}
		}
		p.capture.fragments.Add(1)
		return false
	}
	return p.captureWhole(now, v, iface)
}

// broken is for a packet that ends too early. A hop drops it; a wire carries it on.
func (p *Proxy) broken() (consumed bool) {
	if p.unseen != nil {
		p.capture.foreign.Add(1)
		return false
	}
	p.capture.malformed.Add(1)
	return true
}

// captureWhole is Capture for a packet that is no fragment.
func (p *Proxy) captureWhole(now time.Time, v packet.View, iface int) (consumed bool) {
	hidden := v.Proto() == packet.ProtoRSVPE2E
	if v.Proto() != packet.ProtoRSVP && !hidden {
		p.capture.passed.Add(1)
		return false
	}
	msg := v.Transport()
	if len(msg) < 8 && !hidden {
		return p.broken()
	}
	alert := hasRouterAlert(v)
	var parsed *wire.Message
	if p.unseen != nil {
		if !hidden { // which is between the edges of a region
			parsed = p.takes(now, v, msg, iface)
		}
		if parsed == nil {
			p.capture.passed.Add(1)
			return false
		}
	} else if hidden {
		switch p.crossing(now, v, msg, iface) {
		case others:
			p.capture.passed.Add(1)
			return false
		case intruder:
			p.capture.intruders.Add(1)
			return true
		case ours:
			alert = alertLevel(v) == level
		}
	} else if !p.concernsUs(wire.MsgType(msg[1]), v.Dst(), iface, alert || wire.FreshRequest(msg)) {
		p.capture.passed.Add(1)
		return false
	}
	from := neighborOf(iface, v.Src(), msg)
	switch p.share.Allow(now, from) {
	case fair.Own:
	case fair.Borrowed:
		// What a neighbour borrows must not take the place of another's own.
		if len(p.in) >= cap(p.in)/2 {
			p.capture.overflow.Add(1)
			return true
		}
	case fair.Over:
		p.capture.limited.Add(1)
		return true
	case fair.Stranger:
		p.capture.strangers.Add(1)
		if parsed != nil && parsed.Type == wire.Path {
			// A box that nobody sees is then none for this session: it has no state of
			// that neighbour's, and the next hop that has room does without it.
			p.capture.passed.Add(1)
			return false
		}
		return true
	}
	c := captured{
		at: now, iface: iface, src: v.Src(), dst: v.Dst(), ttl: v.TTL(),
		alert: alert, hidden: hidden, from: from, message: append([]byte(nil), msg...), parsed: parsed,
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
// by every hop, the others only by the node that they are addressed to. What
// comes by an interface that is none of ours, or that has no address of the
// message's family, is left to others: this is a hop without RSVP then. A Srefresh with Router Alert is addressed to a session and meant for
// the next node that takes it (RFC 2961 section 5.2).
func (p *Proxy) concernsUs(t wire.MsgType, dst netip.Addr, iface int, alert bool) bool {
	i, ours := p.ifaces.Load().byIndex[iface]
	if !ours || dst.Is6() && (!p.cfg.Node.IPv6 || !i.Addr6.IsValid()) {
		return false
	}
	switch t {
	case wire.Path, wire.PathTear, wire.ResvConf:
		return true
	case wire.DiagRequest: // alert: it looks for the last hop in front of dst (RFC 2745 section 4.1)
		return alert || p.ifaces.Load().local[dst]
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
		Malformed: c.malformed.Load(), Limited: c.limited.Load(), Strangers: c.strangers.Load(), Overflow: c.overflow.Load(),
		Intruders: c.intruders.Load(), Foreign: c.foreign.Load(), Signed: c.signed.Load(),
	}
}
