package daemon

import (
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// admissionPolicy is who may ask for what, as admission judges it.
func admissionPolicy(c *config.Config) admission.Policy {
	a := &c.Admission
	out := admission.Policy{Stay: !a.Preemption, Signed: a.Signed}
	for _, t := range a.Thresholds {
		out.Thresholds = append(out.Thresholds, admission.Threshold{Below: t.Below, Share: float64(t.Share) / 10000})
	}
	for _, u := range a.Users {
		out.Users = append(out.Users, admission.User{Name: u.Name, Names: u.Identities, From: u.From, Rate: float64(u.Rate)})
	}
	for i := range a.Rules {
		r := &a.Rules[i]
		rule := admission.Rule{
			Name: r.Name, From: r.From, To: r.To, Protocol: r.Protocol, In: r.In, Out: r.Out, Users: r.Users, Applications: r.Applications,
			Refuse: r.Refuse, Rate: float64(r.Rate), Burst: float64(r.Burst), Bounded: r.Priority >= 0, Priority: uint16(max(r.Priority, 0)),
		}
		for _, s := range r.Services {
			rule.Services = append(rule.Services, serviceOf(s))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

// asker is who asks for a reservation. Those that our own policies and people at
// this box make are no exception.
func (t *trafficControl) asker(r *reservation) *admission.Asker {
	l, ask := t.links(), &r.ask
	out := &admission.Asker{Dst: ask.Session.Dst, Protocol: ask.Session.Protocol, In: l.name(int(ask.In)), Out: r.iface}
	var owners []string
	for _, f := range ask.Filters {
		out.Senders = append(out.Senders, f.Src)
		if h, ok := t.byHand(flowKey(ask.Session, f)); ok && h.Owner != "" && !slices.Contains(owners, h.Owner) {
			owners = append(owners, h.Owner)
		}
	}
	// Of several owners who share it none has all the say: no user is named so.
	out.Owner = strings.Join(owners, " and ")
	for i := range ask.Identities {
		id := &ask.Identities[i]
		out.Identities = append(out.Identities, admission.Identity{App: id.App(), Names: id.Names, Signed: l.secured(int(id.From))})
	}
	// Receivers that ask for themselves are trusted with a priority as they are
	// with the marks of their packets.
	if k := l.byIndex[int(ask.Out)]; k != nil && k.cfg.Zone == config.ZoneHosts && k.cfg.Trust == config.TrustNone {
		out.Untrusted = ask.Role == softstate.Transit || ask.Role == softstate.SenderProxy
	}
	return out
}

// byHand returns the reservation by hand of a flow.
func (t *trafficControl) byHand(key packet.FlowKey) (handFlow, bool) {
	if t.flows.hand == nil {
		return handFlow{}, false
	}
	return t.flows.hand.get(key)
}

// refusalOf is what the machine is told of a decision.
func refusalOf(d *admission.Decision, ids []softstate.Identity) *softstate.Refusal {
	out := &softstate.Refusal{Code: wire.ErrorCode(d.Code), Value: d.Value, Text: d.Reason}
	if d.Denied == admission.NotDenied {
		return out
	}
	out.Denied = &softstate.Denial{}
	if d.Denied == admission.Unnamed {
		return out
	}
	if len(ids) > 0 {
		out.Denied.Who = ids[0].Said
	}
	out.Denied.Value = wire.AuthInsufficientPrivileges
	if d.Denied == admission.Unproved {
		out.Denied.Value = wire.AuthUnsupportedCredential
	}
	return out
}

// userOf is in whose account a reservation is counted too; "": in nobody's.
func (t *trafficControl) userOf(id uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.held[id]; r != nil {
		return r.user
	}
	return ""
}

// perUser is how many reservations each user has.
func (t *trafficControl) perUser() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for _, r := range t.held {
		if r.user != "" {
			out[r.user]++
		}
	}
	return out
}
