package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

// A quota lets a box go on for a while without etcd. It is counted from what etcd
// knew, ends at what the account had left when it was seen last, and is told when
// etcd is back.
func TestQuota(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	b := box(t, c, "b", nil)
	mustTake(t, b, "1", 500)
	a := box(t, c, "a", func(o *Options) { o.Timeout, o.TTL = 300*time.Millisecond, 60*time.Second })
	if err := a.SetShared(map[admission.Account]Shared{level: {Name: "sla", Limit: 1000, Quota: 250}}); err != nil {
		t.Fatal(err)
	}
	mustTake(t, a, "1", 300)
	c.Kill(0)
	mustTake(t, a, "2", 150)
	if _, ok, err := take(a, "3", 51); ok || err == nil {
		t.Errorf("650 + 51 and 500 of b's are more than the 1000 that there were: %v, %v", ok, err)
	}
	if n := a.Status().Counters.ByQuota; n != 1 {
		t.Errorf("%d by quota", n)
	}
	mustRemove(t, a, "1")
	mustTake(t, a, "3", 350)
	mustRemove(t, a, "2")
	mustRemove(t, a, "3")
	mustTake(t, a, "4", 500)
	if _, ok, err := take(a, "5", 60); ok || err == nil {
		t.Errorf("300 that etcd knew and a quota of 250 are 550: %v, %v", ok, err)
	}
	c.Restart(0)
	eventually(t, 20*time.Second, "it is settled", func() bool { return sums(t, c.Client())["a"] == 500 })
}

// A box that cannot reach etcd for longer than its lease lives keeps its
// reservations and registers them anew, though others have taken the share
// meanwhile. That is told, and nothing new is granted until it fits again.
func TestLeaseEndsThoughTheBoxLives(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	wires, through := c.Wires(t)
	a := box(t, c, "a", func(o *Options) { o.Endpoints, o.TTL, o.Timeout = through, time.Second, 500*time.Millisecond })
	b := box(t, c, "b", nil)
	mustTake(t, a, "1", 700)
	wires[0].Cut(true)
	eventually(t, 20*time.Second, "b gets a's share", func() bool {
		_, ok, err := take(b, "1", 800)
		return ok && err == nil
	})
	mustRemove(t, a, "1")
	if _, ok, err := take(a, "2", 1); ok || err == nil {
		t.Errorf("what was given back is not this box's any more: %v, %v", ok, err)
	}
	if err := commitAnyway(a, "1", 700); err != nil { // in force already, whatever is left
		t.Fatal(err)
	}
	wires[0].Cut(false)
	eventually(t, 20*time.Second, "a is registered anew", func() bool {
		s := sums(t, c.Client())
		return s["a"] == 700 && s["b"] == 800
	})
	eventually(t, 5*time.Second, "a tells", func() bool {
		n := a.Status().Counters
		return n.Lost >= 1 && n.Over >= 1
	})
	if _, ok, err := take(a, "2", 1); ok || err != nil {
		t.Errorf("over the limit: %v, %v", ok, err)
	}
	mustTake(t, a, "1", 100)
	eventually(t, 5*time.Second, "it fits again", func() bool {
		_, ok, err := take(a, "2", 100)
		return ok && err == nil
	})
}

// commitAnyway commits without limits: what is in force already.
func commitAnyway(l *Ledger, id string, amount int64) error {
	_, ok, err := l.Commit(entry(id, amount), []int64{none, none})
	if err == nil && !ok {
		return fmt.Errorf("refused without a limit")
	}
	return err
}

