package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// kernelTimeout bounds one change of the kernel's state.
const kernelTimeout = 5 * time.Second

// treater is the part of the shaper that traffic control uses.
type treater interface {
	Install(context.Context, plan.Treatment) (plan.ClassID, error)
	Remove(ctx context.Context, iface string, key packet.FlowKey) error
}

// cheater starts and stops the cheating of a connection in its worker.
type cheater interface {
	start(shard int, key packet.FlowKey, p tcpcheat.Params)
	stop(shard int, key packet.FlowKey)
}

// trafficControl is traffic control of RFC 2205 section 3.11.2 for the RSVP
// loop: admission first, then the kernel, then the flow table and the cheat
// worker. What it did and then cannot finish, it takes back.
type trafficControl struct {
	flows   *flowTable
	admit   *admission.Control
	kernel  treater
	cheat   cheater
	config  func() *config.Config
	links   func() *links
	log     *zap.Logger
	granted counter
	refused counter
	freed   counter

	mu   sync.Mutex
	held map[uint64]*reservation
}

// reservation is what was done for one ID.
type reservation struct {
	keys  []packet.FlowKey
	iface string
	dscp  uint8
	class plan.ClassID
	flow  intserv.FlowSpec
}

func admissionID(id uint64) admission.ID { return admission.ID(strconv.FormatUint(id, 10)) }

// flowKeys are the five-tuples that a session and its filters stand for.
func flowKeys(s wire.Session, filters []wire.Filter) []packet.FlowKey {
	keys := make([]packet.FlowKey, 0, len(filters))
	for _, f := range filters {
		keys = append(keys, flowKey(s, f))
	}
	return keys
}

func flowKey(s wire.Session, f wire.Filter) packet.FlowKey {
	return packet.MakeKey(s.Protocol, netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(s.Dst, s.DstPort))
}

// Reserve admits a reservation and programs it, or says why not.
func (t *trafficControl) Reserve(r softstate.Reserve) *softstate.Refusal {
	iface := t.links().name(int(r.Out))
	if iface == "" {
		t.refused.add()
		return &softstate.Refusal{Code: wire.ErrTCSystem, Text: fmt.Sprintf("interface %d is not in the configuration", r.Out)}
	}
	d := t.admit.Admit(admission.Request{ID: admissionID(r.ID), Link: iface, FlowSpec: r.FlowSpec, Senders: r.SenderTSpec})
	if !d.Admitted {
		t.refused.add()
		t.log.Info("reservation refused", zap.Stringer("session", r.Session), zap.String("link", iface), zap.String("reason", d.Reason))
		return &softstate.Refusal{Code: wire.ErrorCode(d.Code), Value: d.Value, Text: d.Reason}
	}
	if err := t.program(r, iface, d.Installed); err != nil {
		t.refused.add()
		t.log.Error("reservation not programmed", zap.Stringer("session", r.Session), zap.Error(err))
		return &softstate.Refusal{Code: wire.ErrTCSystem, Text: err.Error()}
	}
	t.granted.add()
	return nil
}

// program puts a reservation into the kernel. If that fails half-way, the
// kernel and the ledger are brought back to what they were.
func (t *trafficControl) program(r softstate.Reserve, iface string, installed intserv.FlowSpec) error {
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	t.mu.Lock()
	old := t.held[r.ID]
	t.mu.Unlock()
	now := &reservation{iface: iface, flow: installed, keys: flowKeys(r.Session, r.Filters)}
	for i, key := range now.keys {
		treatment, p, shard := t.treatment(key, iface, r, installed)
		class, err := t.kernel.Install(ctx, treatment)
		if err != nil {
			t.undo(ctx, r.ID, now.keys[:i], iface, old)
			return fmt.Errorf("programming %s on %s: %w", key, iface, err)
		}
		now.class, now.dscp = class, treatment.DSCP
		t.reserved(key, r, treatment, class, p)
		if treatment.Cheated {
			t.cheat.start(shard, key, t.cheatParams(p, installed.TSpec))
		}
	}
	t.mu.Lock()
	t.held[r.ID] = now
	t.mu.Unlock()
	if old != nil {
		for _, key := range old.keys {
			if old.iface != iface || !slices.Contains(now.keys, key) {
				t.giveBack(ctx, old.iface, key, "the reservation has moved")
			}
		}
	}
	return nil
}

func (t *trafficControl) undo(ctx context.Context, id uint64, done []packet.FlowKey, iface string, old *reservation) {
	if old == nil {
		for _, key := range done {
			t.giveBack(ctx, iface, key, "the reservation could not be programmed")
		}
		if _, err := t.admit.Release(admissionID(id)); err != nil {
			t.log.Error("ledger not brought back", zap.Uint64("reservation", id), zap.Error(err))
		}
		return
	}
	// The old reservation stands: the ledger goes back to it. The kernel did
	// not take the change, so it still has the old one.
	d := t.admit.Admit(admission.Request{ID: admissionID(id), Link: old.iface, FlowSpec: old.flow})
	if !d.Admitted {
		t.log.Error("ledger not brought back", zap.Uint64("reservation", id), zap.String("reason", d.Reason))
	}
}

