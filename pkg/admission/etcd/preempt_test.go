package etcd

import (
	"context"
	"math"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Reservations of this box make room for one of higher priority in an account that
// others share (RFC 3181); theirs are not for it to take. Whether the newcomer is
// made in the end or not, nobody ever reads in etcd that the account holds more
// than it has, and nobody gets the room in between.
func TestPreemptionStaysWithinTheAccount(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1, false)
	a, b := box(t, cluster, "a", nil), box(t, cluster, "b", nil)
	c := admission.New(a, 100, admission.Link{
		Name: "wan0", Capacity: 1e6, Reservable: 1e6, Contract: true, Levels: []admission.Level{{DSCP: 26, Rate: 1000, Burst: math.Inf(1)}},
	})
	ask := func(id admission.ID, rate float64, priority uint16) admission.Decision {
		flow := intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: rate, Bucket: 1, Peak: math.Inf(1), MinUnit: 1, MaxPacket: 1}}
		return c.AdmitOver(admission.Request{
			ID: id, Link: "wan0", FlowSpec: flow, Level: 26, Priority: admission.Priority{Setup: priority, Hold: priority},
		}, func(admission.ID) bool { return true })
	}
	for id, rate := range map[admission.ID]float64{"1": 300, "2": 200} {
		if d := ask(id, rate, 0); !d.Admitted {
			t.Fatalf("%+v", d)
		}
	}
	mustTake(t, b, "1", 450)

	if d := ask("3", 600, 9); d.Admitted {
		t.Fatalf("the other box's made room: %+v", d)
	}
	// One that cannot be made after all.
	end := c.Together()
	d := ask("3", 340, 9)
	if !d.Admitted || len(d.Preempted) != 1 || d.Preempted[0].ID != "1" {
		t.Fatalf("%+v", d)
	}
	if _, ok, err := take(b, "2", 100); ok || err != nil {
		t.Errorf("somebody got the room in between: %v", err)
	}
	if _, err := c.Release("3"); err != nil {
		t.Fatal(err)
	}
	if err := c.PutBack(d.Preempted); err != nil {
		t.Fatal(err)
	}
	end()
	if n, err := a.Sum(level); n != 950 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// And one that can.
	if d = ask("3", 540, 9); !d.Admitted || len(d.Preempted) != 2 {
		t.Fatalf("%+v", d)
	}
	eventually(t, 5*time.Second, "etcd has what the boxes have", func() bool {
		s := sums(t, cluster.Client())
		return s["a"] == 540 && s["b"] == 450
	})
	mustTake(t, b, "2", 10)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	now := map[string]int64{}
	for r := range cluster.Client().Watch(ctx, "/test/sums/sla/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		for _, e := range r.Events {
			_, name := keys{prefix: "/test"}.parse(string(e.Kv.Key))
			l, err := parseLine(e.Kv.Value)
			if err != nil {
				t.Fatal(err)
			}
			if now[name] = l.counts(); total(now) > 1000 {
				t.Errorf("revision %d: %v", e.Kv.ModRevision, now)
			}
		}
		if now["b"] == 460 {
			return
		}
	}
	t.Errorf("not all was seen: %v", now)
}
