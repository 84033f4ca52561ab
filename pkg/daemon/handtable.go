package daemon

import (
	"fmt"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// handTable has for each flow with a reservation by hand what a policy for that
// flow alone would be: it comes before the policies. Its lock is taken last.
type handTable struct {
	mu sync.RWMutex
	m  map[packet.FlowKey]*handFlow
}

type handFlow struct {
	byhand.Reservation
	policy *config.Policy
	// sender: PATH is asked for. The next two are about it.
	sender  bool
	problem string // why there is none
	lost    bool   // to be asked for again
}

func newHandTable() *handTable { return &handTable{m: map[packet.FlowKey]*handFlow{}} }

// policy returns what a flow's reservation by hand says; nil: it has none.
func (t *handTable) policy(key packet.FlowKey) *config.Policy {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if h := t.m[key]; h != nil {
		return h.policy
	}
	return nil
}

// get returns a copy.
func (t *handTable) get(key packet.FlowKey) (handFlow, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if h := t.m[key]; h != nil {
		return *h, true
	}
	return handFlow{}, false
}

func (t *handTable) put(r byhand.Reservation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[r.Flow] = &handFlow{Reservation: r, policy: handPolicy(&r)}
}

func (t *handTable) remove(key packet.FlowKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, key)
}

// update changes an entry under the lock; false if there is none.
func (t *handTable) update(key packet.FlowKey, change func(*handFlow)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.m[key]
	if h != nil {
		change(h)
	}
	return h != nil
}

// failing lists up to most flows whose sender is to be asked for again.
func (t *handTable) failing(most int) (keys []packet.FlowKey) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for key, h := range t.m {
		if len(keys) == most {
			break
		}
		if h.lost {
			keys = append(keys, key)
		}
	}
	return keys
}

// Names of the policies that reservations by hand stand for; those of the
// configuration have no colon.
func handName(id uint64) string { return fmt.Sprintf("by-hand:%d", id) }

func isByHand(p *config.Policy) bool { return p != nil && p.Line == 0 }

func excessOf(r *byhand.Reservation) config.Excess {
	if r.Drop {
		return config.ExcessDrop
	}
	return config.Excess(r.Excess)
}

// handPolicy is what a policy for a reservation's flow would say.
func handPolicy(r *byhand.Reservation) *config.Policy {
	p := &config.Policy{
		Name: handName(r.ID), Marked: r.Marked, Named: r.Marked, DSCP: r.DSCP,
		Match: config.Match{Protocol: r.Flow.Proto},
		Reserve: &config.Reserve{
			Role:     map[byhand.Side]config.Role{byhand.Sender: config.RoleSender, byhand.Receiver: config.RoleReceiver}[r.Side],
			TSpec:    configTSpec(r.TSpec),
			Delay:    r.Delay,
			Priority: config.Priority(r.Priority),
		},
		TCP: map[byhand.TCP]config.TCPMode{byhand.TCPRealtime: config.TCPRealtime, byhand.TCPReliable: config.TCPReliable}[r.TCP],
	}
	if r.Service == intserv.Guaranteed {
		p.Reserve.Service = config.ServiceGuaranteed
	}
	p.Excess = excessOf(r)
	return p
}

// style has the receiver's side ask in the style that was named.
func (h *handFlow) style(out *softstate.ReserveSpec) {
	out.Auto = h.Style == byhand.Auto
	switch h.Style {
	case byhand.Wildcard:
		out.Style = wire.WF
	case byhand.Explicit:
		out.Style = wire.SE
	case byhand.Fixed:
		out.Style = wire.FF
	case byhand.Auto:
	}
}

// configTSpec is the inverse of tspecOf.
func configTSpec(t intserv.TSpec) config.TSpec {
	out := config.TSpec{Rate: uint64(t.Rate), Burst: uint64(t.Bucket), MinUnit: t.MinUnit, MaxPacket: t.MaxPacket}
	if t.Peak <= byhand.MaxRate {
		out.Peak = uint64(t.Peak)
	}
	return out
}
