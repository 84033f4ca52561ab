package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// kernelTimeout bounds one change of the kernel's state.
const kernelTimeout = 5 * time.Second

// treater is the part of the shaper that traffic control uses.
type treater interface {
	Install(context.Context, plan.Treatment) (plan.ClassID, error)
	// Take removes a treatment and returns what it has counted.
	Take(ctx context.Context, iface string, key packet.FlowKey) (shaper.Counters, error)
	Counters(iface string, key packet.FlowKey) (shaper.Counters, error)
	// Treatment is what is in force; false: nothing.
	Treatment(iface string, key packet.FlowKey) (plan.Treatment, bool)
	Class(iface string, key packet.FlowKey) plan.ClassID // that it is in, 0: none
	IsAdopted(iface string, key packet.FlowKey) bool
	Unclaim(iface string, key packet.FlowKey) // undoes that Install claimed what was adopted
}

// cheater starts and stops the cheating of a connection in its worker.
type cheater interface {
	start(shard int, key packet.FlowKey, p tcpcheat.Params)
	stop(shard int, key packet.FlowKey)
}

// trafficControl is traffic control of RFC 2205 section 3.11.2 for the RSVP
// loop: admission first, then the kernel, then the flow table and the cheat
// worker. What it did and then cannot finish, it takes back.
//
// It is the only one that changes treatments, under one lock, so that a flow's
// first packet and its reservation, which race, cannot undo each other's work.
type trafficControl struct {
	flows  *flowTable
	admit  *admission.Control
	kernel treater
	cheat  cheater
	config func() *config.Config
	links  func() *links
	// branches are the interfaces by which the kernel forwards from a source to a
	// group; nil: it forwards to none.
	branches func(source, group netip.Addr) []int
	// withdraw tells RSVP of a reservation that has ended without its doing.
	withdraw func(id uint64, why softstate.Refusal)
	log      *zap.Logger
	granted  counter
	refused  counter
	freed    counter
	ousted   counter // made room for others
	foreign  counter // code points of DCLASS that reservations may not have
	rests    rests
	account  *accounts

	mu sync.Mutex // held over kernel calls; never while the flow table's lock is

	closed bool
	held   map[uint64]*reservation
	byKey  map[shaper.FlowID]*reservation   // by place
	torn   map[uint64]*reservation          // taken back by a next hop a moment ago, see torn.go
	left   map[shaper.FlowID]plan.Treatment // of an earlier process, not claimed yet
	owed   map[shaper.FlowID]debt           // what the kernel would not take, see debt.go
	stale  map[shaper.FlowID]bool           // what it would not change after a reload, or the end of cheating
	inside insides                          // of left: what may have been in aggregates
	uneven                                  // of multicast trees
}

// reservation is what was done for one ID. A fixed-filter reservation has one
// key; a shared one those of its senders, which are one group for the kernel.
type reservation struct {
	id     uint64
	keys   []packet.FlowKey
	iface  string
	ask    softstate.Reserve
	flow   intserv.FlowSpec // as admitted
	levels []uint8          // the service levels that it counts in
	user   string           // in whose account it counts too
	// priority is what policy grants of what is asked for.
	priority admission.Priority
	members  map[packet.FlowKey]*member
	expire   *time.Timer // of one that was taken back
	spent    bool        // and whose place in the ledger another has, though not all of its flows
}

// member is what was done for one sender.
type member struct {
	put     plan.Treatment
	counted accounting.Usage // by its row before it was this reservation's
	class   plan.ClassID
	engaged bool // its engine shall do something, though not cheat: its packets are policed
	started bool // its engine was told to cheat, and has not given it back
	ending  bool // it will be told to stop, since others share the reservation now
}

func newTrafficControl() *trafficControl {
	return &trafficControl{
		held: map[uint64]*reservation{}, byKey: map[shaper.FlowID]*reservation{}, torn: map[uint64]*reservation{},
		left: map[shaper.FlowID]plan.Treatment{}, owed: map[shaper.FlowID]debt{}, stale: map[shaper.FlowID]bool{}, uneven: newUneven(), inside: newInsides(),
		account: newAccounts(accounting.New(accounting.Limits{})),
	}
}

func admissionID(id uint64) admission.ID { return admission.ID(strconv.FormatUint(id, 10)) }

