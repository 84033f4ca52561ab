package plan

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// An overbooked flow has its part for certain and may borrow all it is owed; what
// has a service rate of its own (RFC 2212) is not overbooked.
func TestOverbookedFlowClass(t *testing.T) {
	itf := Interface{Name: "wan0", Capacity: 2_375_000, Overbooking: 2}
	whole := FlowClass(Interface{Name: "wan0", Capacity: 2_375_000}, DefaultFacts, Treatment{Rate: 1e6, Bucket: 64000}, FirstPooled)
	half := FlowClass(itf, DefaultFacts, Treatment{Rate: 1e6, Bucket: 64000}, FirstPooled)
	if half.Rate != (whole.Rate+1)/2 || half.Ceil != whole.Ceil || half.Leaf != whole.Leaf {
		t.Errorf("%+v of %+v", half, whole)
	}
	cheated := FlowClass(itf, DefaultFacts, Treatment{Rate: 1e6, Bucket: 64000, Cheated: true}, FirstPooled)
	if cheated.Rate != half.Rate || cheated.Ceil != whole.Rate {
		t.Errorf("a cheated flow is shaped to its rate: %+v", cheated)
	}
	g := Treatment{Rate: 1e6, Bucket: 64000, Share: 1e6, MinUnit: 64}
	if got, want := FlowClass(itf, DefaultFacts, g, FirstPooled), FlowClass(Interface{Capacity: itf.Capacity}, DefaultFacts, g, FirstPooled); got != want {
		t.Errorf("guaranteed service: %+v, want %+v", got, want)
	}
}

// Admission lets no burst in that has no room in the queue of its class.
func TestQueueHoldsWhatIsAdmitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := Treatment{
			Rate: 1e6, Bucket: rapid.Float64Range(0, MaxBucket).Draw(t, "b"), Peak: math.Inf(1), MinUnit: rapid.Uint32Range(leastUnit, 1500).Draw(t, "m"),
			RealTime: rapid.Bool().Draw(t, "real time"), Cheated: rapid.Bool().Draw(t, "cheated"), Reserve: true,
		}
		queued := tr.Bucket * float64(tr.MinUnit+DefaultFacts.Header) / float64(tr.MinUnit)
		if queued > MostQueued {
			return
		}
		c := FlowClass(Interface{Capacity: rapid.Uint64Range(minCapacity, 1e9).Draw(t, "capacity")}, DefaultFacts, tr, FirstPooled)
		if float64(c.Leaf.Limit) < queued {
			t.Fatalf("a queue of %d for %.0f bytes of %+v", c.Leaf.Limit, queued, tr)
		}
	})
}
