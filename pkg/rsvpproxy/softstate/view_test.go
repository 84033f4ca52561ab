package softstate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// RFC 2205 section 1.2: each outgoing interface of a group has its own
// reservation. All are seen, and what is told of the sender is of one that is
// in place.
func TestBranchesAreSeenRFC2205Section1_2(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		l := newLab(t, v6)
		l.limit = 4
		see := func(orders string, state State, out IfIndex, want ...BranchView) {
			t.Helper()
			for order := range strings.SplitSeq(orders, "; ") {
				l.do(order)
			}
			v, ok := l.n.Session(l.now, l.group, l.filter("S1"))
			if !ok || v.State != state || v.Out != out {
				t.Errorf("%s: %s by %d, %v; want %s by %d", orders, v.State, v.Out, ok, state, out)
			}
			if diff := cmp.Diff(want, v.Branches, cmpopts.IgnoreFields(BranchView{}, "Reservation"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: -want +got:\n%s", orders, diff)
			}
			for _, b := range v.Branches {
				if (b.State == Reserved) != (b.Reservation != 0) && b.State != Requested {
					t.Errorf("%s: %+v", orders, b)
				}
				if b.Out == out && state == Reserved && b.Reservation != v.Reservation {
					t.Errorf("%s: reservation %d is told, of branch %+v", orders, v.Reservation, b)
				}
			}
		}
		l.members = nil
		see("add S1{5}", Inactive, 0)
		see("members c d; reroute", PathOnly, 3, BranchView{Out: 3, State: PathOnly}, BranchView{Out: 4, State: PathOnly})
		see("resv d R2 FF S1{3}", Reserved, 4, BranchView{Out: 3, State: PathOnly}, BranchView{Out: 4, State: Reserved})
		see("resv c R1 FF S1{2}", Reserved, 3, BranchView{Out: 3, State: Reserved}, BranchView{Out: 4, State: Reserved})
		see("members d; reroute", Reserved, 4, BranchView{Out: 4, State: Reserved})
		see("resvtear d R2 FF S1", PathOnly, 4, BranchView{Out: 4, State: PathOnly})
	}
}
