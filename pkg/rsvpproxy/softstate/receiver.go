package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// answer is the receiver proxy (RFC 5946 section 3): where PATH ends, policy is
// asked, and if it says so this node behaves as if a RESV had arrived on the
// downstream interface.
func (n *Node) answer(now time.Time, p *psb) {
	if !p.end || len(p.outs) == 0 {
		return
	}
	out := p.outs[0]
	ad := n.advertise(p, out)
	spec, yes := n.env.ReceiverProxy(PathInfo{
		Session: p.s.id, Sender: p.sender, TSpec: p.tspec, AdSpec: ad, In: p.in, Out: out,
	})
	if !yes {
		n.unproxy(p)
		// Nobody behind us can answer, and policy forbids that we do.
		n.proxyFailed(now, p, &Refusal{Code: wire.ErrPolicy, Text: "no policy answers for the receiver"}, 0)
		return
	}
	p.proxied = true
	if refusal := n.suits(spec, ad); refusal != nil {
		n.proxyFailed(now, p, refusal, 0)
		return
	}
	flow := spec.FlowSpec.Wire()
	flow.TSpec.MaxPacket = n.fitPacket(flow.TSpec.MaxPacket, ad, flow.Service, out)

	t := n.needTCSB(p.s, tcKey{out, p.sender})
	r := t.find(wire.Hop{LIH: uint32(out)})
	if waiting := now.Before(p.retryAt); r == nil && !waiting {
		r = n.addRSB(t, wire.Hop{LIH: uint32(out)})
		r.next = &flow
	} else if waiting && (r == nil || r.wanted() != flow) {
		n.dropEmpty(t)
		return
	}
	if spec.Confirm && !p.confirmed && !p.local {
		p.confirm = n.env.Addr(p.in)
	}
	if r.wanted() != flow {
		r.next = &flow
	}
	n.updateTC(now, t, true)
	n.settled(p, false)
}

// suits refuses what the path does not offer: the absence of a service's ADSPEC
// fragment means that it must not be asked for (RFC 2210 section 3.3).
func (n *Node) suits(spec ReserveSpec, ad *intserv.AdSpec) *Refusal {
	switch {
	case spec.Style != 0 && spec.Style != wire.FF:
		return &Refusal{Code: wire.ErrUnknownStyle}
	case ad != nil && spec.FlowSpec.Service == intserv.Guaranteed && ad.Guaranteed == nil,
		ad != nil && spec.FlowSpec.Service == intserv.ControlledLoad && ad.ControlledLoad == nil:
		return &Refusal{
			Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported,
			Text: "the path does not offer " + spec.FlowSpec.Service.String(),
		}
	}
	if err := spec.FlowSpec.Validate(); err != nil {
		return &Refusal{Code: wire.ErrTrafficControl, Value: wire.TCBadFlowSpec, Text: err.Error()}
	}
	return nil
}

// fitPacket bounds M by the path's MTU, as the receiver has to (RFC 2210
// section 2.3.2).
func (n *Node) fitPacket(m uint32, ad *intserv.AdSpec, s intserv.Service, out IfIndex) uint32 {
	mtu := n.env.Hop(out).MTU
	if ad != nil {
		if p, _ := ad.For(s); p.Set&intserv.ParamMTU != 0 && p.MTU != 0 {
			mtu = p.MTU
		}
	}
	if mtu == 0 || m != 0 && m <= mtu {
		return m
	}
	return mtu
}

// unproxy takes the receiver proxy's own request back.
func (n *Node) unproxy(p *psb) {
	if !p.proxied {
		return
	}
	p.proxied = false
	p.reservations(n.deleteTCSB) // nobody but us asks where PATH ends
	n.resvGone(p, nil)
}

// proxyFailed tells the sender that the receiver proxy cannot reserve. The
// error goes unchanged for codes 1 and 2 and within code 36 for all others
// (RFC 5946 section 3.1.2).
func (n *Node) proxyFailed(now time.Time, p *psb, r *Refusal, flags uint8) {
	p.retryAt = now.Add(n.cfg.Refresh / 2)
	n.refuseSender(p, proxyRefusal(r), flags&wire.InPlace)
	p.failure = &Failure{Code: r.Code, Value: r.Value, Text: r.Text, Flags: flags}
	n.timers.stop(&p.failureTime)
	n.touch(p)
}

func proxyRefusal(r *Refusal) *Refusal {
	if r.Code == wire.ErrAdmission || r.Code == wire.ErrPolicy {
		return r
	}
	return &Refusal{Code: wire.ErrReceiverProxy, Value: 1<<8 | uint16(r.Code), Text: r.Text}
}