// treatment is what the kernel shall do with a reserved flow.
func (t *trafficControl) treatment(key packet.FlowKey, iface string, r softstate.Reserve, f intserv.FlowSpec) (plan.Treatment, *config.Policy, int) {
	g, shard, known := t.flows.get(key)
	p := g.policy
	if !known || p == nil || p.Reserve == nil {
		p = t.flows.policyOf(key)
	}
	out := plan.Treatment{
		Key: key, Interface: iface, Rate: f.TSpec.Rate, Bucket: f.TSpec.Bucket, Peak: f.TSpec.Peak,
		MinUnit: f.TSpec.MinUnit, MaxPacket: f.TSpec.MaxPacket, Mark: true, Police: true, Reserve: true,
		DSCP: t.config().Mapping.ControlledLoad,
	}
	if p != nil {
		out.Drop = p.Excess == config.ExcessDrop
		if p.Marked {
			out.DSCP = p.DSCP
		}
		out.Cheated = known && g.role == roleSender && cheats(p.TCP) && shard >= 0 && r.Role != softstate.ReceiverProxy
	}
	out.RealTime = out.DSCP == dscp.EF || out.DSCP == dscp.VoiceAdmit
	return out, p, shard
}

func (t *trafficControl) cheatParams(p *config.Policy, ts intserv.TSpec) tcpcheat.Params {
	c := t.config()
	out := tcpcheat.Params{
		Mode: tcpcheat.Realtime, Rate: ts.Rate, Bucket: ts.Bucket, Peak: ts.Peak,
		Predict: c.TCP.Window == config.WindowPredict,
	}
	if p.TCP == config.TCPReliable {
		out.Mode = tcpcheat.Reliable
		// What the receiver drops beyond its edge is still held here and sent
		// again, so prediction costs at most bandwidth.
		out.Predict = c.TCP.Window != config.WindowHonour
	}
	return out
}

// reserved notes a reservation in the flow table.
func (t *trafficControl) reserved(key packet.FlowKey, r softstate.Reserve, tr plan.Treatment, class plan.ClassID, p *config.Policy) {
	now := time.Now()
	note := func(_ *conn, f *flow) {
		if f.reserved.IsZero() {
			f.reserved = now
		}
		f.treated, f.class, f.dscp, f.marked = true, class, tr.DSCP, true
		f.rate = tr.Rate
		if f.state != stateCheated {
			f.state = stateManaged
			f.reason = "reserved"
			if tr.Cheated {
				f.reason = "reserved, cheating is about to start"
			}
		}
	}
	if !t.flows.update(key, note) {
		// RSVP came before the first packet, or the flow is none of ours.
		t.flows.ensure(now, key, int(r.In), int(r.Out), r.Role == softstate.ReceiverProxy, p)
		t.flows.update(key, note)
	}
}

// Release ends a reservation.
func (t *trafficControl) Release(id uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	t.mu.Lock()
	r := t.held[id]
	delete(t.held, id)
	t.mu.Unlock()
	if _, err := t.admit.Release(admissionID(id)); err != nil {
		t.log.Error("ledger did not release", zap.Uint64("reservation", id), zap.Error(err))
	}
	if r == nil {
		return
	}
	for _, key := range r.keys {
		t.giveBack(ctx, r.iface, key, "the reservation has ended")
	}
	t.freed.add()
}

// giveBack takes a flow's treatment away. A flow that still lives is counted on.
func (t *trafficControl) giveBack(ctx context.Context, iface string, key packet.FlowKey, why string) {
	shard, cheated := -1, false
	known := t.flows.update(key, func(c *conn, f *flow) {
		shard, cheated = c.shard, c.shard >= 0 && f.role == roleSender && f.policy != nil && cheats(f.policy.TCP)
		f.reserved, f.class, f.marked, f.dscp, f.rate = time.Time{}, 0, false, 0, 0
		f.state, f.reason = stateWatched, why
	})
	if cheated {
		t.cheat.stop(shard, key)
	}
	var err error
	if known {
		_, err = t.kernel.Install(ctx, plan.Treatment{Key: key, Interface: iface})
	} else {
		err = t.kernel.Remove(ctx, iface, key)
	}
	if err != nil {
		t.log.Error("treatment not given back", zap.Stringer("flow", key), zap.String("interface", iface), zap.Error(err))
	}
}

// view returns a copy of the reservation of an ID.
func (t *trafficControl) view(id uint64) (reservation, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[id]
	if r == nil {
		return reservation{}, false
	}
	return *r, true
}

// receiverProxy decides whether this box answers a PATH, and with what: a
// policy whose role speaks for receivers must claim the flow. What is asked for
// is the policy's TSpec, but never more than the sender announces.
func (t *trafficControl) receiverProxy(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	l := t.links().byIndex[int(i.Out)]
	if l == nil || l.cfg.Zone != config.ZoneHosts {
		return softstate.ReserveSpec{}, false
	}
	p := t.flows.policyOf(flowKey(i.Session, i.Sender))
	if p == nil || p.Reserve == nil || !p.Reserve.HasReceiver() {
		return softstate.ReserveSpec{}, false
	}
	f := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspecOf(p.Reserve.TSpec)}
	return softstate.ReserveSpec{Style: wire.FF, FlowSpec: f.Installed(i.TSpec)}, true
}
