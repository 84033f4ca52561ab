package daemon

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// A box that comes back finds the treatments of the process before it in the
// kernel (the data plane that RFC 5063 keeps over a restart). They stay in force
// and are counted in the ledger, so that nobody else gets their place, until
// their reservations have come again or the time for that is over.

// recoveryTime is how long that may take: as long as a neighbour's state lives
// without a refresh (RFC 2205 section 3.7 with K = 3; the neighbour's period
// counts too, and its default is 30 s), but never longer than `on_crash`.
func recoveryTime(c *config.Config) time.Duration {
	d := time.Duration(recovery * float64(max(c.RSVP.Refresh, neighborRefresh)))
	if most := outlives(c); most > 0 {
		d = min(d, most)
	}
	return d
}

// outlives is how long the kernel's state may outlive this process. Where other
// boxes draw from the same accounts, this one's share is theirs when its lease has
// ended, and by then nothing may be marked for it any more: the kernel's lease and
// etcd's are both renewed after a quarter of their time at the latest.
func outlives(c *config.Config) time.Duration {
	if e := c.Admission.Etcd; e != nil && c.OnCrash > 0 {
		return min(c.OnCrash, e.TTL-e.TTL/4)
	}
	return c.OnCrash
}

// leftovers are the reservations among the treatments of an earlier process.
func leftovers(adopted []plan.Treatment) (left []plan.Treatment) {
	for _, t := range adopted {
		if t.Reserve {
			left = append(left, t)
		}
	}
	return left
}

// flowIDs names treatments.
func flowIDs(list []plan.Treatment) []shaper.FlowID {
	ids := make([]shaper.FlowID, 0, len(list))
	for i := range list {
		ids = append(ids, shaper.FlowID{Interface: list[i].Interface, Key: list[i].Key})
	}
	return ids
}

// recover has the network tell what the treatments of an earlier process are
// for. They are in the ledger already.
func (d *Daemon) recover(now time.Time, left []plan.Treatment) {
	if len(left) == 0 {
		return
	}
	hosts := make([]netip.Addr, 0, 2*len(left))
	for i := range left {
		hosts = append(hosts, left[i].Key.SrcAddr(), left[i].Key.DstAddr())
	}
	within := recoveryTime(d.cfg.Load())
	d.log.Info("an earlier process left reservations: they stay until they are claimed", zap.Int("treatments", len(left)), zap.Duration("within", within))
	if err := d.rsvp.Recover(now.Add(within), hosts); err != nil {
		d.log.Warn("neighbours are not asked for what they know", zap.Error(err))
	}
	place := d.placer()
	for i := range left {
		d.speakFor(now, place, &left[i])
	}
}

// speakFor begins again to speak for the sender of a reserved flow, without
// waiting for its next packet.
func (d *Daemon) speakFor(now time.Time, place placer, t *plan.Treatment) {
	l := d.links.Load()
	if out := l.named(t.Interface); out == nil || out.cfg.Zone != config.ZoneNetwork {
		return
	}
	if f, ok := d.remember(now, l, place, t); ok && f.role == roleSender {
		d.first.ask(f)
	}
}

// remember makes the row of a reserved flow of an earlier process, where it is known
// what it comes in by and a policy reserves for it.
func (d *Daemon) remember(now time.Time, l *links, place placer, t *plan.Treatment) (f flow, ok bool) {
	p := d.flows.policyOf(t.Key)
	out := l.named(t.Interface)
	if p == nil || p.Reserve == nil || out == nil {
		return f, false
	}
	hop, err := place(t.Key.SrcAddr(), t.Key.DstAddr())
	if in := l.byIndex[hop.Index]; err != nil || hop.Local || in == nil || in == out {
		return f, false
	}
	d.flows.ensure(now, t.Key, hop.Index, out.Index, p)
	d.flows.updateOn(t.Key, out.Index, func(_ *conn, f *flow) { f.treated = true })
	f, _, ok = d.flows.getOn(t.Key, out.Index)
	return f, ok
}

// settleLeft has the packets of reserved flows of an earlier process pass from the
// beginning on. Their rows are made without a packet: one that waits until it is
// decided about, and those that come meanwhile, would leave together, as a burst that
// exceeds their TSpec and has no mark. What becomes of connections, and by which
// branches a group leaves, only packets tell.
func (d *Daemon) settleLeft(now time.Time, left []plan.Treatment, steer steering) {
	l, place := d.links.Load(), d.placer()
	var keys []packet.FlowKey
	for i := range left {
		t := &left[i]
		if t.Key.Proto == packet.ProtoTCP || toGroup(t.Key) {
			continue
		}
		if _, ok := d.remember(now, l, place, t); ok {
			keys = append(keys, t.Key)
		}
	}
	if err := steer.Settle(keys...); err != nil {
		d.log.Warn("reserved flows of an earlier process are looked at again", zap.Error(err))
	}
}

