package diag

import (
	"math"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const maxByte = math.MaxUint8 // of RSVP-hop-count and R-pointer

// visit is a request at this node.
type visit struct {
	*Node
	d     *wire.Diag
	found softstate.Inspection
	path  bool // there is path state: found is set
	resp  wire.DiagResponse
	last  bool // the request is not to be forwarded (step 8)
}

// request is what happens to a DREQ (RFC 2745 section 4.1).
func (n *Node) request(now time.Time, rx *Received) []Send {
	d := rx.Msg
	fresh := !d.Started()
	if fresh && !n.lastHop(d) {
		return n.pass(rx)
	}
	if !fresh && !n.net.Local(rx.Dst) {
		n.count.Stray++
		return nil
	}
	if fresh && d.Route != nil {
		// What is in it before the first node is nobody's way back.
		d.Route = wire.NewRoute(!d.Session.Dst.Is4())
	}
	v := visit{Node: n, d: d}
	v.inspect(now, rx, fresh)
	var out []Send
	if v.tooBig() {
		v.resp.Error |= wire.DiagTooBig
		var ok bool
		if out, ok = v.fragment(); !ok {
			return nil
		}
		if v.tooBig() && d.Route != nil { // SD4
			v.cutRoute()
		}
	}
	if !v.last {
		return append(out, v.forward()...)
	}
	d.Responses = append(d.Responses, v.resp) // step 10
	d.Type = wire.DiagReply
	return append(out, n.answer(d)...)
}

// lastHop says whether the request starts here: at our address, or at that of a
// host for which we are the last hop, since it does not speak RSVP.
func (n *Node) lastHop(d *wire.Diag) bool {
	a := d.Diagnostic.LastHop
	if n.net.Local(a) {
		return true
	}
	out, local, ok := n.net.Route(a)
	return ok && (local || n.addr(out, a).IsValid() && !n.net.Aware(a, out))
}

// pass hands a request on that has not reached its LAST-HOP. Nothing of it is
// changed, so that D-TTL there counts the hops from the requester; but INTEGRITY,
// which is from hop to hop (RFC 2747 section 1), is the next hop's.
func (n *Node) pass(rx *Received) []Send {
	dst := rx.Msg.Diagnostic.LastHop
	out, _, ok := n.net.Route(dst)
	switch {
	case rx.TTL <= 1:
		n.count.Expired++
		return nil
	case !ok:
		n.count.Unreachable++
		return nil
	case out == rx.Iface:
		// A router would send an ICMP redirect as well; here it is a loop or a
		// host's mistake.
		n.count.Stray++
		return nil
	}
	n.count.Passed++
	s := Send{Out: out, Src: rx.Src, Dst: dst, TTL: rx.TTL - 1, Raw: rx.Raw}
	if rx.Msg.Integrity != nil {
		s.Raw, s.Msg = nil, rx.Msg
		s.Msg.Integrity = nil
	}
	return []Send{s}
}

// inspect are steps 1 to 6: the new DIAG_RESPONSE.
func (v *visit) inspect(now time.Time, rx *Received, fresh bool) {
	d, g, like := v.d, &v.d.Diagnostic, v.d.Session.Dst
	out := softstate.IfIndex(d.Hop.LIH)
	if fresh {
		out = 0 // the interface towards the receivers
	} else if v.addr(out, like).IsUnspecified() {
		out = rx.Iface // a logical interface that is none of ours
	}
	v.found, v.path = v.state.Inspect(d.Session, g.Sender, out)
	switch {
	case out != 0:
	case len(v.found.Outs) > 0:
		out = v.found.Outs[0]
	case !like.IsMulticast():
		out, _, _ = v.net.Route(like)
	}
	zero := v.addr(0, like)
	v.resp = wire.DiagResponse{
		TTL: d.SendTTL - rx.TTL, Arrival: wire.NTP32(now), In: zero, Out: v.addr(out, like), Previous: zero,
	}
	if rx.TTL > d.SendTTL {
		v.resp.TTL = maxByte // a lie about the TTL: as far as can be
	}
	exhausted := g.Hops == maxByte
	if !exhausted {
		g.Hops++
	}
	if !v.path {
		v.count.NoPath++
		v.resp.Error, v.last = wire.DiagNoPath, true
		return
	}
	in := v.found.In
	v.resp.In, v.resp.Merged = v.addr(in, like), v.found.Merged
	if hop := v.found.PrevHop.Addr; hop.IsValid() && hop.Is4() == like.Is4() {
		v.resp.In = v.addr(in, hop)
	}
	v.resp.K = uint8(min(max(v.found.K, 0), 15))
	v.resp.Timer = uint16(min(max(v.found.Refresh.Round(time.Second)/time.Second, 1), math.MaxUint16))
	if hop := v.found.PrevHop.Addr; hop.IsValid() {
		v.resp.Previous = hop
	}
	v.resp.Objects = v.found.Report.Objects(d.Select)
	seen := v.seen()
	if exhausted || seen {
		v.count.Loops++
	}
	v.last = exhausted || seen || !v.found.PrevHop.Addr.IsValid() || g.MaxHops != 0 && g.Hops >= g.MaxHops
	if mtu := v.net.MTU(in); !v.last && mtu > 0 && mtu < int(g.PathMTU) {
		g.PathMTU = uint16(mtu)
	}
}

// seen says whether the request has been here before: the previous hops of
// stale path state may point at each other. The reply shows it.
func (v *visit) seen() bool {
	return slices.ContainsFunc(v.d.Responses, func(r wire.DiagResponse) bool {
		return r.In == v.resp.In && r.Out == v.resp.Out && r.Previous == v.resp.Previous
	})
}

// overhead are the headers in front of a message. The Path MTU is that of IP
// packets, and the reply may have to travel in UDP.
func overhead(d *wire.Diag) int {
	if d.Session.Dst.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// tooBig is step 7.
func (v *visit) tooBig() bool {
	size := overhead(v.d) + v.d.Length() + v.resp.Length()
	if v.d.Route != nil && v.resp.Error&^wire.DiagTooBig == 0 {
		size += v.d.Session.Dst.BitLen() / 8
	}
	return size > int(v.d.Diagnostic.PathMTU)
}

// fragment are steps SD1 and SD2: what was collected so far goes back. Of
// nothing no fragment is made: it would tell the requester nothing.
// ok is false when the reply has become longer than Fragment Offset can tell.
func (v *visit) fragment() (out []Send, ok bool) {
	d := v.d
	n := d.ResponseBytes()
	switch {
	case n == 0:
		return nil, true
	case int(d.Diagnostic.FragmentOffset)+n > math.MaxUint16:
		v.count.Expired++
		return nil, false
	}
	part := *d
	part.Type, part.Diagnostic.More = wire.DiagReply, true
	if part.Route != nil {
		route := *part.Route
		part.Route = &route
	}
	d.Responses = nil
	d.Diagnostic.FragmentOffset += uint16(n)
	return v.answer(&part), true
}

func (v *visit) cutRoute() {
	v.d.Route = wire.NewRoute(!v.d.Session.Dst.Is4())
	v.resp.Error |= wire.DiagRouteTooLong
	v.count.RouteTooLong++
}

// forward is step 9.
func (v *visit) forward() []Send {
	d, in, hop := v.d, v.found.In, v.found.PrevHop
	own := v.addr(in, hop.Addr)
	if d.Route != nil && len(d.Route.Nodes) >= maxByte {
		v.cutRoute()
	}
	if d.Route != nil && !own.IsUnspecified() {
		d.Route.Nodes = append(d.Route.Nodes, own)
		d.Route.Pointer = uint8(len(d.Route.Nodes))
	}
	d.Hop = wire.Hop{Addr: own, LIH: hop.LIH}
	d.Responses = append(d.Responses, v.resp)
	return v.raw(in, hop.Addr, d)
}