// Reserve admits a reservation and programs it, or says why not. However many
// senders share it, it is counted once (RFC 2205 section 1.3).
func (t *trafficControl) Reserve(r softstate.Reserve) *softstate.Refusal {
	iface := t.links().name(int(r.Out))
	if iface == "" {
		t.refused.add()
		return &softstate.Refusal{Code: wire.ErrTCSystem, Text: fmt.Sprintf("interface %d is not in the configuration", r.Out)}
	}
	keys, refusal := t.keysOf(&r)
	if refusal != nil {
		t.refused.add()
		return refusal
	}
	now := &reservation{id: r.ID, iface: iface, ask: r, keys: keys, members: map[packet.FlowKey]*member{}}
	now.levels = t.levelsOf(now)
	t.countForeign(&r)
	// Other boxes are asked before the lock is taken, on which packets wait; and
	// what is given back here stays ours until it is clear that it need not be put
	// back.
	defer t.admit.Together()()
	t.admit.Prepare(t.wanted(now))
	t.mu.Lock()
	defer t.mu.Unlock()
	now.levels = t.levelsOf(now) // a reload may have changed the mark while others were asked
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	if refusal := t.refuseUneven(now); refusal != nil {
		t.refused.add()
		t.log.Info("reservation refused", zap.Stringer("session", r.Session), zap.String("link", iface), zap.String("reason", refusal.Text))
		return refusal
	}
	predecessors, old := t.succeeds(now), t.held[r.ID]
	back := t.comeAgain(now)
	d := t.admitOnce(now, predecessors)
	if !d.Admitted {
		back()
		t.refused.add()
		t.log.Info("reservation refused", zap.Stringer("session", r.Session), zap.String("link", iface), zap.String("reason", d.Reason))
		return refusalOf(&d, r.Identities)
	}
	now.flow, now.user, now.priority = d.Installed, d.User, d.Priority
	err := t.replace(ctx, now, d.Preempted)
	if err == nil {
		t.opened(now) // before what it takes over from others ends
	} else {
		back()
	}
	t.settle(now, err == nil)
	t.succeeded(predecessors, err == nil)
	t.balance(ctx, now.keys...)
	if old != nil {
		t.balance(ctx, old.keys...)
	}
	if err != nil {
		t.refused.add()
		if errors.Is(err, shaper.ErrCapacity) {
			// Admission counts IP bytes; small packets have more headers than there is
			// room for.
			t.log.Info("reservation refused", zap.Stringer("session", r.Session), zap.String("link", iface), zap.Error(err))
			return &softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: err.Error()}
		}
		t.log.Error("reservation not programmed", zap.Stringer("session", r.Session), zap.Error(err))
		return &softstate.Refusal{Code: wire.ErrTCSystem, Text: err.Error()}
	}
	t.granted.add()
	return nil
}

// request is what admission is asked for a reservation.
func (r *reservation) request(f intserv.FlowSpec) admission.Request {
	return admission.Request{
		ID: admissionID(r.id), Link: r.iface, FlowSpec: f, Level: r.levels[0], Levels: r.levels[1:], User: r.user, Priority: r.priority,
		Carried: r.ask.Aggregate != nil,
	}
}

// wanted is the request of a reservation that is asked for, by whom and with which
// priority.
func (t *trafficControl) wanted(r *reservation) admission.Request {
	req := r.request(r.ask.FlowSpec)
	req.Senders = r.ask.SenderTSpec
	req.Asker, req.Priority = t.asker(r), admission.Priority{Setup: r.ask.Priority.Preempting, Hold: r.ask.Priority.Defending}
	return req
}

// admitOnce asks admission control. Reservations that were just taken back make
// room for others at once, if it is needed, and before any that is in place.
func (t *trafficControl) admitOnce(now *reservation, predecessors []*reservation) admission.Decision {
	req := t.wanted(now)
	covers := t.covers(now.iface, now.keys)
	req.Replaces = append(t.claimed(now.iface, now.keys), covers...)
	for _, b := range predecessors {
		req.Replaces = append(req.Replaces, admissionID(b.id))
	}
	d := t.admit.Admit(req)
	if d.Crowded && t.endTorn(now.iface, predecessors) {
		d = t.admit.Admit(req)
	}
	if !d.Admitted && req.Priority.Setup > 0 {
		d = t.admit.AdmitOver(req, func(id admission.ID) bool { return t.mayOust(now, id) })
	}
	if d.Admitted {
		t.uncounted(covers)
	}
	return d
}

