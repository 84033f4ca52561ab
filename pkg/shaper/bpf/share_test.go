package bpf

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// A process that adopts the table gives a guaranteed flow's class the rate that
// it had: never less, and at most 0.002 % more.
func TestShareSurvivesRFC2212(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := plan.Treatment{
			Key: key4, Rate: rapid.Float64Range(1, 1e9).Draw(t, "r"), Bucket: 4000, Peak: math.Inf(1), MaxPacket: 1500,
			Police: true, Reserve: true, Mark: true, RealTime: true, DSCP: 46,
		}
		tr.Share = tr.Rate * rapid.Float64Range(1, 30_000).Draw(t, "R/r")
		spec := specOf(tr, mine, 0, 0)
		got := spec.treatment(tr.Key)
		// The policer's rate is in whole bytes/s, and the class's is not below it.
		if want := max(tr.Share, got.Rate); got.Share < want*(1-1e-9) || got.Share > want*1.00002 {
			t.Fatalf("R %v came back as %v", want, got.Share)
		}
		if spec.Flags&0xff != flagPolice|flagMark || !got.RealTime || !got.Reserve {
			t.Fatalf("flags %#x", spec.Flags)
		}
		if again := specOf(got, mine, 0, 0); again.Flags != spec.Flags {
			t.Fatalf("flags %#x, then %#x", spec.Flags, again.Flags)
		}
	})
	if s := specOf(plan.Treatment{Rate: 1000, Reserve: true}, mine, 0, 0); s.share() != 0 {
		t.Errorf("controlled load has a share of %v", s.share())
	}
	if s := specOf(plan.Treatment{Rate: 1, Share: 40e12, Reserve: true}, mine, 0, 0); s.share() < 30_000 {
		t.Errorf("the most that can be noted is %v times the rate", s.share())
	}
}
