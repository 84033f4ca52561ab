package etcd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

const (
	wan   = admission.Account("wan0")
	level = admission.Account("wan0/level/af31")
	none  = int64(1<<63 - 1)
)

// box starts a box whose level is shared as "sla", with a limit of 1000.
func box(t *testing.T, c *etcdtest.Cluster, name string, change func(*Options)) *Ledger {
	t.Helper()
	o := Options{
		Endpoints: c.Endpoints(), Prefix: "/test", Box: name, Home: name + "'s", Host: "host", TTL: 8 * time.Second, Timeout: 2 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetShared(map[admission.Account]Shared{level: {Name: "sla", Limit: 1000}}); err != nil {
		t.Fatal(err)
	}
	start(t, l)
	t.Cleanup(func() {
		if err := l.Stop(context.Background(), false); err != nil {
			t.Logf("box %s: %v", name, err)
		}
	})
	return l
}

// start starts a ledger, and waits until it knows how it stands with etcd: on a busy
// machine its first try to register may fail.
func start(t *testing.T, l *Ledger) {
	t.Helper()
	l.Start(10 * time.Second)
	eventually(t, time.Minute, "etcd has an answer", func() bool { return l.Status().State != Starting })
}

// take commits an entry of the level.
func take(l *Ledger, id string, amount int64) (admission.Short, bool, error) {
	return l.Commit(entry(id, amount), []int64{none, 1000})
}

func entry(id string, amount int64) admission.Entry {
	return admission.Entry{ID: admission.ID(id), Link: "wan0", Shares: []admission.Share{{Account: wan, Amount: amount}, {Account: level, Amount: amount}}}
}

func mustTake(t *testing.T, l *Ledger, id string, amount int64) {
	t.Helper()
	if short, ok, err := take(l, id, amount); !ok || err != nil {
		t.Fatalf("%s takes %d: %+v, %v, %v; %+v", id, amount, short, ok, err, l.Status())
	}
}

func mustRemove(t *testing.T, l *Ledger, id string) {
	t.Helper()
	if _, ok, err := l.Remove(admission.ID(id)); !ok || err != nil {
		t.Fatalf("removing %s: %v, %v", id, ok, err)
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// sums are what etcd has of the account, by box.
func sums(t *testing.T, cl *clientv3.Client) map[string]int64 {
	t.Helper()
	got, err := cl.Get(t.Context(), "/test/sums/sla/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, kv := range got.Kvs {
		_, box := keys{prefix: "/test"}.parse(string(kv.Key))
		l, err := parseLine(kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[box] = l.counts()
	}
	return out
}

// Two boxes that draw from one account get no more than it has, and the account
// of each box's own link is nobody else's.
func TestBoxesShareAnAccount(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a, b := box(t, c, "a", nil), box(t, c, "b", nil)
	mustTake(t, a, "1", 600)
	if short, ok, err := take(b, "1", 600); ok || err != nil || short != (admission.Short{Account: level, Used: 600}) {
		t.Fatalf("600 of 400: %+v, %v, %v", short, ok, err)
	}
	if n := b.Len(); n != 0 {
		t.Errorf("a refusal left %d entries", n)
	}
	mustTake(t, b, "1", 400)
	if short, ok, err := b.Commit(entry("2", 1), []int64{400, none}); ok || err != nil || short != (admission.Short{Account: wan, Used: 400}) {
		t.Errorf("the box's own link: %+v, %v, %v", short, ok, err)
	}
	// Less is never refused, and what the same entry has is not counted twice.
	mustTake(t, a, "1", 500)
	eventually(t, 5*time.Second, "b gets what a gave back", func() bool {
		_, ok, err := take(b, "1", 500)
		return ok && err == nil
	})
	if _, ok, _ := take(a, "1", 501); ok {
		t.Error("one too many was granted")
	}
	mustRemove(t, b, "1")
	eventually(t, 5*time.Second, "etcd has what the boxes have", func() bool {
		s := sums(t, c.Client())
		return len(s) == 1 && s["a"] == 500
	})
	eventually(t, 5*time.Second, "a sees that", func() bool {
		n, err := a.Sum(level)
		return err == nil && n == 500
	})
	s := a.Status()
	if len(s.Accounts) != 1 || s.Accounts[0].Held != 500 || s.Accounts[0].Own != 500 || s.Accounts[0].Limit != 1000 || s.State != Connected {
		t.Errorf("status %+v", s)
	}
}

// A box that has gone takes nothing with it: what it held is there for others
// when its lease has ended, and not before.
func TestDeadBoxReturnsItsShare(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a, b := box(t, c, "a", nil), box(t, c, "b", nil)
	mustTake(t, a, "1", 1000)
	died := time.Now()
	if err := a.Stop(t.Context(), true); err != nil { // it falls silent
		t.Fatal(err)
	}
	if _, ok, err := take(b, "1", 1); ok || err != nil {
		t.Fatalf("at once: %v, %v", ok, err)
	}
	eventually(t, time.Minute, "b gets a's share", func() bool {
		_, ok, err := take(b, "1", 1000)
		return ok && err == nil
	})
	t.Logf("after %v of a lease of %v", time.Since(died), a.opts.TTL)
	// One that ends in order gives all back at once.
	if err := b.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if s := sums(t, c.Client()); len(s) != 0 {
		t.Errorf("it left %v", s)
	}
}

// While etcd is out of reach, reservations stay and end here, new ones are
// refused in bounded time with a clear error, and all is told when it is back.
func TestOutOfReach(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	timeout := 500 * time.Millisecond
	a := box(t, c, "a", func(o *Options) { o.Timeout, o.TTL = timeout, 60*time.Second })
	mustTake(t, a, "1", 300)
	mustTake(t, a, "2", 300)
	c.Kill(0)
	began := time.Now()
	_, ok, err := take(a, "3", 1)
	if took := time.Since(began); ok || err == nil || took > timeout+2*time.Second {
		t.Errorf("the first refusal came after %v: %v, %v", took, ok, err)
	}
	for _, want := range []string{"shared account sla", "out of reach", "what is reserved stays, no more is granted"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	eventually(t, 5*time.Second, "the state is known", func() bool { return a.Status().State == Unreachable })
	began = time.Now()
	for range 100 {
		if _, ok, err := take(a, "3", 1); ok || err == nil {
			t.Fatalf("granted without etcd: %v, %v", ok, err)
		}
	}
	if took := time.Since(began); took > timeout {
		t.Errorf("100 more refusals took %v: each waits", took)
	}
	began = time.Now()
	mustRemove(t, a, "1")
	if took := time.Since(began); took > timeout/2 {
		t.Errorf("a release waited for %v", took)
	}
	// What was given back here and not told yet is still this box's.
	mustTake(t, a, "4", 200)
	if _, ok, err := take(a, "5", 101); ok || err == nil {
		t.Errorf("more than that: %v, %v", ok, err)
	}
	if n, _ := a.Sum(level); n != 500 || a.Len() != 2 {
		t.Errorf("%d in %d entries", n, a.Len())
	}
	c.Restart(0)
	eventually(t, 20*time.Second, "etcd knows all", func() bool { return a.Status().State == Connected && sums(t, c.Client())["a"] == 500 })
	mustTake(t, a, "5", 500)
	if s := a.Status().Counters; s.Lost != 0 || s.Over != 0 || s.Failed < 101 {
		t.Errorf("counters %+v", s)
	}
}
