package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// faultyKernel keeps treatments by place as the shaper does: an operation that
// fails has done nothing. One of its operations fails, the others do not.
type faultyKernel struct {
	have    map[shaper.FlowID]plan.Treatment
	adopted map[shaper.FlowID]bool
	steps   int // that succeed before the one that fails; below 0: none fails
}

var errFault = errors.New("the kernel says no")

func (k *faultyKernel) fails() bool {
	k.steps--
	return k.steps == -1
}

func (k *faultyKernel) Install(_ context.Context, t plan.Treatment) (plan.ClassID, error) {
	if k.fails() {
		return 0, errFault
	}
	id := shaper.FlowID{Interface: t.Interface, Key: t.Key}
	k.have[id] = t
	delete(k.adopted, id)
	for other, o := range k.have {
		if t.Grouped() && other.Interface == t.Interface && o.Group == t.Group {
			k.have[other] = o.WithTSpec(t)
		}
	}
	if t.Reserve {
		return plan.FirstPooled, nil
	}
	return 0, nil
}

func (k *faultyKernel) Take(_ context.Context, iface string, key packet.FlowKey) (shaper.Counters, error) {
	if k.fails() {
		return shaper.Counters{}, errFault
	}
	id := shaper.FlowID{Interface: iface, Key: key}
	if _, ok := k.have[id]; !ok {
		return shaper.Counters{}, shaper.ErrNoFlow
	}
	delete(k.have, id)
	delete(k.adopted, id)
	return shaper.Counters{}, nil
}

// Counters never fails: reading undoes nothing.
func (k *faultyKernel) Counters(iface string, key packet.FlowKey) (shaper.Counters, error) {
	if _, ok := k.have[shaper.FlowID{Interface: iface, Key: key}]; !ok {
		return shaper.Counters{}, shaper.ErrNoFlow
	}
	return shaper.Counters{}, nil
}

func (k *faultyKernel) IsAdopted(iface string, key packet.FlowKey) bool {
	return k.adopted[shaper.FlowID{Interface: iface, Key: key}]
}

func (k *faultyKernel) Treatment(iface string, key packet.FlowKey) (plan.Treatment, bool) {
	t, ok := k.have[shaper.FlowID{Interface: iface, Key: key}]
	return t, ok
}

func (k *faultyKernel) Class(iface string, key packet.FlowKey) plan.ClassID {
	if k.have[shaper.FlowID{Interface: iface, Key: key}].Reserve {
		return plan.FirstPooled
	}
	return 0
}

func (k *faultyKernel) Unclaim(iface string, key packet.FlowKey) {
	k.adopted[shaper.FlowID{Interface: iface, Key: key}] = true
}

// account is all that a reservation changes: the kernel, the ledger, and what the
// box shows of the flow.
type account struct {
	Kernel  map[shaper.FlowID]plan.Treatment
	Adopted map[shaper.FlowID]bool
	Ledger  []string
	Owner   map[shaper.FlowID]uint64
	Held    map[uint64]bool
	Torn    map[uint64]bool
	Left    map[shaper.FlowID]plan.Treatment
	Rows    map[string]string
	Cheated map[packet.FlowKey]bool
	Rates   []float64      // of the records that run
	Counted map[uint64]int // rows that serve each
}

type faultRig struct {
	rig
	kernel *faultyKernel
}

func newFaultRig(t *testing.T) *faultRig {
	t.Helper()
	r := &faultRig{rig: testControl(t)}
	r.kernel = &faultyKernel{have: map[shaper.FlowID]plan.Treatment{}, adopted: map[shaper.FlowID]bool{}, steps: -1}
	r.trafficControl.kernel = r.kernel
	return r
}

