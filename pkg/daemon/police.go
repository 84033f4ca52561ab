package daemon

import (
	"math"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// innerBurst is what queues on the way may have made of conforming traffic before
// it comes here, as time at its rate.
const innerBurst = 0.02 // s

// policingPoint tells whether this is where RFC 2205 section 3.8 wants traffic to
// be policed: where it enters the network, where the traffic of several senders
// meets, and where more comes than goes on. What comes from an interface on the
// hosts' side enters here, whatever those hosts say of themselves.
//
// Elsewhere controlled load is compared with its TSpec nevertheless, since no
// node may rely on another having done so (RFC 2211 section 7). But what exceeds
// there was made by the network and not by the sender: it is never dropped, and
// see tolerate.
func (t *trafficControl) policingPoint(r softstate.Reserve) bool {
	if p := r.Police; p.Entry || p.Merge || p.Branch {
		return true
	}
	in := t.links().byIndex[int(r.In)]
	return in != nil && in.cfg.Zone == config.ZoneHosts
}

// tolerate takes bursts somewhat larger than the TSpec, as is due inside the
// network (RFC 2211 section 7). The peak rate is no part of what conforms there.
func tolerate(t *plan.Treatment) {
	t.Bucket = min(t.Bucket+t.Rate*innerBurst, plan.MaxBucket)
	t.Peak = math.Inf(1)
}

// groupOf names what the senders of a shared reservation have in common on an
// interface. There is one such reservation for a session, so its name finds it
// again after a crash.
func groupOf(r softstate.Reserve) packet.FlowKey {
	if r.Style == wire.FF || r.Style == 0 {
		return packet.FlowKey{}
	}
	dst := netip.AddrPortFrom(r.Session.Dst, r.Session.DstPort)
	key := packet.MakeKey(r.Session.Protocol, netip.AddrPortFrom(dst.Addr(), 0), dst)
	key.Src = [16]byte{}
	return key
}

// styleOf is the style that a policy asks for.
func styleOf(s config.Style) (style wire.Style, auto bool) {
	switch s {
	case config.StyleWF:
		return wire.WF, false
	case config.StyleSE:
		return wire.SE, false
	case config.StyleFF:
		return wire.FF, false
	case config.StyleAuto:
	}
	return wire.FF, true
}
