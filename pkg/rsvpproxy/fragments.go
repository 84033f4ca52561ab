package rsvpproxy

import (
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/gather"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// This file is about RSVP messages in fragments on a bridge, where the kernel puts
// none together: a router's netfilter does. Fragments are held until they are a
// message, or until it is clear that they will be none. What is none, or none of ours,
// goes on in the pieces in which it came.

// gathers says whether a fragment is one to be held: RSVP that comes by a port that is
// known, and of which it is known where it goes, so that it can be sent on. Where a whole
// message would be flooded, or go by since its stations are on the same side, this does too.
func (p *Proxy) gathers(v packet.View, iface int) bool {
	if p.bridged() == nil || v.Proto() != packet.ProtoRSVP {
		return false
	}
	if _, ours := p.ifaces.Load().byIndex[iface]; !ours || v.Dst().IsMulticast() {
		return ours
	}
	_, ok := p.env.Onward(v.Dst(), v.Src(), softstate.IfIndex(iface))
	return ok
}

// gather takes a fragment; false: nothing is held any more.
func (u *unseen) gather(now time.Time, v packet.View, iface int) ([]gather.Train, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return nil, false
	}
	return u.parts.Add(now, v, iface), true
}

// endParts sends on what waits for its rest when the box ends. From then on nothing is
// held.
func (p *Proxy) endParts(now time.Time) {
	if p.bridged() == nil {
		return
	}
	p.unseen.mu.Lock()
	p.unseen.over = true
	list := p.unseen.parts.Due(now.Add(gather.DefaultWait)) // which is all of it
	p.unseen.mu.Unlock()
	p.gathered(now, list)
}

// late takes those whose rest has not come.
func (u *unseen) late(now time.Time) []gather.Train {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.parts.Due(now)
}

// gathered takes the messages that are whole, and sends on what is none of ours. It
// has the event loop look after those that are not whole yet.
func (p *Proxy) gathered(now time.Time, list []gather.Train) {
	for _, t := range list {
		if t.Whole != nil {
			if v, err := packet.Parse(t.Whole); err == nil && p.captureWhole(now, v, t.Port) {
				continue
			}
		}
		p.capture.fragments.Add(uint64(len(t.Pieces)))
		p.passOn(t)
	}
	p.poke()
}

// passOn sends fragments out of the port that they would have left by: of what is not
// known any more by which, of all others, as the bridge does.
func (p *Proxy) passOn(t gather.Train) {
	for _, raw := range t.Pieces {
		v, err := packet.Parse(raw)
		if err != nil {
			continue // cannot be: it was parsed when it came
		}
		outs := p.env.flooded(softstate.IfIndex(t.Port))
		if !v.Dst().IsMulticast() {
			if out, ok := p.env.Onward(v.Dst(), v.Src(), softstate.IfIndex(t.Port)); ok {
				outs = []softstate.IfIndex{out}
			}
		}
		for _, out := range outs {
			if err := p.hooks.Send.SendVia(raw, int(out)); err != nil {
				p.sends.errors.Add(1)
				p.hooks.Log.Warn("a fragment of others' rsvp is not sent on", zap.Stringer("from", v.Src()), zap.Stringer("to", v.Dst()), zap.Error(err))
			}
		}
		if len(outs) == 0 {
			p.sends.errors.Add(1)
		}
	}
}

// partsDeadline is when tickParts has to be called; false: never.
func (p *Proxy) partsDeadline() (time.Time, bool) {
	if p.bridged() == nil {
		return time.Time{}, false
	}
	p.unseen.mu.Lock()
	defer p.unseen.mu.Unlock()
	return p.unseen.parts.NextDeadline()
}

// tickParts sends on what has waited for its rest in vain.
func (p *Proxy) tickParts(now time.Time) {
	if p.bridged() != nil {
		if list := p.unseen.late(now); len(list) > 0 {
			p.gathered(now, list)
		}
	}
}