func (r *faultRig) account(t *testing.T) account {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	a := account{
		Kernel: maps.Clone(r.kernel.have), Adopted: maps.Clone(r.kernel.adopted), Left: maps.Clone(r.left),
		Owner: map[shaper.FlowID]uint64{}, Held: map[uint64]bool{}, Torn: map[uint64]bool{}, Rows: map[string]string{}, Cheated: map[packet.FlowKey]bool{},
	}
	for _, l := range r.links().list {
		entries, err := r.admit.Reservations(l.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			a.Ledger = append(a.Ledger, fmt.Sprintf("%s on %s: %v, %d at once", e.ID, e.Link, e.Shares, e.Burst))
		}
	}
	for id, o := range r.byKey {
		a.Owner[id] = o.id
	}
	a.Counted = map[uint64]int{}
	r.trafficControl.account.read(func(b *accounting.Book, now time.Time) {
		for _, rec := range b.Running(now) {
			a.Rates = append(a.Rates, rec.Rate)
		}
		for id := range r.held {
			a.Counted[id] = len(b.RowsOf(id))
		}
		for id := range r.torn {
			a.Counted[id] = len(b.RowsOf(id))
		}
	})
	for id := range r.held {
		a.Held[id] = true
	}
	for id := range r.torn {
		a.Torn[id] = true
	}
	for key := range r.cheat.running {
		a.Cheated[key] = true
	}
	r.flows.updateAll(func(c *conn) {
		for _, f := range c.dirs {
			if f.present {
				a.Rows[fmt.Sprintf("%s by %d", f.key, f.out)] = fmt.Sprintf("%s class %s dscp %d marked %t rate %.0f reserved %t",
					f.state, f.class, f.dscp, f.marked, f.rate, !f.reserved.IsZero())
			}
		}
	})
	return a
}

var (
	videoKey  = packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("10.2.0.2:7000"))
	plainKey  = packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:9"), netip.MustParseAddrPort("10.2.0.2:9999"))
	otherKey  = packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort("10.1.0.2:8"), netip.MustParseAddrPort("10.2.0.2:9999"))
	branchKey = groupKey
)

// reserveFor asks for a reservation of flows of one session.
func reserveFor(id uint64, style wire.Style, rate float64, out int, keys ...packet.FlowKey) softstate.Reserve {
	r := request(id, rate)
	r.Style, r.Filters, r.Out = style, nil, softstate.IfIndex(out)
	for _, k := range keys {
		s, f := sessionOf(k)
		r.Session = s
		r.Filters = append(r.Filters, f)
	}
	return r
}

