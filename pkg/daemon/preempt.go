package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// holderOf is the reservation that an entry of the ledger stands for; nil: it is
// none that is in place here.
func (t *trafficControl) holderOf(id admission.ID) *reservation {
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return nil // an earlier process's: it waits for its neighbours
	}
	return t.held[n]
}

// mayOust says whether a reservation may be taken for another one: it is in place,
// and none of its flows is one of the other's. t.mu is held.
func (t *trafficControl) mayOust(now *reservation, id admission.ID) bool {
	r := t.holderOf(id)
	if r == nil || r.id == now.id || r.ridesIn(now) || now.ridesIn(r) {
		return false
	}
	for _, key := range now.keys {
		if t.byKey[place(now.iface, key)] == r {
			return false
		}
	}
	return true
}

// holders are the reservations that go with entries of the ledger: with an aggregate
// that begins here all that rides in it, which nothing carries any more (RFC 3175
// section 2.10).
func (t *trafficControl) holders(entries []admission.Entry) (list []*reservation) {
	for i := range entries {
		r := t.holderOf(entries[i].ID)
		if r == nil {
			continue
		}
		list = append(list, r)
		if beginsHere(&r.ask) {
			list = append(list, t.ridersOf(r)...)
		}
	}
	slices.SortStableFunc(list, func(a, b *reservation) int { return cmp.Compare(a.id, b.id) })
	return slices.CompactFunc(list, func(a, b *reservation) bool { return a == b }) // a rider may be one of them by its user's account
}

// ridersOf are the reservations in an aggregate.
func (t *trafficControl) ridersOf(aggregate *reservation) (list []*reservation) {
	for _, r := range t.held {
		if r.ridesIn(aggregate) {
			list = append(list, r)
		}
	}
	return list
}

// ridesIn tells whether an aggregate carries a reservation.
func (r *reservation) ridesIn(aggregate *reservation) bool {
	return r.ask.Aggregate != nil && r.iface == aggregate.iface && beginsHere(&aggregate.ask) &&
		r.ask.Aggregate.Key() == aggregate.ask.Session.Key()
}

// replace programs a reservation in the place of those that it preempts (RFC
// 3181), which have made room in the ledger: their marks and classes, and those of
// all that rides in them, go from the kernel before its own come. If the kernel refuses, all of that comes back, and
// nobody is told anything. t.mu is held.
func (t *trafficControl) replace(ctx context.Context, now *reservation, preempted []admission.Entry) error {
	victims := t.holders(preempted)
	for i, v := range victims {
		if err := t.unmark(ctx, v); err != nil {
			t.undo(ctx, now, nil, t.held[now.id])
			t.reinstate(ctx, victims[:i+1], preempted)
			return fmt.Errorf("making room: %w", err)
		}
	}
	if err := t.program(ctx, now); err != nil {
		t.reinstate(ctx, victims, preempted)
		return err
	}
	for _, v := range victims {
		t.oust(v, softstate.Refusal{Code: wire.ErrPreempted, Text: "preempted by " + now.String(), By: &softstate.Priority{
			Preempting: now.priority.Setup, Defending: now.priority.Hold,
		}})
		t.ousted.add()
	}
	return nil
}

// unmark takes a reservation's treatment from the kernel; its flows are counted on.
func (t *trafficControl) unmark(ctx context.Context, r *reservation) error {
	for _, key := range r.keys {
		if t.byKey[place(r.iface, key)] != r {
			continue
		}
		if _, err := t.kernel.Install(ctx, plan.Treatment{Key: key, Interface: r.iface}); err != nil {
			return err
		}
		t.paid(r.iface, key)
	}
	return nil
}

// reinstate is the reverse, in the ledger too. What the kernel does not take back
// at once is owed.
func (t *trafficControl) reinstate(ctx context.Context, list []*reservation, preempted []admission.Entry) {
	if err := t.admit.PutBack(preempted); err != nil {
		t.log.Error("ledger not brought back", zap.Error(err))
	}
	for _, r := range list {
		for _, key := range r.keys {
			if t.byKey[place(r.iface, key)] != r {
				continue
			}
			m := r.members[key]
			if class, err := t.kernel.Install(ctx, m.put); err == nil {
				m.class = class
				t.paid(r.iface, key)
			} else {
				t.bring(ctx, debt{Treatment: m.put})
			}
			t.note(key, r, t.flows.policyOf(key))
		}
	}
}

// oust ends a reservation and tells RSVP why.
func (t *trafficControl) oust(r *reservation, why softstate.Refusal) {
	delete(t.held, r.id)
	t.end(r.id, r, why.Text)
	t.log.Info("reservation withdrawn", zap.Stringer("reservation", r), zap.String("link", r.iface), zap.String("why", why.Text))
	if t.withdraw != nil {
		t.withdraw(r.id, why)
	}
}

// withdrawn tells RSVP of a reservation that traffic control has ended.
func (d *Daemon) withdrawn(id uint64, why softstate.Refusal) {
	if err := d.rsvp.Withdraw(id, why); err != nil && !errors.Is(err, rsvpproxy.ErrStopped) {
		d.log.Error("RSVP was not told of a reservation's end", zap.Uint64("reservation", id), zap.Error(err))
	}
}

// String names a reservation for those that it has preempted.
func (r *reservation) String() string {
	s := r.ask.Session.String()
	if len(r.keys) > 0 {
		s = r.keys[0].String()
		if len(r.keys) > 1 {
			s = fmt.Sprintf("%d senders to %v", len(r.keys), r.keys[0].DstAddr())
		}
	}
	if r.user != "" {
		s += " of user " + r.user
	}
	return fmt.Sprintf("%s (priority %d)", s, r.priority.Setup)
}
