package daemon

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

func counted(t *testing.T, r rig, a admission.Account) int64 {
	t.Helper()
	n, err := r.admit.Sum(a)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// RFC 2998 section 4.1.1, step 8: a reservation counts in the service level that its
// packets are marked for, whoever chose that.
func TestLevelIsTheMark(t *testing.T) {
	for name, tc := range map[string]struct {
		ask   softstate.Reserve
		level admission.Account
		n     int64
	}{
		"the policy's mark":          {request(1, 1e6), "wan0/level/af31", 1e6},
		"an aggregate's DSCP":        {named(1, byEF, wan), "wan0/level/ef", 1e5},
		"an aggregate's PHB":         {named(1, byPHB, wan), "wan0/level/ef", 1e5},
		"of a service, by mapping":   {named(1, bySPI, wan), "wan0/level/af31", 1e5},
		"of guaranteed, by its mark": {guaranteedRequest(1, true), "wan0/level/af31", 30_000},
	} {
		r := testControl(t)
		if name == "of a service, by mapping" {
			tc.ask.Filters[0].SPI = 77
		}
		if refusal := r.Reserve(tc.ask); refusal != nil {
			t.Errorf("%s: %v", name, refusal)
			continue
		}
		if n := counted(t, r, tc.level); n != tc.n {
			t.Errorf("%s: %s has %d, want %d", name, tc.level, n, tc.n)
		}
		for key, tr := range r.fake.have {
			if got := admission.LevelAccount("wan0", tr.DSCP); got != tc.level {
				t.Errorf("%s: %s is marked for %s and counts in %s", name, key, got, tc.level)
			}
		}
		r.Release(1)
		if n := counted(t, r, tc.level); n != 0 {
			t.Errorf("%s: %d left in %s", name, n, tc.level)
		}
	}
}

// A mark that a reload changes takes the reservation to another level.
func TestLevelFollowsTheMark(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.flows.mu.Lock()
	p := &policies{table: r.flows.policies.table, list: append([]config.Policy(nil), r.flows.policies.list...)}
	p.list[0].DSCP = 18
	r.flows.policies = p
	r.flows.mu.Unlock()
	r.reprogram(t.Context(), imagingKey)
	if tr := r.fake.have[imagingKey]; tr.DSCP != 18 {
		t.Errorf("marked %d", tr.DSCP)
	}
	if was, now := counted(t, r, "wan0/level/af31"), counted(t, r, "wan0/level/af21"); was != 0 || now != 1e6 {
		t.Errorf("af31 has %d, af21 has %d", was, now)
	}
	if u, _, err := r.admit.Usage("wan0"); err != nil || u.Reservations != 1 || u.Bandwidth != 1e6 {
		t.Errorf("%+v, %v", u, err)
	}
}