// see has the flow table and the kernel learn of a flow's first packet.
func (r *faultRig) see(t *testing.T, key packet.FlowKey, out int) {
	t.Helper()
	from, to := netip.AddrPortFrom(key.SrcAddr(), key.SrcPort).String(), netip.AddrPortFrom(key.DstAddr(), key.DstPort).String()
	v := udpPacket(t, from, to)
	if key.Proto == packet.ProtoTCP {
		v = tcpPacket(t, from, to, packet.FlagSYN)
	}
	for _, f := range r.flows.first(time.Now(), v, lan, out).count {
		iface := r.links().name(f.out)
		if err := r.count(t.Context(), static(&f, iface)); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *faultRig) must(t *testing.T, ask softstate.Reserve) {
	t.Helper()
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
}

// leave has the kernel hold a treatment of an earlier process.
func (r *faultRig) leave(key packet.FlowKey, group packet.FlowKey) {
	f := spec(1e5).TSpec
	tr := plan.Treatment{
		Key: key, Interface: "wan0", Rate: f.Rate, Bucket: f.Bucket, Peak: f.Peak, MinUnit: f.MinUnit, MaxPacket: f.MaxPacket,
		DSCP: 26, Mark: true, Police: true, Reserve: true, Group: group,
	}
	id := shaper.FlowID{Interface: "wan0", Key: key}
	r.kernel.have[id], r.kernel.adopted[id] = tr, true
	r.hold(leftovers([]plan.Treatment{tr}))
}

// A kernel operation that fails half-way leaves the kernel, the ledger and the
// rows as they were, and the requester gets the error (RFC 2205 section 3.11.2):
// whatever the reservation was to replace, whichever of the operations fails.
func TestEveryFailureLeavesAllAsItWas(t *testing.T) {
	shared := func(id uint64, rate float64, senders ...int) softstate.Reserve {
		return sharedRequest(id, wire.SE, rate, senders...)
	}
	change := func(r softstate.Reserve) softstate.Reserve { r.Change = true; return r }
	for name, s := range map[string]struct {
		before func(t *testing.T, r *faultRig)
		ask    softstate.Reserve
	}{
		"a flow that nobody knows": {func(*testing.T, *faultRig) {}, reserveFor(1, wire.FF, 1e5, wan, plainKey)},
		"a flow that is counted": {func(t *testing.T, r *faultRig) {
			r.see(t, imagingKey, wan)
		}, request(1, 1e6)},
		"a flow that a policy marks": {func(t *testing.T, r *faultRig) {
			r.see(t, videoKey, wan)
		}, reserveFor(1, wire.FF, 1e5, wan, videoKey)},
		"two flows, one of which a policy marks": {func(t *testing.T, r *faultRig) {
			r.see(t, videoKey, wan)
		}, reserveFor(1, wire.SE, 1e5, wan, videoKey, packet.FlowKey{
			Src: videoKey.Src, Dst: videoKey.Dst, SrcPort: 77, DstPort: videoKey.DstPort, Proto: videoKey.Proto,
		})},
		"more than before": {func(t *testing.T, r *faultRig) {
			r.see(t, imagingKey, wan)
			r.must(t, request(1, 5e5))
		}, change(request(1, 1e6))},
		"less than before": {func(t *testing.T, r *faultRig) {
			r.must(t, request(1, 1e6))
		}, change(request(1, 5e5))},
		"another interface": {func(t *testing.T, r *faultRig) {
			r.must(t, reserveFor(1, wire.FF, 1e5, wan, plainKey))
		}, change(reserveFor(1, wire.FF, 1e5, lan, plainKey))},
		"senders that share": {func(t *testing.T, r *faultRig) {
			r.see(t, imagingSender(1), wan)
		}, shared(1, 1e6, 0, 1, 2)},
		"one more sender, and more for all": {func(t *testing.T, r *faultRig) {
			r.must(t, shared(1, 5e5, 0, 1))
		}, change(shared(1, 1e6, 0, 1, 2))},
		"one sender less, and less for all": {func(t *testing.T, r *faultRig) {
			r.must(t, shared(1, 1e6, 0, 1, 2))
		}, change(shared(1, 5e5, 1, 2))},
		"all senders are others": {func(t *testing.T, r *faultRig) {
			r.must(t, shared(1, 1e6, 0, 1))
		}, change(shared(1, 1e6, 2, 3))},
		"another style, of what was just taken back": {func(t *testing.T, r *faultRig) {
			r.see(t, imagingKey, wan)
			r.must(t, reserveFor(1, wire.WF, 1e6, wan, imagingKey))
			r.Torn(1)
		}, request(2, 5e5)},
		"several, of what was just taken back one by one": {func(t *testing.T, r *faultRig) {
			r.must(t, reserveFor(1, wire.FF, 1e5, wan, plainKey))
			r.must(t, reserveFor(2, wire.FF, 1e5, wan, otherKey))
			r.Torn(1)
			r.Torn(2)
		}, reserveFor(3, wire.SE, 1e5, wan, plainKey, otherKey)},
		"what an earlier process left": {func(_ *testing.T, r *faultRig) {
			r.leave(plainKey, packet.FlowKey{})
		}, reserveFor(1, wire.FF, 1e5, wan, plainKey)},
		"what an earlier process left, shared now": {func(_ *testing.T, r *faultRig) {
			r.leave(plainKey, packet.FlowKey{})
			r.leave(otherKey, packet.FlowKey{})
		}, reserveFor(1, wire.SE, 1e5, wan, plainKey, otherKey)},
		"what an earlier process left shared": {func(_ *testing.T, r *faultRig) {
			group := groupOf(reserveFor(1, wire.SE, 1e5, wan, plainKey))
			r.leave(plainKey, group)
			r.leave(otherKey, group)
		}, reserveFor(1, wire.SE, 1e5, wan, plainKey, otherKey)},
		"what others have to make room for": {func(t *testing.T, r *faultRig) {
			r.see(t, imagingKey, wan)
			r.must(t, request(1, 1.1e6))
			r.must(t, reserveFor(2, wire.FF, 6e5, wan, plainKey))
		}, func() softstate.Reserve {
			ask := reserveFor(3, wire.FF, 1.8e6, wan, otherKey)
			ask.Priority = softstate.Priority{Preempting: 5, Defending: 5}
			return ask
		}()},
		"a second branch": {func(t *testing.T, r *faultRig) {
			r.see(t, branchKey, wan)
			r.must(t, reserveFor(1, wire.FF, 1e5, wan, branchKey))
		}, reserveFor(2, wire.FF, 1e5, lan, branchKey)},
	} {
		t.Run(name, func(t *testing.T) {
			well := newFaultRig(t)
			s.before(t, well)
			well.must(t, s.ask)
			for steps := 0; ; steps++ {
				r := newFaultRig(t)
				s.before(t, r)
				before := r.account(t)
				r.kernel.steps = steps
				refusal := r.Reserve(s.ask)
				if refusal == nil {
					if steps == 0 {
						t.Fatal("nothing was done in the kernel")
					}
					// What then fails only gives back what the reservation replaced. It is
					// owed, and paid with the next look.
					done := r.kernel.steps >= 0
					if !done && len(r.owed) != 1 {
						t.Errorf("operation %d failed, and %d are owed", steps, len(r.owed))
					}
					r.settleDebts(t.Context())
					if d := cmp.Diff(well.account(t), r.account(t)); d != "" || len(r.owed) > 0 {
						t.Errorf("operation %d failed:\n%s", steps, d)
					}
					if done {
						return
					}
					continue
				}
				if refusal.Code != wire.ErrTCSystem || !errorsText(refusal) {
					t.Errorf("refusal %v", refusal)
				}
				if d := cmp.Diff(before, r.account(t)); d != "" {
					t.Errorf("operation %d failed:\n%s", steps, d)
				}
				// What was there can still be ended, and then all of it is gone.
				for id := range before.Held {
					r.Release(id)
				}
				r.close(false)
				for id, tr := range r.kernel.have {
					if tr.Reserve && !r.kernel.adopted[id] {
						t.Errorf("operation %d failed: at the end there is %+v", steps, tr)
					}
				}
			}
		})
	}
}

// The end of a reservation has nobody to tell: what the kernel does not give back
// at once it gives back later, and until then nobody else is disturbed.
func TestReleaseIsTriedAgain(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, r *faultRig) uint64{
		"counted before": func(t *testing.T, r *faultRig) uint64 {
			r.see(t, imagingKey, wan)
			r.must(t, request(1, 1e6))
			return 1
		},
		"marked before": func(t *testing.T, r *faultRig) uint64 {
			r.see(t, videoKey, wan)
			r.must(t, reserveFor(1, wire.FF, 1e5, wan, videoKey))
			return 1
		},
		"shared": func(t *testing.T, r *faultRig) uint64 {
			r.see(t, imagingSender(1), wan)
			r.must(t, sharedRequest(1, wire.SE, 1e6, 0, 1, 2))
			return 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			well := newFaultRig(t)
			well.Release(before(t, well))
			for steps := 0; ; steps++ {
				r := newFaultRig(t)
				id := before(t, r)
				r.kernel.steps = steps
				r.Release(id)
				failed := r.kernel.steps < 0
				if failed != (len(r.owed) > 0) {
					t.Errorf("operation %d: failed %t, %d are owed", steps, failed, len(r.owed))
				}
				r.settleDebts(t.Context())
				if d := cmp.Diff(well.account(t), r.account(t)); d != "" || len(r.owed) > 0 {
					t.Errorf("operation %d failed:\n%s", steps, d)
				}
				if !failed {
					return
				}
			}
		})
	}
}

