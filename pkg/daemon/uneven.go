package daemon

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// This file is about multicast trees of which not all branches have the same
// reservation (draft-ietf-issll-diffserv-rsvp section 7): this box is where packets
// are copied, knows each branch's reservation, and can mark each copy for itself,
// so that it is the branch point of section 7.1, mechanism 1. What it makes of the
// branches that have none is configured:
//
//	keep    nothing is written into their copies (mechanism 2). Where they leave for
//	        a network that has sold service levels, copies that carry a mark take
//	        of its level, so they are counted in the ledger as the reservation
//	        itself would be.
//	demote  their copies lose the mark.
//	reject  a reservation is refused as long as another branch has not asked for
//	        the same (mechanism 4). What has become uneven later is demoted.
//
// A branch with less than another is policed to what it has whatever is configured:
// it is a heterogeneous source branch point of RFC 2212 (Policing).

// uneven is what was done for branches without a reservation. Under the traffic
// control's lock.
type uneven struct {
	demoted map[shaper.FlowID]uint8
	covered map[shaper.FlowID]cover
	wishes  map[shaper.FlowID]wish
}

func newUneven() uneven {
	return uneven{demoted: map[shaper.FlowID]uint8{}, covered: map[shaper.FlowID]cover{}, wishes: map[shaper.FlowID]wish{}}
}

// cover is what the ledger has for a branch whose copies are marked and not reserved.
type cover struct {
	id     admission.ID
	flow   intserv.FlowSpec
	levels []uint8
}

// wish is what a branch has asked for and was refused because others had not.
type wish struct {
	flow  intserv.FlowSpec
	until time.Time
}

// maxWishes bounds them: each is a refusal of some seconds ago.
const maxWishes = 4096

// wishTime is how long a wish counts: as long as the state of a neighbour that
// refreshes it lives.
func (t *trafficControl) wishTime() time.Duration {
	return time.Duration(recovery * float64(max(t.config().RSVP.Refresh, neighborRefresh)))
}

// outs are the configured interfaces by which the kernel forwards a flow to a
// group.
func (t *trafficControl) outs(key packet.FlowKey) (list []*link) {
	if t.branches == nil || !toGroup(key) {
		return nil
	}
	l := t.links()
	for _, index := range t.branches(key.SrcAddr(), key.DstAddr()) {
		if k := l.byIndex[index]; k != nil {
			list = append(list, k)
		}
	}
	return list
}

// most is the largest reservation that a branch of a flow has; nil: none has one.
// t.mu is held.
func (t *trafficControl) most(key packet.FlowKey) (most *reservation) {
	for _, r := range t.of(key) {
		if most == nil || r.flow.Bandwidth() > most.flow.Bandwidth() {
			most = r
		}
	}
	return most
}

// balance brings the branches of flows to a group in line with who has a
// reservation and where packets go. t.mu is held.
func (t *trafficControl) balance(ctx context.Context, keys ...packet.FlowKey) {
	for _, key := range keys {
		if toGroup(key) {
			t.balanceOne(ctx, key)
		}
	}
}

func (t *trafficControl) balanceOne(ctx context.Context, key packet.FlowKey) {
	how := t.config().Multicast.Heterogeneous
	most, outs := t.most(key), t.outs(key)
	for i := range t.links().list {
		l := &t.links().list[i]
		id := shaper.FlowID{Interface: l.Name, Key: key}
		bare := most != nil && slices.Contains(outs, l) && t.byKey[place(l.Name, key)] == nil
		if _, left := t.left[id]; left {
			bare = false // an earlier process's reservation, which may be claimed yet
		}
		// Where packets are told apart by their DSCP alone, no flow's can be demoted.
		keep := how == config.HeterogeneousKeep || l.cfg.Classify == config.ClassifyDSCP
		t.demote(ctx, id, l.Index, bare && !keep && !t.marks(key))
		t.cover(id, most, bare && keep && t.counts(l, most, key))
	}
}

// marks tells whether a policy marks a flow without a reservation: then that is
// what its copies have.
func (t *trafficControl) marks(key packet.FlowKey) bool {
	p := t.flows.policyOf(key)
	return p != nil && p.Reserve == nil && p.Marked
}