// program puts a reservation into the kernel in place of the one with its ID.
// Senders that were in it keep their counters and what they have used; those
// that come find the same bucket. If that fails half-way, the kernel and the
// ledger are brought back to what they were.
func (t *trafficControl) program(ctx context.Context, now *reservation) error {
	old := t.held[now.id]
	done := make([]before, 0, len(now.keys))
	for _, key := range now.keys {
		was := t.before(now, key)
		if err := t.programOne(ctx, now, key, was); err != nil {
			t.undo(ctx, now, done, old)
			return fmt.Errorf("programming %s on %s: %w", key, now.iface, err)
		}
		done = append(done, was)
	}
	t.held[now.id] = now
	if old != nil {
		for _, key := range old.keys {
			if t.byKey[place(old.iface, key)] == old {
				t.giveBack(ctx, old.iface, key, "it has no part in the reservation any more")
			} else if old.iface != now.iface {
				t.take(ctx, old.iface, key)
			}
		}
	}
	return nil
}

// programOne does it for one sender.
func (t *trafficControl) programOne(ctx context.Context, now *reservation, key packet.FlowKey, was before) error {
	m := &member{}
	if was.m != nil {
		*m = *was.m
	}
	now.members[key] = m
	tr, p, shard := t.treatment(key, now)
	m.engaged = t.engaged(key, now, shard)
	m.counted = t.countedBefore(now.id, now.iface, key)
	if tr != m.put {
		class, err := t.kernel.Install(ctx, tr)
		if err != nil {
			return err
		}
		m.put, m.class = tr, class
		t.paid(now.iface, key)
	}
	t.byKey[place(now.iface, key)] = now
	t.pace(key, now, p, shard)
	t.note(key, now, p)
	return nil
}

// pace starts to cheat a connection that has its reservation for itself. Where
// several senders share one, an engine each would promise all of it to its own
// source: none of them is cheated, and one that was alone before is given back
// (what it has in hand is still shaped, not policed). Not at once: a wildcard
// reservation has a second sender before the receivers know of it, and they may
// be about to give each its own.
func (t *trafficControl) pace(key packet.FlowKey, r *reservation, p *config.Policy, shard int) {
	m := r.members[key]
	switch {
	case !m.put.Cheated && !m.engaged:
	case len(r.keys) == 1:
		m.started, m.ending = true, false
		t.cheat.start(shard, key, t.cheatParams(key, p, r.flow.TSpec, m.put.Cheated))
	case !m.ending:
		m.ending = true
		time.AfterFunc(tornTime, func() { t.stopShared(r.iface, key) })
	}
}

// stopShared ends the cheating of a connection that still shares its reservation.
func (t *trafficControl) stopShared(iface string, key packet.FlowKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.byKey[place(iface, key)]
	if r == nil || t.closed || !r.members[key].ending {
		return
	}
	m := r.members[key]
	m.ending = false
	_, shard, known := t.flows.get(key)
	if m.started && known && shard >= 0 {
		t.cheat.stop(shard, key)
	}
}

// treatment is what the kernel shall do with a reserved flow, and the policy
// and the cheat queue of it.
func (t *trafficControl) treatment(key packet.FlowKey, r *reservation) (plan.Treatment, *config.Policy, int) {
	g, shard, known := t.flows.getOn(key, int(r.ask.Out))
	p := t.flows.policyOf(key)
	ts := r.flow.TSpec
	out := plan.Treatment{
		Key: key, Interface: r.iface, Rate: ts.Rate, Bucket: ts.Bucket, Peak: ts.Peak,
		MinUnit: ts.MinUnit, MaxPacket: ts.MaxPacket, Mark: true, Police: true, Reserve: true,
		DSCP: t.code(&r.ask, r.flow.Service, p), Group: groupOf(r.ask),
	}
	switch a := r.ask.Aggregate; {
	case a != nil:
		out.DSCP = a.DSCP // whatever policy says here (RFC 3175 section 2.11)
	case isAggregate(r.ask.Session):
		out.DSCP = r.levels[0]
	}
	edge := t.policingPoint(r.ask)
	if r.flow.Service == intserv.Guaranteed {
		guarantee(&out, r)
	} else if !edge {
		tolerate(&out)
	}
	if p != nil {
		out.Drop, out.Excess = p.Excess == config.ExcessDrop && edge, p.Excess.DSCP()
		if p.TCP == config.TCPPace && t.engaged(key, r, shard) && !t.cheatParams(key, p, ts, false).Thin {
			// The engine keeps to p, unless it thins ACKs, and it is in front of the
			// policer: what its queue pushes together is not the source's doing. r
			// and b leave room for that.
			out.Peak = math.Inf(1)
		}
		out.Cheated = known && g.speaks() && shard >= 0 && !t.byDSCP(r.iface) && (len(r.keys) == 1 || r.members[key].started)
	}
	out.RealTime = out.RealTime || realTime(out.DSCP)
	return out, p, shard
}