// A treatment that is to be another one, after a reload or when its flow is cheated
// no more, is so sooner or later.
func TestReprogramIsTriedAgain(t *testing.T) {
	r := newFaultRig(t)
	r.see(t, imagingKey, wan)
	r.must(t, request(1, 1e6))
	r.flows.update(imagingKey, func(c *conn, _ *flow) { c.shard = -1 })
	r.kernel.steps = 0
	r.reprogram(t.Context(), imagingKey)
	id := shaper.FlowID{Interface: "wan0", Key: imagingKey}
	if !r.kernel.have[id].Cheated || r.debts() != 1 {
		t.Fatalf("%+v, %d are owed", r.kernel.have[id], r.debts())
	}
	r.settleDebts(t.Context())
	if got := r.kernel.have[id]; got.Cheated || !got.Police || r.debts() != 0 {
		t.Errorf("%+v, %d are owed", got, r.debts())
	}
	r.kernel.steps = 0 // one that has ended meanwhile is nobody's
	r.flows.update(imagingKey, func(c *conn, _ *flow) { c.shard = 0 })
	r.reprogram(t.Context(), imagingKey)
	r.Release(1)
	r.settleDebts(t.Context())
	if got := r.kernel.have[id]; got.Reserve || r.debts() != 0 {
		t.Errorf("%+v, %d are owed", got, r.debts())
	}
}

// Somebody who asks for a flow that is owed something settles that.
func TestNewReservationSettlesWhatIsOwed(t *testing.T) {
	r := newFaultRig(t)
	r.see(t, imagingKey, wan)
	r.must(t, request(1, 1e6))
	r.kernel.steps = 0
	r.Release(1)
	if len(r.owed) != 1 {
		t.Fatalf("%d are owed", len(r.owed))
	}
	r.must(t, request(2, 5e5))
	r.settleDebts(t.Context())
	if got := r.kernel.have[shaper.FlowID{Interface: "wan0", Key: imagingKey}]; !got.Reserve || got.Rate != 5e5 || len(r.owed) > 0 {
		t.Errorf("%+v, %d are owed", got, len(r.owed))
	}
}

func errorsText(r *softstate.Refusal) bool { return len(r.Text) > len(errFault.Error()) }
