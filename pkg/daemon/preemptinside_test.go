package daemon

import (
	"maps"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// aggregator is a box that has an aggregate of half of the link with two calls in it,
// and one for another deaggregator, more important, with one.
func aggregator(t *testing.T) (r callRig, free float64) {
	t.Helper()
	r = callRig{controlOf(t, aggregatorConfig), map[uint64]softstate.Refusal{}}
	r.withdraw = func(id uint64, why softstate.Refusal) { r.told[id] = why }
	free = r.rig.used(t).Free
	low, high := aggregateFrom(10, free*0.5, "192.0.2.9"), aggregateFrom(11, free*0.2, "192.0.2.13")
	low.Priority = softstate.Priority{Preempting: 2, Defending: 2}
	high.Priority = softstate.Priority{Preempting: 7, Defending: 7}
	r.must(t, low)
	r.must(t, high)
	r.must(t, rider(1, free*0.2, low))
	r.must(t, rider(2, free*0.2, low))
	r.must(t, rider(3, free*0.1, high))
	return r, free
}

// RFC 3181 and RFC 3175 section 2.10: with an aggregate that is preempted all goes
// that rides in it, marks and classes before the newcomer's come.
func TestPreemptedAggregateRFC3175Section2_10(t *testing.T) {
	r, free := aggregator(t)
	var order []packet.FlowKey
	r.fake.watch = func(key packet.FlowKey, tr plan.Treatment, removed bool) {
		if key == callKey(5) && (r.fake.have[callKey(1)].Mark || r.fake.have[callKey(2)].Mark) {
			t.Error("the newcomer is treated before the others have gone")
		}
		order = append(order, key)
	}
	if refusal := r.Reserve(call(5, free*0.6, 2, 9)); refusal == nil {
		t.Fatal("it has preempted what is as important")
	}
	r.must(t, call(5, free*0.6, 3, 9))
	if len(order) == 0 {
		t.Fatal("nothing was treated")
	}
	for id := uint64(1); id <= 2; id++ {
		if got := r.fake.have[callKey(int(id))]; got.Mark || got.Reserve {
			t.Errorf("call %d is still treated: %+v", id, got)
		}
		if r.told[id].Code != wire.ErrPreempted {
			t.Errorf("call %d: %+v", id, r.told[id])
		}
	}
	if r.told[10].Code != wire.ErrPreempted || len(r.told) != 3 || !r.fake.have[callKey(3)].Reserve {
		t.Errorf("%+v", r.told)
	}
	if n, b := r.used(t); n != 3 || b != int64(free*0.2)+int64(free*0.6) {
		t.Errorf("%d reservations of %d bytes/s", n, b)
	}
	for _, id := range []uint64{10, 1, 2} { // RSVP gives back what has gone
		r.Release(id)
	}
	if n, _ := r.used(t); n != 3 {
		t.Errorf("%d reservations", n)
	}
}

// If the kernel refuses the newcomer, the aggregate and what rides in it stand.
func TestPreemptedAggregateTakenBackWhenTheKernelRefuses(t *testing.T) {
	r, free := aggregator(t)
	have := maps.Clone(r.fake.have)
	n, b := r.used(t)
	r.kernel = &refusingKernel{r.fake, func(tr plan.Treatment) bool { return tr.Key == callKey(5) }}
	if refusal := r.Reserve(call(5, free*0.6, 3, 9)); refusal == nil {
		t.Fatal("granted")
	}
	for id := 1; id <= 3; id++ {
		if r.fake.have[callKey(id)] != have[callKey(id)] {
			t.Errorf("call %d: %+v, was %+v", id, r.fake.have[callKey(id)], have[callKey(id)])
		}
	}
	if m, c := r.used(t); m != n || c != b || len(r.told) != 0 {
		t.Errorf("%d reservations of %d bytes/s, was %d of %d; told %+v", m, c, n, b, r.told)
	}
}

// A call never preempts the aggregate that carries it.
func TestRiderDoesNotPreemptItsAggregate(t *testing.T) {
	r, _ := aggregator(t)
	now := &reservation{id: 99, iface: "wan0", ask: rider(99, 1, r.held[10].ask)}
	if r.mayOust(now, admissionID(10)) || !r.mayOust(now, admissionID(11)) || r.mayOust(r.held[10], admissionID(1)) {
		t.Error("what carries and what rides are for each other")
	}
}