// A process that follows on another of the same box takes its place over, and
// what it found in force is never less than nothing in between.
func TestRestartTakesOver(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a, b := box(t, c, "a", nil), box(t, c, "b", nil)
	mustTake(t, a, "1", 800)
	if err := a.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	cl := c.Client()
	if s := sums(t, cl); s["a"] != 800 {
		t.Fatalf("the first has left %v", s)
	}
	// Only now: it may have told of its 800 more than once.
	var low atomic.Value
	ctx, cancel := context.WithCancel(t.Context())
	events := cl.Watch(ctx, keys{"/test", "a"}.own("sla"))
	var seen sync.WaitGroup
	seen.Go(func() {
		for r := range events {
			for _, e := range r.Events {
				if l, err := parseLine(e.Kv.Value); err != nil || l.Sum != 700 {
					low.Store(e.String())
				}
			}
		}
	})
	next, err := New(a.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := commitAnyway(next, "left by an earlier process", 700); err != nil {
		t.Fatal(err)
	}
	if err := next.SetShared(map[admission.Account]Shared{level: {Name: "sla", Limit: 1000}}); err != nil {
		t.Fatal(err)
	}
	start(t, next)
	defer func() { _ = next.Stop(context.Background(), false) }()
	if s := next.Status(); s.State != Connected {
		t.Fatalf("%+v", s)
	}
	eventually(t, 5*time.Second, "what the first had and the second has not is free", func() bool {
		_, ok, err := take(b, "1", 300)
		return ok && err == nil
	})
	if _, ok, _ := take(b, "2", 1); ok {
		t.Error("one too many")
	}
	time.Sleep(a.opts.TTL + time.Second) // the first's lease ends, and takes nothing along
	if s := sums(t, cl); s["a"] != 700 {
		t.Errorf("%v", s)
	}
	cancel()
	seen.Wait()
	if e := low.Load(); e != nil {
		t.Errorf("in between etcd had something else of the box: %v", e)
	}
}

// Two boxes with one name are told, and the second gets nothing.
func TestOneNameForTwo(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a := box(t, c, "a", nil)
	mustTake(t, a, "1", 100)
	twin := box(t, c, "a", func(o *Options) { o.Home, o.Host = "elsewhere", "other" })
	if s := twin.Status(); s.State != Taken || !strings.Contains(s.Reason, "a's on host") {
		t.Fatalf("%+v", s)
	}
	if _, ok, err := take(twin, "1", 1); ok || err == nil || !strings.Contains(err.Error(), "name taken") {
		t.Errorf("%v, %v", ok, err)
	}
	mustTake(t, a, "2", 100)
	if s := sums(t, c.Client()); s["a"] != 200 {
		t.Errorf("%v", s)
	}
	if err := a.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the second has the name when the first has gone", func() bool {
		_, ok, err := take(twin, "1", 1000)
		return ok && err == nil
	})
}

// What is given back and put back within Together is never anybody else's.
func TestTogether(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a, b := box(t, c, "a", nil), box(t, c, "b", nil)
	mustTake(t, a, "1", 900)
	end := a.Together()
	mustRemove(t, a, "1")
	mustTake(t, a, "2", 500)
	mustRemove(t, a, "2")
	for range 20 {
		if _, ok, err := take(b, "1", 200); ok || err != nil {
			t.Fatalf("b got what a may put back: %v, %v", ok, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	mustTake(t, a, "1", 900)
	end()
	end()
	mustRemove(t, a, "1")
	eventually(t, 5*time.Second, "b gets it afterwards", func() bool {
		_, ok, err := take(b, "1", 1000)
		return ok && err == nil
	})
}

// What was prepared is committed without etcd, and given back if it is not.
func TestPrepare(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a := box(t, c, "a", func(o *Options) { o.TTL = time.Minute })
	end := a.Together()
	a.Prepare(entry("1", 400), []int64{none, 1000})
	c.Kill(0)
	mustTake(t, a, "1", 400)
	end()
	c.Restart(0)
	eventually(t, 20*time.Second, "etcd has it", func() bool { return a.Status().State == Connected })
	a.Prepare(entry("2", 400), []int64{none, 1000})
	eventually(t, 5*time.Second, "what nobody commits is given back", func() bool { return sums(t, c.Client())["a"] == 400 })
}

// What was prepared in vain is refused without asking again, with the same figures:
// the commit is made while packets wait. Less is asked for.
func TestPrepareInVain(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	var exchanges atomic.Int64
	a := box(t, c, "a", nil)
	b := box(t, c, "b", func(o *Options) {
		o.dial = []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			exchanges.Add(1)
			return invoke(ctx, method, req, reply, cc, opts...)
		})}
	})
	mustTake(t, a, "1", 800)
	end := b.Together()
	b.Prepare(entry("1", 300), []int64{none, 1000})
	asked, refused := exchanges.Load(), b.Status().Counters.Refused
	if short, ok, err := take(b, "1", 300); ok || err != nil || short != (admission.Short{Account: level, Used: 800}) {
		t.Errorf("%+v, %v, %v", short, ok, err)
	}
	if n := exchanges.Load() - asked; asked == 0 || n != 0 || b.Status().Counters.Refused != refused {
		t.Errorf("%d exchanges, and %d more for what had been refused; %+v", asked, n, b.Status().Counters)
	}
	mustTake(t, b, "1", 200)
	end()
	mustRemove(t, a, "1")
	eventually(t, 5*time.Second, "there is room, and it is asked for", func() bool {
		_, ok, err := take(b, "1", 300)
		return ok && err == nil
	})
}