// byDSCP tells whether an interface has no rows and classes of flows.
func (t *trafficControl) byDSCP(iface string) bool {
	l := t.links().named(iface)
	return l != nil && l.cfg.Classify == config.ClassifyDSCP
}

// engaged tells whether the engine shall see to a flow's ACKs or holes without
// speaking for its receiver.
func (t *trafficControl) engaged(key packet.FlowKey, r *reservation, shard int) bool {
	f, _, known := t.flows.getOn(key, int(r.ask.Out))
	return known && shard >= 0 && f.touches() && !f.speaks() && (len(r.keys) == 1 || r.members[key].started)
}

// cheatParams is what the engine shall do; speaks: on the receiver's behalf.
func (t *trafficControl) cheatParams(key packet.FlowKey, p *config.Policy, ts intserv.TSpec, speaks bool) tcpcheat.Params {
	c := t.config()
	if !speaks {
		f, _, _ := t.flows.get(key)
		out := tcpcheat.Params{Rate: ts.Rate, Bucket: ts.Bucket, Peak: ts.Peak, Echo: f.role == roleSender && !bridged(c)}
		if f.role == roleReceiver {
			// A source whose own box paces it repairs its losses itself, and its
			// ACKs have passed the narrow way.
			out.Thin, out.ThinRate = p.ThinAcks, float64(c.TCP.ThinRate)
			fillParams(&out, p, c)
		}
		if p.TCP == config.TCPPace {
			out.Mode, out.PaceFactor = tcpcheat.Pace, c.TCP.PaceFactor
			out.PaceLoose = f.role == roleSender // the receiver's box may pace too
		}
		return out
	}
	out := tcpcheat.Params{
		Mode: tcpcheat.Realtime, Rate: ts.Rate, Bucket: ts.Bucket, Peak: ts.Peak,
		Predict: c.TCP.Window == config.WindowPredict,
		// A bridge has no address to ask from, and asks nobody: where a connection
		// has no timestamps, the round trip to its source stays unknown.
		Echo: !bridged(c),
	}
	fillParams(&out, p, c)
	if p.TCP == config.TCPReliable {
		out.Mode = tcpcheat.Reliable
		// What the receiver drops beyond its edge is still held here and sent
		// again, so prediction costs at most bandwidth.
		out.Predict = c.TCP.Window != config.WindowHonour
	}
	return out
}

// fillParams says how holes are filled, if they are.
func fillParams(out *tcpcheat.Params, p *config.Policy, c *config.Config) {
	out.Fill, out.FillForce = p.Fill, c.TCP.FillEncrypted
	out.FillAfter, out.FillPattern = c.TCP.FillAfter, c.TCP.FillPattern
}