// counts tells whether copies that leave unreserved by an interface take something
// there that is counted: they come marked, and this box or the network behind goes
// by the mark. (On other links the mark is worth nothing: they are best effort.)
// A member of a shared reservation that another member has there is in it.
func (t *trafficControl) counts(l *link, most *reservation, key packet.FlowKey) bool {
	in := t.links().byIndex[int(most.ask.In)]
	if in != nil && in.cfg.Trust == config.TrustNone || len(l.cfg.SLS) == 0 && l.cfg.Classify != config.ClassifyDSCP {
		return false
	}
	return !slices.ContainsFunc(most.keys, func(other packet.FlowKey) bool {
		return other != key && t.byKey[place(l.Name, other)] != nil
	})
}

// demote has the copies that leave by one interface lose their mark, or has it end.
func (t *trafficControl) demote(ctx context.Context, id shaper.FlowID, out int, want bool) {
	have, demoted := t.demoted[id]
	code := t.config().Multicast.DemoteTo
	plain := plan.Treatment{Key: id.Key, Interface: id.Interface}
	switch {
	case want && (!demoted || have != code):
		t.demoted[id] = code
		plain.Mark, plain.DSCP = true, code
		t.noteDemoted(id, out)
		t.bring(ctx, debt{Treatment: plain})
	case !want && demoted:
		delete(t.demoted, id)
		t.flows.updateOn(id.Key, out, func(_ *conn, f *flow) { f.caveat = "" })
		if t.byKey[place(id.Interface, id.Key)] != nil {
			return // a reservation has taken its place
		}
		known := t.flows.updateOn(id.Key, out, func(_ *conn, f *flow) { f.marked, f.dscp = false, 0 })
		t.bring(ctx, debt{Treatment: plain, none: !known})
	}
}

// noteDemoted writes it into the row of the branch, if it has one.
func (t *trafficControl) noteDemoted(id shaper.FlowID, out int) {
	t.flows.updateOn(id.Key, out, func(_ *conn, f *flow) {
		f.treated, f.marked, f.dscp = true, true, t.demoted[id]
		f.caveat = "; demoted to " + dscp.Name(t.demoted[id]) + ": another branch of the group has a reservation"
	})
}

// coverID is the ledger's name for it: a shared reservation is counted once.
func coverID(iface string, r *reservation, key packet.FlowKey) admission.ID {
	if g := groupOf(r.ask); g != (packet.FlowKey{}) {
		return admission.ID("marked and not reserved: " + iface + " shared " + g.String())
	}
	return admission.ID("marked and not reserved: " + iface + " " + key.String())
}

// cover counts copies that leave marked and unreserved by one interface, or ends
// that. They leave there whether there is room for them or not.
func (t *trafficControl) cover(id shaper.FlowID, most *reservation, want bool) {
	have, covered := t.covered[id]
	if !want {
		if covered {
			t.uncover(id)
		}
		return
	}
	now := cover{id: coverID(id.Interface, most, id.Key), flow: most.flow, levels: most.levels}
	if covered && have.id == now.id && have.flow == now.flow && slices.Equal(have.levels, now.levels) {
		return
	}
	if covered && have.id != now.id {
		t.uncover(id)
	}
	req := most.request(most.flow)
	req.ID, req.Link = now.id, id.Interface
	req.User, req.Priority = "", admission.Priority{} // nobody has asked for it
	if err := t.admit.Hold(req); err != nil {
		t.log.Warn("a branch without a reservation is not counted", zap.Stringer("flow", id.Key), zap.String("interface", id.Interface), zap.Error(err))
		return
	}
	t.covered[id] = now
}

// uncover ends it, unless another sender of the same reservation is covered by it.
func (t *trafficControl) uncover(id shaper.FlowID) {
	gone := t.covered[id].id
	delete(t.covered, id)
	for _, c := range t.covered {
		if c.id == gone {
			return
		}
	}
	if _, err := t.admit.Release(gone); err != nil {
		t.log.Error("ledger did not release", zap.String("entry", string(gone)), zap.Error(err))
	}
}

