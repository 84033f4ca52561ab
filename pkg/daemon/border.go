package daemon

import (
	"context"
	"crypto/sha256"
	"math"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// This file is about what is done to traffic that no reservation covers: its
// contract by DSCP, and policies that bound what they match.

// inForce chooses of the rows that an SLS table has for a class; nil: none is in
// force.
type inForce func([]config.ServiceLevel) *config.ServiceLevel

// inForceAt chooses the row of a time of day.
func inForceAt(t time.Duration) inForce {
	return func(rows []config.ServiceLevel) *config.ServiceLevel {
		if i := slices.IndexFunc(rows, func(s config.ServiceLevel) bool { return s.At(t) }); i >= 0 {
			return &rows[i]
		}
		return nil
	}
}

// largest chooses what delays others most, whenever it is.
func largest(rows []config.ServiceLevel) *config.ServiceLevel {
	most := &rows[0]
	for i := range rows {
		if rows[i].Rate > most.Rate {
			most = &rows[i]
		}
	}
	return most
}

// planned is what an interface of the configuration is to be in the kernel.
func planned(i *config.Interface, choose inForce) plan.Interface {
	out := plan.Interface{
		Name: i.Name, Capacity: i.Capacity, Overbooking: i.Overbooking, EF: efModel(i.EFModel),
		ResetDSCP: i.Trust == config.TrustNone, Policed: i.Trust == config.TrustPoliced,
		Levels: levels(i.SLS, choose), Arriving: levels(i.Arriving, choose), ByDSCP: i.Classify == config.ClassifyDSCP,
	}
	for code, to := range i.PCP {
		out.PCP.Set(code, to)
	}
	if i.Capacity > 0 {
		out.BestEffort = float64(i.BestEffort) / float64(i.Capacity)
	}
	return out
}

func efModel(m config.EFModel) plan.EFModel {
	if m == config.EFPriority {
		return plan.EFPriority
	}
	return plan.EFPolicer
}

// levels are the classes of an SLS table, sorted by DSCP. One that has no row in
// force has nothing.
func levels(sls []config.ServiceLevel, choose inForce) (list []plan.Level) {
	rows := map[uint8][]config.ServiceLevel{}
	for _, s := range sls {
		rows[s.Class] = append(rows[s.Class], s)
	}
	for code := range uint8(64) {
		if len(rows[code]) == 0 {
			continue
		}
		l := plan.Level{DSCP: code, RealTime: realTime(code)}
		excess := rows[code][0].Excess
		if s := choose(rows[code]); s != nil {
			l.Rate, l.Burst, excess = s.Rate, s.Burst, s.Excess
		}
		l.Drop, l.Excess = excess == config.ExcessDrop, excess.DSCP()
		list = append(list, l)
	}
	return list
}

// setPlan is Set that notes what was set. After a failure, and while an interface is
// missing, nothing is noted, so that followContracts tries again. reloadMu is held.
func (d *Daemon) setPlan(ctx context.Context, p plan.Plan) error {
	d.shaped = nil
	err := d.shape.Set(ctx, p)
	if err == nil && len(d.shape.Missing()) == 0 {
		d.shaped = p.Interfaces
	}
	return err
}

// followContracts has the kernel hold traffic to what the contracts say at this
// time of day. What buckets hold and what was counted stays.
func (d *Daemon) followContracts(ctx context.Context, now time.Time) {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	want := wanted(d.cfg.Load(), d.flows.current(), len(d.cheat.handlers), now)
	if reflect.DeepEqual(want.Interfaces, d.shaped) {
		return
	}
	// Once begun it is not given up half-way, though the daemon be stopped.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*kernelTimeout)
	defer cancel()
	if err := d.setPlan(ctx, want); err != nil {
		d.log.Error("interfaces are not shaped as they should be now: it is tried again within a minute", zap.Error(err))
	}
}

// static is what is done to a flow without a reservation: it is counted, and what
// its policy says if that wants none.
func static(f *flow, iface string) plan.Treatment {
	t := plan.Treatment{Key: f.key, Interface: iface}
	if f.state != stateManaged {
		return t
	}
	t.Mark, t.DSCP = f.marked, f.dscp
	p := f.policy
	if p == nil || p.Police == nil {
		return t
	}
	t.Police, t.Drop, t.Excess = true, p.Excess == config.ExcessDrop, p.Excess.DSCP()
	t.Rate, t.Bucket, t.Peak = float64(p.Police.Rate), float64(p.Police.Burst), math.Inf(1)
	if !p.Police.PerFlow {
		t.Group = policyGroup(p.Name)
	}
	return t
}

// policyGroup names what all flows of a policy share on an interface. No session
// has such a name: their protocol is not 0.
func policyGroup(name string) (k packet.FlowKey) {
	sum := sha256.Sum256([]byte("policy " + name))
	copy(k.Src[:], sum[:16])
	copy(k.Dst[:], sum[16:])
	return k
}

// samePolice tells whether two policers are one.
func samePolice(a, b *config.Police) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