// named returns the link of that name; nil if there is none.
func (l *links) named(name string) *link {
	for i := range l.list {
		if l.list[i].Name == name {
			return &l.list[i]
		}
	}
	return nil
}

// heldID is the ledger's name for a treatment: a shared reservation is counted
// once.
func heldID(t *plan.Treatment) admission.ID {
	if t.Grouped() {
		return admission.ID("left by an earlier process: " + t.Interface + " shared " + t.Group.String())
	}
	return admission.ID("left by an earlier process: " + t.Interface + " " + t.Key.String())
}

// hold counts treatments of an earlier process in the ledger.
func (t *trafficControl) hold(list []plan.Treatment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		t.holdOne(&list[i])
	}
}

func (t *trafficControl) holdOne(tr *plan.Treatment) {
	id := shaper.FlowID{Interface: tr.Interface, Key: tr.Key}
	inside := t.leadsInside(tr)
	err := t.admit.Hold(admission.Request{ID: heldID(tr), Link: tr.Interface, FlowSpec: flowOf(tr), Level: tr.DSCP, Carried: inside})
	if err != nil {
		t.log.Warn("a reservation of an earlier process is not counted", zap.Stringer("flow", tr.Key), zap.String("interface", tr.Interface), zap.Error(err))
		return
	}
	t.left[id] = *tr
	if inside {
		t.holdInside(tr)
	}
}

// claimed lists the ledger's entries whose place a reservation of these flows
// takes. t.mu is held.
func (t *trafficControl) claimed(iface string, keys []packet.FlowKey) (ids []admission.ID) {
	for _, key := range keys {
		id := shaper.FlowID{Interface: iface, Key: key}
		if tr, ok := t.left[id]; ok {
			ids = append(ids, heldID(&tr))
		}
	}
	return ids
}

// settle follows the answer to a reservation that would take the place of an
// earlier process's: that has gone from the ledger, but what of it could not be
// programmed, or has not come again and shared it, is still in the kernel and is
// counted again. t.mu is held.
func (t *trafficControl) settle(now *reservation, granted bool) {
	groups := map[packet.FlowKey]bool{}
	for _, key := range now.keys {
		id := shaper.FlowID{Interface: now.iface, Key: key}
		tr, ok := t.left[id]
		if !ok {
			continue
		}
		delete(t.left, id)
		if tr.Grouped() && tr.Group != groupOf(now.ask) {
			groups[tr.Group] = true
		}
		switch {
		case granted:
		case t.kernel.IsAdopted(now.iface, key):
			t.holdOne(&tr)
		default:
			t.dropInside(heldID(&tr), false)
		}
	}
	if len(groups) == 0 {
		return
	}
	for id, tr := range t.left {
		if id.Interface == now.iface && groups[tr.Group] {
			t.holdOne(&tr)
		}
	}
}

// disown ends what an earlier process left of a flow in the ledger, but for what
// it shares with others that it left. t.mu is held.
func (t *trafficControl) disown(iface string, key packet.FlowKey) {
	id := shaper.FlowID{Interface: iface, Key: key}
	tr, ok := t.left[id]
	if !ok {
		return
	}
	delete(t.left, id)
	if tr.Grouped() {
		for other, o := range t.left {
			if other.Interface == iface && o.Group == tr.Group {
				return
			}
		}
	}
	t.dropInside(heldID(&tr), false)
	if _, err := t.admit.Release(heldID(&tr)); err != nil {
		t.log.Error("ledger did not release", zap.Stringer("flow", key), zap.Error(err))
	}
}

// reconcile removes the treatments of an earlier process that nobody has asked
// for again.
func (d *Daemon) reconcile(ctx context.Context) {
	d.accounts.look()
	defer d.accounts.forfeit()
	if left := d.shape.Adopted(); len(left) > 0 {
		d.log.Info("removing what an earlier process left and nobody has claimed", zap.Int("treatments", len(left)))
	}
	if err := d.shape.Reconcile(ctx); err != nil {
		d.log.Warn("not all of it was removed", zap.Error(err))
	}
	d.tc.forfeit()
}

// forfeit ends all that is still held for an earlier process and not in the
// kernel any more.
func (t *trafficControl) forfeit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.left {
		if !t.kernel.IsAdopted(id.Interface, id.Key) {
			t.disown(id.Interface, id.Key)
		}
	}
	t.balanceAll(func(netip.Addr) bool { return true }) // they were branches of groups
}