// covers lists the ledger's entries whose place a reservation takes. t.mu is held.
func (t *trafficControl) covers(iface string, keys []packet.FlowKey) (ids []admission.ID) {
	for _, key := range keys {
		if c, ok := t.covered[shaper.FlowID{Interface: iface, Key: key}]; ok && !slices.Contains(ids, c.id) {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// uncounted follows the end of such entries: a reservation took their place. What
// it then did not come to have is counted again by balance. t.mu is held.
func (t *trafficControl) uncounted(ids []admission.ID) {
	for id, c := range t.covered {
		if slices.Contains(ids, c.id) {
			delete(t.covered, id)
		}
	}
}

// refuseUneven refuses a reservation that would make a tree uneven, where that is
// configured. What was refused is remembered: the last branch to ask for the same is
// granted it, and the others when they ask again. t.mu is held.
func (t *trafficControl) refuseUneven(now *reservation) *softstate.Refusal {
	if t.config().Multicast.Heterogeneous != config.HeterogeneousReject {
		return nil
	}
	var refusal *softstate.Refusal
	at := time.Now()
	for _, key := range now.keys {
		for _, l := range t.outs(key) {
			if l.Name == now.iface || refusal != nil {
				continue
			}
			other, wish := t.byKey[place(l.Name, key)], t.wishes[shaper.FlowID{Interface: l.Name, Key: key}]
			switch {
			case other != nil && alike(other.ask.FlowSpec, now.ask.FlowSpec):
			case wish.until.After(at) && alike(wish.flow, now.ask.FlowSpec):
			case other != nil:
				refusal = unevenRefusal("%s has another reservation of this group's packets, of %.0f bytes/s", l.Name, other.ask.FlowSpec.Bandwidth())
			default:
				refusal = unevenRefusal("%s, where this group's packets go too, has no reservation of them", l.Name)
			}
		}
	}
	for _, key := range now.keys {
		id := shaper.FlowID{Interface: now.iface, Key: key}
		if refusal == nil {
			delete(t.wishes, id)
		} else if toGroup(key) && t.wishRoom(at, id) {
			t.wishes[id] = wish{flow: now.ask.FlowSpec, until: at.Add(t.wishTime())}
		}
	}
	return refusal
}

// wishRoom makes room for a wish, if there can be.
func (t *trafficControl) wishRoom(now time.Time, id shaper.FlowID) bool {
	if _, there := t.wishes[id]; there || len(t.wishes) < maxWishes {
		return true
	}
	for other, w := range t.wishes {
		if !w.until.After(now) {
			delete(t.wishes, other)
		}
	}
	return len(t.wishes) < maxWishes
}

// unevenRefusal is error code 21, value 1: service conflict (RFC 2205 Appendix B).
// Requests of that kind would be merged, and are not allowed to differ.
func unevenRefusal(format string, args ...any) *softstate.Refusal {
	return &softstate.Refusal{
		Code: wire.ErrTrafficControl, Value: wire.TCServiceConflict,
		Text: fmt.Sprintf(format, args...) + ": all branches have to ask for the same (multicast: heterogeneous: reject)",
	}
}

// alike tells whether two reservations are the same for the network. m and M are
// those of the interface, too.
func alike(a, b intserv.FlowSpec) bool {
	near := func(x, y float64) bool {
		return x == y || math.Abs(x-y) <= 1e-6*max(math.Abs(x), math.Abs(y))
	}
	return a.Service == b.Service && near(a.TSpec.Rate, b.TSpec.Rate) && near(a.TSpec.Bucket, b.TSpec.Bucket) &&
		near(a.TSpec.Peak, b.TSpec.Peak) && near(a.RSpec.Rate, b.RSpec.Rate)
}

// regroup follows a change of the ways of multicast groups.
func (t *trafficControl) regroup(groups []netip.Prefix) {
	if len(groups) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.balanceAll(func(a netip.Addr) bool {
		return slices.ContainsFunc(groups, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// balanceAll is balance for all flows to the groups that concern tells of. t.mu is
// held.
func (t *trafficControl) balanceAll(concern func(group netip.Addr) bool) {
	keys := map[packet.FlowKey]bool{}
	note := func(id shaper.FlowID) {
		if toGroup(id.Key) && concern(id.Key.DstAddr()) {
			keys[id.Key] = true
		}
	}
	for id := range t.byKey {
		note(id)
	}
	for id := range t.demoted {
		note(id)
		if t.links().named(id.Interface) == nil { // its treatment went along
			delete(t.demoted, id)
		}
	}
	for id := range t.covered {
		note(id)
		if t.links().named(id.Interface) == nil {
			t.uncover(id)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	for key := range keys {
		t.balance(ctx, key)
	}
}