// note writes a reservation into the flow's row.
func (t *trafficControl) note(key packet.FlowKey, r *reservation, p *config.Policy) {
	if isAggregate(r.ask.Session) {
		return // no flow
	}
	now := time.Now()
	m := r.members[key]
	write := func(c *conn, f *flow) {
		if f.reserved.IsZero() {
			f.reserved = now
		}
		f.treated, f.class, f.dscp, f.marked = true, m.class, m.put.DSCP, true
		f.rate = m.put.Rate
		if f.state != stateCheated {
			f.state, f.reason = stateManaged, "reserved"
			switch {
			case m.put.Cheated, m.engaged:
				f.reason = "reserved; cheating is about to start"
			case f.speaks() && c.engine(key) >= 0 && t.byDSCP(r.iface):
				f.reason = "reserved; not cheated: no flow has a class of its own on " + r.iface
			case len(r.keys) > 1 && c.engine(key) >= 0:
				f.reason = fmt.Sprintf("reserved; not cheated: %d senders share the reservation", len(r.keys))
			}
		}
	}
	if !t.flows.updateOn(key, int(r.ask.Out), write) {
		// RSVP came before the first packet, or the flow is none of ours.
		t.flows.ensure(now, key, int(r.ask.In), int(r.ask.Out), p)
		t.flows.updateOn(key, int(r.ask.Out), write)
	}
}

// Release ends a reservation.
func (t *trafficControl) Release(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[id]
	delete(t.held, id)
	t.end(id, r, whyReleased)
}

// end gives all of a reservation back that no other has taken over. t.mu is held.
func (t *trafficControl) end(id uint64, r *reservation, why string) {
	if _, err := t.admit.Release(admissionID(id)); err != nil {
		t.log.Error("ledger did not release", zap.Uint64("reservation", id), zap.Error(err))
	}
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	for _, key := range r.keys {
		if t.byKey[place(r.iface, key)] == r {
			t.giveBack(ctx, r.iface, key, why)
		}
	}
	t.ended(id, why)
	t.balance(ctx, r.keys...)
	t.freed.add()
}

// giveBack takes a flow's treatment away. A flow that still lives is counted on.
func (t *trafficControl) giveBack(ctx context.Context, iface string, key packet.FlowKey, why string) {
	delete(t.byKey, place(iface, key))
	shard, claimed := -1, false
	out := t.links().index(iface)
	plain := plan.Treatment{Key: key, Interface: iface}
	known := t.flows.unreserve(key, out, why, func(c *conn, f *flow) {
		shard, claimed = c.engine(key), c.claimed()
		plain = static(f, iface)
	})
	if shard >= 0 {
		t.cheat.stop(shard, key)
	}
	if known && !claimed && shard < 0 {
		t.flows.removeOn(key, out) // it was here for the reservation alone
		known = false
	}
	if !known {
		t.take(ctx, iface, key)
		return
	}
	t.bring(ctx, debt{Treatment: plain})
	t.leave(iface, key)
}

// take removes a flow's treatment altogether.
func (t *trafficControl) take(ctx context.Context, iface string, key packet.FlowKey) {
	t.disown(iface, key)
	t.bring(ctx, debt{Treatment: plan.Treatment{Key: key, Interface: iface}, none: true})
	t.leave(iface, key) // if it could not be removed
}

// view returns what was done for a sender in the reservation of an ID.
func (t *trafficControl) view(id uint64, key packet.FlowKey) (member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.held[id]; r != nil && r.members[key] != nil {
		return *r.members[key], true
	}
	return member{}, false
}

// classOf returns the class of a reservation, 0 if it has none.
func (t *trafficControl) classOf(id uint64) plan.ClassID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.held[id]; r != nil && len(r.keys) > 0 {
		return r.members[r.keys[0]].class // the same for all that share it
	}
	return 0
}

// receiverProxy decides whether this box answers a PATH, and with what: a
// policy whose role speaks for receivers must claim the flow, or none at all and
// its sender wants it to be answered. What is asked for is the policy's TSpec, but
// never more than the sender announces.
func (t *trafficControl) receiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	l := t.links().byIndex[int(i.Out)]
	if isAggregate(i.Session) {
		return softstate.ReserveSpec{}, false // for a deaggregator to answer (RFC 3175 section 2.6)
	}
	if l == nil || l.cfg.Zone != config.ZoneHosts {
		return softstate.ReserveSpec{}, false
	}
	p := t.flows.policyOf(matchKey(i.Session, i.Sender))
	if p == nil && i.Needed {
		return needed(i), true
	}
	if p == nil || p.Reserve == nil || !p.Reserve.HasReceiver() {
		return softstate.ReserveSpec{}, false
	}
	out := askFor(p.Reserve, i)
	if h, ok := t.flows.hand.get(flowKey(i.Session, i.Sender)); ok {
		h.style(&out)
	}
	return out, true
}
