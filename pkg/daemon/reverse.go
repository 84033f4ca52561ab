package daemon

import (
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// reverse decides whether a PATH that comes from the network to a host behind
// this box has the box speak for that host as the sender of the other direction
// (RFC 5945 section 4.2): a policy whose role speaks for senders must claim the
// flow the other way round.
func (t *trafficControl) reverse(i softstate.PathInfo) (intserv.TSpec, bool) {
	l := t.links()
	in, out := l.byIndex[int(i.In)], l.byIndex[int(i.Out)]
	if in == nil || out == nil || in.cfg.Zone != config.ZoneNetwork || out.cfg.Zone != config.ZoneHosts {
		return intserv.TSpec{}, false
	}
	p := t.flows.policyOf(matchKey(i.Session, i.Sender).Reverse())
	if p == nil || isByHand(p) || p.Reserve == nil || !p.Reserve.HasSender() { // by hand it is asked for already
		return intserv.TSpec{}, false
	}
	return tspecOf(p.Reserve.TSpec), true
}
