package rsvpproxy

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const (
	// complaintEvery is how often one kind of complaint about one neighbour is
	// logged. All of them are counted.
	complaintEvery = 10 * time.Second
	// maxObjects is how far into a message its RSVP_HOP is looked for: behind
	// INTEGRITY, the objects of RFC 2961 and SESSION.
	maxObjects = 8
	// hopClass is the class of RSVP_HOP (RFC 2205 Appendix A.2).
	hopClass = 3
)

// neighborOf is who sent a message: PATH and PathTear come with the data
// sender's address as their source, and name the neighbour in RSVP_HOP (RFC 2205
// section 3.1.3); all others come from the neighbour's own.
func neighborOf(iface int, src netip.Addr, msg []byte) fair.Key {
	k := fair.Key{Iface: iface, Addr: src}
	if t := wire.MsgType(msg[1]); t != wire.Path && t != wire.PathTear {
		return k
	}
	rest := msg[8:]
	for range maxObjects {
		if len(rest) < 4 {
			return k
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n < 4 || n > len(rest) {
			return k
		}
		if rest[2] == hopClass {
			body := rest[4:n]
			switch {
			case rest[3] == 1 && len(body) >= 4:
				k.Addr = netip.AddrFrom4([4]byte(body))
			case rest[3] == 2 && len(body) >= 16:
				k.Addr = netip.AddrFrom16([16]byte(body))
			}
			return k
		}
		rest = rest[n:]
	}
	return k
}

// handle gives a message to the machine, and notes who sent it: a neighbour
// that holds state here has a share of the message rate of its own.
func (p *Proxy) handle(c captured, rx softstate.Received) {
	if rx.Err == nil {
		p.heard(c.at, rx.Src, int(rx.Iface))
	}
	held, effects := p.aggregates.Incoming(c.at, &rx)
	p.aggregateEffects(effects)
	if held {
		return
	}
	consumed, out := p.tunnels.Incoming(c.at, &rx)
	p.tunnelEffects(out)
	if !consumed {
		p.machine(c, rx)
	}
}

func (p *Proxy) machine(c captured, rx softstate.Received) {
	effects := p.node.Handle(c.at, rx)
	switch why, dropped := p.node.Dropped(); {
	case rx.Err != nil:
		kind := "malformed"
		if e, ok := errors.AsType[*wire.Error](rx.Err); ok {
			kind = e.Kind.String()
		}
		p.complain(c, kind, rx.Err)
	case dropped:
		p.complain(c, why.String(), nil)
	case p.node.Neighbor(rx.Iface, c.from.Addr):
		p.share.Know(c.at, c.from)
		p.tally.know(&c, p.node.Neighbor)
	}
	p.perform(effects)
}

// complain logs a message that was not taken, not too often.
func (p *Proxy) complain(c captured, kind string, err error) {
	suppressed, ok := p.lines.Say(c.at, c.from, kind)
	if !ok {
		return
	}
	p.hooks.Log.Info("rsvp message refused", zap.String("kind", kind), zap.Stringer("from", c.from.Addr),
		zap.Stringer("source", c.src), zap.Int("interface", c.iface), zap.Uint64("suppressed", suppressed), zap.Error(err))
}
