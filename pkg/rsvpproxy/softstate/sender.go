package softstate

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Sender is a data flow whose sender this node is to speak for.
type Sender struct {
	Session wire.Session
	Filter  wire.Filter
	TSpec   intserv.TSpec
	In      IfIndex // where the sender's packets come in; 0: not known
	// Priority goes along in POLICY_DATA (RFC 3181); nil: nothing is said.
	Priority *Priority
	// TTL is what PATH leaves with, 0: [Config.TTL]. To a group it goes as far as
	// the data, whose scope it may bound (RFC 1112 section 6.1).
	TTL uint8
}

// Reasons why a sender cannot be proxied, for errors.Is.
var (
	ErrUnsupported  = errors.New("not in this version")
	ErrPorts        = errors.New("ports conflict with those of another session (RFC 2205 section 3.2)")
	ErrTooMany      = errors.New("too many sessions or senders")
	ErrSpeaksRSVP   = errors.New("the sender, or a node nearer to it, speaks RSVP itself")
	ErrInvalid      = errors.New("invalid sender")
	errPortMismatch = errors.New("source port without destination port")
)

// AddSender begins to speak for a sender, or changes its TSpec. PATH goes out
// at once if there is a route; if there is none, as soon as there is one. A
// sender that speaks RSVP itself is refused ([ErrSpeaksRSVP]) and remembered:
// when its PATH ends, by PathTear or for want of refresh, we speak without a
// gap, until [Node.RemoveSender].
func (n *Node) AddSender(now time.Time, s Sender) ([]Effect, error) {
	n.now = now
	if err := n.declare(now, s, false); err != nil {
		return nil, err
	}
	return n.flush(), nil
}

// declare is AddSender for the owner of n, and for the PATH of the other
// direction.
func (n *Node) declare(now time.Time, s Sender, triggered bool) error {
	if s.Session.Dst.IsValid() && !n.supports(s.Session.Dst, s.Filter.Src, s.In) {
		return fmt.Errorf("session %v: address family or multicast: %w", s.Session, ErrUnsupported)
	}
	if err := s.check(); err != nil {
		return err
	}
	p := n.lookup(s.Session, s.Filter)
	tspec := s.TSpec.Wire()
	if p != nil && !p.local {
		p.own = &declared{tspec: tspec, in: s.In, ttl: s.TTL, priority: s.Priority, owned: true}
		return fmt.Errorf("%v: %w", s.Filter, ErrSpeaksRSVP)
	}
	changed := p == nil || p.tspec != tspec || p.in != s.In || p.own == nil || p.own.ttl != s.TTL || !samePriority(p.own.priority, s.Priority)
	if p == nil {
		var refusal *Refusal
		if p, refusal = n.newPSB(now, s.Session, s.Filter, s.In); refusal != nil {
			if refusal.Code == wire.ErrRSVPSystem {
				return ErrTooMany
			}
			return fmt.Errorf("%v: %w", s.Session, ErrPorts)
		}
		p.local = true
	}
	if p.own == nil {
		p.own = &declared{}
	}
	if triggered {
		p.own.triggered = now
	} else {
		p.own.owned = true
	}
	if !changed {
		return nil
	}
	p.own.tspec, p.own.in, p.own.ttl, p.own.priority = tspec, s.In, s.TTL, s.Priority
	p.tspec, p.in, p.ttl, p.policy = tspec, s.In, s.TTL, s.Priority.PolicyData()
	p.retryAt = time.Time{}
	n.recount(p)
	n.reroute(p)
	n.forwardPath(now, p)
	n.answer(now, p)
	p.reservations(func(t *tcsb) { n.updateTC(now, t, false) })
	n.touch(p)
	return nil
}

// supports says whether sessions with dst can be dealt with here.
func (n *Node) supports(dst, src netip.Addr, in IfIndex) bool {
	if !n.family(dst) {
		return false
	}
	if dst.IsMulticast() {
		_, ok := n.env.Routes(dst, src, in)
		return ok
	}
	return true
}

func (s *Sender) check() error {
	switch {
	case !s.Session.Dst.IsValid() || !s.Filter.Src.IsValid() || s.Session.Dst.Is4() != s.Filter.Src.Is4() || s.Filter.Src.IsMulticast():
		return fmt.Errorf("session %v sender %v: address: %w", s.Session, s.Filter, ErrInvalid)
	case !s.Session.Takes(s.Filter.Format) || s.Filter.Format == wire.FormatFlowLabel && s.Filter.Label == 0:
		return fmt.Errorf("session %v sender %v: conflicting C-Type (RFC 2207 section 4.1): %w", s.Session, s.Filter, ErrInvalid)
	case s.Session.Format == wire.FormatGPI && (s.Session.Protocol != wire.ProtoESP && s.Session.Protocol != wire.ProtoAH || s.Session.DstPort == 0):
		return fmt.Errorf("session %v: no IPsec protocol, or no virtual port (RFC 2207 section 4.1): %w", s.Session, ErrInvalid)
	case s.Session.Dst.IsUnspecified() || s.Filter.Src.IsUnspecified() || s.Session.Protocol == 0 && s.Session.Format < wire.FormatAggregate:
		return fmt.Errorf("session %v sender %v: zero address or protocol: %w", s.Session, s.Filter, ErrInvalid)
	case s.Session.Format == wire.FormatPorts && s.Session.DstPort == 0 && s.Filter.SrcPort != 0:
		return fmt.Errorf("session %v sender %v: %w: %w", s.Session, s.Filter, errPortMismatch, ErrPorts)
	}
	if err := s.TSpec.Validate(); err != nil {
		return fmt.Errorf("session %v: tspec: %w", s.Session, errors.Join(ErrInvalid, err))
	}
	return nil
}

// RemoveSender stops to speak for a sender: PathTear downstream, and the
// reservation is released. It does nothing for a sender that is not ours.
func (n *Node) RemoveSender(now time.Time, id wire.Session, f wire.Filter) []Effect {
	n.now = now
	if p := n.lookup(id, f); p != nil && p.own != nil {
		n.disown(now, p)
	}
	return n.flush()
}

// RouteChanged tells that the way to destinations in dst may have changed. After
// the time W for routing to settle, PATH takes the new one (RFC 2205 section 3.6).
func (n *Node) RouteChanged(now time.Time, dst netip.Prefix) {
	at := now.Add(n.cfg.Repair)
	for id, s := range n.sessions {
		if !dst.Contains(id.Dst) {
			continue
		}
		for _, p := range s.psbs {
			if p.refresh.Armed() && p.refresh.At().After(at) {
				n.timers.Set(&p.refresh, at)
			}
		}
	}
}

// Shutdown tears everything down for a clean stop: PathTear downstream,
// ResvTear upstream, every reservation released.
func (n *Node) Shutdown(now time.Time) []Effect {
	n.now = now
	for _, v := range n.Sessions(now) { // in an order that can be repeated
		p := n.lookup(v.Session, v.Sender)
		if p == nil {
			continue // went with the PATH of the other direction
		}
		for _, t := range p.s.sorted() {
			n.deleteTCSB(t)
			n.resvChanged(now, t, nil)
		}
		n.teardown(now, p, nil)
	}
	return n.flush()
}
