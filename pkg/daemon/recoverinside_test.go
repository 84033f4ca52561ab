package daemon

import (
	"errors"
	"math"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const aggregatorConfig = `
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit, aggregate: {}}
`

// aggregateFrom is the request of an aggregate that begins here.
func aggregateFrom(id uint64, rate float64, dst string) softstate.Reserve {
	r := request(id, rate)
	r.Session = wire.Session{Format: wire.FormatAggregate, Dst: netip.MustParseAddr(dst), DSCP: dscp.AF31}
	r.Filters = []wire.Filter{{Format: wire.FormatAggregate, Src: netip.MustParseAddr("192.0.2.1")}}
	r.In = 0
	return r
}

// rider is a call in an aggregate.
func rider(id uint64, rate float64, in softstate.Reserve) softstate.Reserve {
	r := call(id, rate, 0, 0)
	s := in.Session
	r.Aggregate = &s
	return r
}

func (r rig) inUse(t *testing.T) int64 {
	t.Helper()
	return r.used(t).Bandwidth
}

// RFC 3175 section 2.8 and RFC 5063 section 4.5.2.2: an aggregator that comes back
// counts what had been in aggregates once. The aggregate takes its place, then what
// rides in it comes again, and nobody else gets anything of it meanwhile.
func TestAdoptedInAggregatesIsCountedOnceRFC3175Section2_8(t *testing.T) {
	r := controlOf(t, aggregatorConfig)
	free := r.used(t).Free
	r.adopt(callKey(1), free*0.3)
	r.adopt(callKey(2), free*0.3)
	before := r.inUse(t)
	if want := free * 0.6; math.Abs(float64(before)-want) > 10 {
		t.Fatalf("%d bytes/s are counted, want %.0f", before, want)
	}
	if refusal := r.Reserve(call(9, free*0.5, 0, 0)); refusal == nil {
		t.Fatal("over-admission")
	}
	if got := r.inUse(t); got != before {
		t.Errorf("after a refusal %d bytes/s are counted, not %d", got, before)
	}
	agg := aggregateFrom(3, free*0.7, "192.0.2.9")
	if refusal := r.Reserve(agg); refusal != nil {
		t.Fatal(refusal)
	}
	want := r.inUse(t)
	if math.Abs(float64(want)-free*0.7) > 10 {
		t.Errorf("%d bytes/s with the aggregate, want %.0f", want, free*0.7)
	}
	for id := uint64(1); id <= 2; id++ {
		if refusal := r.Reserve(rider(id, free*0.3, agg)); refusal != nil {
			t.Fatal(refusal)
		}
	}
	if got := r.inUse(t); got != want {
		t.Errorf("%d bytes/s when all have come again", got)
	}
	r.forfeit()
	r.Release(1)
	r.Release(2)
	r.Release(3)
	if u := r.used(t); u.Reservations != 0 || u.Free != free || len(r.left)+len(r.inside.flows)+len(r.inside.sums) != 0 {
		t.Errorf("left: %+v, %+v", u, r.inside)
	}
}

// With several aggregates of one DSCP each takes no more than itself, in steps: what
// is left of the others is held as long as they have not come.
func TestAdoptedInSeveralAggregates(t *testing.T) {
	r := controlOf(t, aggregatorConfig)
	free := r.used(t).Free
	for i := 1; i <= 4; i++ {
		r.adopt(callKey(i), free*0.2)
	}
	sum := func(part float64) {
		t.Helper()
		if got := r.inUse(t); math.Abs(float64(got)-free*part) > 10 {
			t.Errorf("%d bytes/s are counted, want %.0f", got, free*part)
		}
	}
	first, second := aggregateFrom(10, free*0.2, "192.0.2.9"), aggregateFrom(11, free*0.4, "192.0.2.13")
	for _, ask := range []softstate.Reserve{first, second} {
		if refusal := r.Reserve(ask); refusal != nil {
			t.Fatal(refusal)
		}
		sum(0.8)
	}
	first.Change = true
	first.FlowSpec, first.SenderTSpec = spec(free*0.5), spec(free*0.5).TSpec
	if refusal := r.Reserve(first); refusal != nil {
		t.Fatal(refusal)
	}
	sum(0.9)
	// One that is too large is refused, and takes nothing.
	second.Change = true
	second.FlowSpec, second.SenderTSpec = spec(free*0.6), spec(free*0.6).TSpec
	if refusal := r.Reserve(second); refusal == nil {
		t.Error("over-admission")
	}
	sum(0.9)
}

// A flow that comes again without an aggregate takes its own place, and gives it back
// where the kernel refuses.
func TestAdoptedThatWasNotInAnAggregate(t *testing.T) {
	r := controlOf(t, aggregatorConfig)
	free := r.used(t).Free
	r.adopt(callKey(1), free*0.5)
	r.adopt(callKey(2), free*0.4)
	before := r.inUse(t)
	r.fake.fail = errors.New("out of memory")
	if refusal := r.Reserve(call(1, free*0.5, 0, 0)); refusal == nil {
		t.Fatal("granted without a kernel")
	}
	if got := r.inUse(t); got != before {
		t.Errorf("not programmed: %d bytes/s, not %d", got, before)
	}
	r.fake.fail = nil
	if refusal := r.Reserve(call(1, free*0.7, 0, 0)); refusal == nil {
		t.Fatal("it takes the other's place")
	}
	if refusal := r.Reserve(call(1, free*0.5, 0, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	if got := r.inUse(t); math.Abs(float64(got-before)) > 2 {
		t.Errorf("%d bytes/s, not %d", got, before)
	}
	// The other's flow ends.
	r.uncount(t.Context(), callKey(2), "wan0")
	if got := r.inUse(t); math.Abs(float64(got)-free*0.5) > 10 {
		t.Errorf("%d bytes/s are left", got)
	}
	if s, err := r.admit.Sum(admission.LevelAccount("wan0", dscp.AF31)); err != nil || math.Abs(float64(s)-free*0.5) > 10 {
		t.Errorf("%d bytes/s are left of its level, %v", s, err)
	}
}

// What nobody claims goes with its treatment.
func TestAdoptedInsideUnclaimed(t *testing.T) {
	r := controlOf(t, aggregatorConfig)
	free := r.used(t).Free
	r.adopt(callKey(1), free*0.3)
	r.adopt(callKey(2), free*0.3)
	r.forfeit()
	if got := r.inUse(t); math.Abs(float64(got)-free*0.6) > 10 {
		t.Errorf("the kernel still has them: %d", got)
	}
	clear(r.fake.adopted) // Reconcile
	r.forfeit()
	if u := r.used(t); u.Free != free || u.Reservations != 0 || len(r.inside.flows)+len(r.inside.sums) != 0 {
		t.Errorf("%+v %+v", u, r.inside)
	}
}