// What grows in no shared account does not wait for a commit that waits for etcd.
func TestOthersDoNotWait(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	asking, answer := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	a := box(t, c, "a", func(o *Options) {
		o.Timeout = 5 * time.Second
		o.dial = []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if strings.HasSuffix(method, "/Txn") && armed.CompareAndSwap(true, false) {
				close(asking)
				<-answer
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		})}
	})
	mustTake(t, a, "1", 300)
	eventually(t, 5*time.Second, "all is told", func() bool { return sums(t, c.Client())["a"] == 300 })
	armed.Store(true)
	var waiting sync.WaitGroup
	waiting.Go(func() { a.Prepare(entry("2", 300), []int64{none, 1000}) })
	<-asking
	done := make(chan error, 1)
	go func() { done <- commitAnyway(a, "3", 50) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("it waits for etcd's answer to another")
	}
	close(answer)
	waiting.Wait()
	eventually(t, 5*time.Second, "etcd has both", func() bool { return sums(t, c.Client())["a"] == 350 })
}

// late holds back the first transaction that it is told to, and answers that
// nobody knows what became of it.
type late struct {
	armed   atomic.Bool
	deliver chan struct{}
	done    chan error
}

func (d *late) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !strings.HasSuffix(method, "/Txn") || !d.armed.CompareAndSwap(true, false) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	go func() {
		<-d.deliver
		d.done <- invoke(context.WithoutCancel(ctx), method, req, reply, cc, opts...)
	}()
	return status.Error(codes.Unavailable, "the answer was lost")
}

// A write that arrives after the box has given it up and written something else
// changes nothing: here a decrease that would hide what is reserved.
func TestLateWriteChangesNothing(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	d := &late{deliver: make(chan struct{}), done: make(chan error, 1)}
	a := box(t, c, "a", func(o *Options) { o.dial = []grpc.DialOption{grpc.WithUnaryInterceptor(d.intercept)} })
	b := box(t, c, "b", nil)
	mustTake(t, a, "1", 300)
	mustTake(t, a, "2", 300)
	d.armed.Store(true)
	mustRemove(t, a, "1") // tells etcd of 300, late
	eventually(t, 5*time.Second, "it is on its way", func() bool { return !d.armed.Load() })
	mustTake(t, a, "3", 600)
	close(d.deliver)
	if err := <-d.done; err != nil {
		t.Fatal(err)
	}
	if s := sums(t, c.Client()); s["a"] != 900 {
		t.Errorf("the late write has changed %v", s)
	}
	if _, ok, err := take(b, "1", 101); ok || err != nil {
		t.Errorf("b: %v, %v", ok, err)
	}
	mustTake(t, b, "1", 100)
}

// What was granted is told as held, even if a look at the account has failed
// since, and nothing else happens.
func TestGrantedIsHeldInTheEnd(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1, false)
	a, b := box(t, c, "a", func(o *Options) { o.TTL = time.Minute }), box(t, c, "b", nil)
	for i := range int64(3) { // when it has seen these it follows the others, and reads no more by itself
		mustTake(t, b, "1", 10*(i+1))
		eventually(t, 20*time.Second, "a sees what b has", func() bool {
			n, err := a.Sum(level)
			return err == nil && n == 10*(i+1)
		})
	}
	mustTake(t, a, "1", 300)
	a.mu.Lock()
	pots := []*pot{a.of[level]}
	a.mu.Unlock()
	a.forget(pots)
	a.nudge()
	cl := c.Client()
	eventually(t, 20*time.Second, "it is told", func() bool {
		got, err := cl.Get(t.Context(), a.keys.own("sla"))
		return err == nil && len(got.Kvs) == 1 && string(got.Kvs[0].Value) == `{"sum":300,"limit":1000}`
	})
}
