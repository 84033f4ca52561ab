package etcd

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

// limits are what the shared accounts of the chaos have.
var limits = map[string]int64{"region": 3000, "sla": 1000}

// chaos is three boxes, of which each admits and releases at random, while boxes
// and members of etcd are killed and started again, and while answers are lost
// and requests arrive late.
type chaos struct {
	t       *testing.T
	cluster *etcdtest.Cluster
	boxes   []*chaosBox
	calm    atomic.Bool // nothing fails any more
	count   struct{ granted, refused, failed, kills, killedMembers, lost atomic.Int64 }

	mu   sync.Mutex
	real map[string]int64 // what boxes that live have granted, by account
	over []string         // when that was too much
}

// chaosBox is one box; its process changes.
type chaosBox struct {
	c       *chaos
	name    string
	mu      sync.Mutex
	process *process // nil: dead
}

// process is one life of a box.
type process struct {
	l    *Ledger
	dead bool                      // chaos.mu
	held map[admission.ID][2]int64 // chaos.mu: of region and sla
}

// amounts are what an entry takes of the accounts.
func (c *chaos) add(p *process, id admission.ID, now [2]int64) {
	was := p.held[id]
	c.real["region"] += now[0] - was[0]
	c.real["sla"] += now[1] - was[1]
	if now == [2]int64{} {
		delete(p.held, id)
	} else {
		p.held[id] = now
	}
	for a, limit := range limits {
		if c.real[a] > limit {
			c.over = append(c.over, fmt.Sprintf("boxes that live have granted %d of %d of %s", c.real[a], limit, a))
		}
	}
}

// grows notes what was granted, unless the process died before it could use it.
func (c *chaos) grows(p *process, id admission.ID, now [2]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.dead {
		c.add(p, id, now)
	}
}

// shrinks notes what is about to be given back.
func (c *chaos) shrinks(p *process, id admission.ID, now [2]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := p.held[id]
	if !p.dead {
		c.add(p, id, [2]int64{min(was[0], now[0]), min(was[1], now[1])})
	}
}

// start begins a life of the box.
func (b *chaosBox) start(seed uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := &faults{c: b.c, rng: rand.New(rand.NewPCG(seed, 1))}
	l, err := New(Options{
		Endpoints: b.c.cluster.Endpoints(), Prefix: "/test", Box: b.name, Home: b.name + "'s", TTL: chaosTTL, Timeout: time.Second,
		dial: []grpc.DialOption{grpc.WithUnaryInterceptor(f.intercept)},
	})
	if err == nil {
		err = l.SetShared(map[admission.Account]Shared{wan: {Name: "region", Limit: limits["region"]}, level: {Name: "sla", Limit: limits["sla"]}})
	}
	if err != nil {
		b.c.t.Error(err)
		return
	}
	l.Start(0)
	b.process = &process{l: l, held: map[admission.ID][2]int64{}}
}

// kill ends the life of the box without a farewell.
func (b *chaosBox) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.process
	if p == nil {
		return
	}
	b.c.mu.Lock()
	for id := range maps.Clone(p.held) {
		b.c.add(p, id, [2]int64{})
	}
	p.dead = true
	b.c.mu.Unlock()
	if err := p.l.Stop(context.Background(), true); err != nil {
		b.c.t.Error(err)
	}
	b.c.count.lost.Add(int64(p.l.Status().Counters.Lost))
	b.process = nil
}

func (b *chaosBox) current() *process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process
}

// work admits and releases until ctx ends.
func (b *chaosBox) work(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		p := b.current()
		if p == nil {
			wait(ctx, 5*time.Millisecond)
			continue
		}
		id := admission.ID(strconv.Itoa(rng.IntN(12)))
		if rng.IntN(3) == 0 {
			b.c.shrinks(p, id, [2]int64{})
			if _, _, err := p.l.Remove(id); err != nil {
				b.c.t.Error(err)
			}
			continue
		}
		amount := 1 + rng.Int64N(400)
		e := admission.Entry{ID: id, Link: "wan0", Shares: []admission.Share{{Account: wan, Amount: amount}}}
		list, want := []int64{limits["region"]}, [2]int64{amount, 0}
		if rng.IntN(2) == 0 {
			e.Shares = append(e.Shares, admission.Share{Account: level, Amount: amount})
			list, want[1] = append(list, limits["sla"]), amount
		}
		// A change may give back in one account and take in another, and be refused:
		// what it has is noted as the less of both until it is known.
		b.c.mu.Lock()
		was := p.held[id]
		b.c.mu.Unlock()
		b.c.shrinks(p, id, want)
		_, ok, err := p.l.Commit(e, list)
		switch {
		case ok:
			b.c.count.granted.Add(1)
			b.c.grows(p, id, want)
		default:
			if err != nil {
				b.c.count.failed.Add(1)
			} else {
				b.c.count.refused.Add(1)
			}
			b.c.grows(p, id, was)
		}
		if rng.IntN(4) == 0 {
			wait(ctx, time.Duration(rng.Int64N(int64(4*time.Millisecond))))
		}
	}
}

// faults are what becomes of transactions on their way.
type faults struct {
	c   *chaos
	mu  sync.Mutex
	rng *rand.Rand
}

func (f *faults) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	f.mu.Lock()
	dice, delay := f.rng.IntN(100), time.Duration(f.rng.Int64N(int64(300*time.Millisecond)))
	f.mu.Unlock()
	if f.c.calm.Load() || !strings.HasSuffix(method, "/Txn") {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	lost := status.Error(codes.Unavailable, "lost by the test")
	switch dice {
	case 0: // the request
		return lost
	case 1: // the answer
		_ = invoke(ctx, method, req, reply, cc, opts...)
		return lost
	case 2: // the request arrives long after it was given up
		go func() {
			time.Sleep(delay)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = invoke(ctx, method, req, reply, cc, opts...)
		}()
		return lost
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// chaosTTL is far longer than anything lasts here, so that no box that lives
// loses its lease: that would be the one way to be over the limit.
const chaosTTL = 8 * time.Second

// break kills and starts boxes and members.
func (c *chaos) breakThings(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		wait(ctx, 50*time.Millisecond+time.Duration(rng.Int64N(int64(300*time.Millisecond))))
		if rng.IntN(2) == 0 {
			b := c.boxes[rng.IntN(len(c.boxes))]
			b.kill()
			c.count.kills.Add(1)
			wait(ctx, time.Duration(rng.Int64N(int64(300*time.Millisecond))))
			b.start(rng.Uint64())
			continue
		}
		i := rng.IntN(c.cluster.Size())
		c.cluster.Kill(i)
		c.count.killedMembers.Add(1)
		wait(ctx, time.Duration(rng.Int64N(int64(400*time.Millisecond))))
		if j := rng.IntN(c.cluster.Size()); rng.IntN(4) == 0 { // a majority, perhaps
			c.cluster.Kill(j)
			c.count.killedMembers.Add(1)
			wait(ctx, time.Duration(rng.Int64N(int64(200*time.Millisecond))))
			c.cluster.Restart(j)
		}
		c.cluster.Restart(i)
		if rng.IntN(3) > 0 {
			c.cluster.Ready()
		}
	}
}

// enough tells whether so much has happened that it shows something.
func (c *chaos) enough(a *auditor) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := &c.count
	return n.granted.Load() >= 100 && n.refused.Load() >= 20 && n.kills.Load() >= 2 && n.killedMembers.Load() >= 2 && a.revisions >= 100
}

// auditor reads what etcd has at every revision.
type auditor struct {
	mu        sync.Mutex
	sums      map[string]map[string]int64
	revisions int
	over      []string
}

func (a *auditor) run(ctx context.Context, cl *clientv3.Client) error {
	for r := range cl.Watch(ctx, "/test/sums/", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := r.Err(); err != nil {
			return err
		}
		a.mu.Lock()
		for i, e := range r.Events {
			account, box := keys{prefix: "/test"}.parse(string(e.Kv.Key))
			if a.sums[account] == nil {
				a.sums[account] = map[string]int64{}
			}
			if e.Type == clientv3.EventTypeDelete {
				delete(a.sums[account], box)
			} else {
				l, err := parseLine(e.Kv.Value)
				if err != nil {
					a.mu.Unlock()
					return err
				}
				a.sums[account][box] = l.Sum
			}
			if i+1 < len(r.Events) && r.Events[i+1].Kv.ModRevision == e.Kv.ModRevision {
				continue
			}
			a.revisions++
			for name, limit := range limits {
				if n := total(a.sums[name]); n > limit {
					a.over = append(a.over, fmt.Sprintf("revision %d: %s has %d of %d: %v", e.Kv.ModRevision, name, n, limit, a.sums[name]))
				}
			}
		}
		a.mu.Unlock()
	}
	return nil
}

func total(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// No schedule of three boxes grants more than the accounts have, by what etcd
// says at every revision and by what the boxes really have, while boxes and
// members are killed and messages are lost or late. When all is well again etcd
// has what the boxes have, and a box that dies gives its share back.
func TestChaosNeverOverAdmits(t *testing.T) {
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members, " members"), func(t *testing.T) { t.Parallel(); testChaos(t, members) })
	}
}

// testChaos runs it again if a box that lived lost its lease, after which an account
// may hold too much: this machine was so slow that nothing is shown. It has to be
// shown in one of three.
func testChaos(t *testing.T, members int) {
	for left := 2; ; left-- {
		over, lost := runChaos(t, members)
		if len(over) > 0 && lost > 0 && left > 0 && !t.Failed() {
			t.Logf("%d leases of boxes that lived were lost, and %d times an account held too much: once more", lost, len(over))
			continue
		}
		for _, o := range over[:min(len(over), 10)] {
			t.Errorf("over-admission, with %d leases lost: %s", lost, o)
		}
		return
	}
}

// runChaos returns when an account held too much, and how many leases of boxes that
// lived were lost.
func runChaos(t *testing.T, members int) (over []string, lost int64) {
	began, seed, length := time.Now(), uint64(time.Now().UnixNano()), 4*time.Second
	if os.Getenv("QOSPROXY_SOAK") != "" {
		length = 3 * time.Minute
	}
	if s, err := strconv.ParseUint(os.Getenv("QOSPROXY_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("QOSPROXY_SEED=%d", seed)
	c := &chaos{t: t, cluster: etcdtest.Start(t, members, false), real: map[string]int64{}}
	a := &auditor{sums: map[string]map[string]int64{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var audit, work sync.WaitGroup
	cl := c.cluster.Client()
	audit.Go(func() {
		if err := a.run(ctx, cl); err != nil && ctx.Err() == nil {
			t.Errorf("auditor: %v", err)
		}
	})
	rng := rand.New(rand.NewPCG(seed, 0))
	storm, end := context.WithCancel(ctx)
	defer end()
	stop := time.AfterFunc(length, func() { // or later, on a machine that is busy
		for wait(ctx, 50*time.Millisecond); !c.enough(a) && time.Since(began) < length+time.Minute; wait(ctx, 50*time.Millisecond) {
		}
		end()
	})
	defer stop.Stop()
	for i := range 3 {
		b := &chaosBox{c: c, name: fmt.Sprintf("box%d", i)}
		c.boxes = append(c.boxes, b)
		b.start(rng.Uint64())
		own := rand.New(rand.NewPCG(seed, uint64(2+i)))
		work.Go(func() { b.work(storm, own) })
	}
	c.breakThings(storm, rng)
	work.Wait()
	c.calm.Store(true)
	for i := range members {
		c.cluster.Restart(i)
	}
	for _, b := range c.boxes {
		if b.current() == nil {
			b.start(rng.Uint64())
		}
	}
	c.settles(a)
	c.lastBoxDies(rng.IntN(3))
	for _, b := range c.boxes {
		b.kill()
	}
	cancel()
	audit.Wait()
	for i := range members {
		c.cluster.Kill(i)
	}
	return c.verdict(a)
}

// lastBoxDies has one box take all there is, and die: another gets all of it when
// the lease has ended.
func (c *chaos) lastBoxDies(n int) {
	last, heir := c.boxes[n], c.boxes[(n+1)%3].current().l
	for _, b := range c.boxes {
		p := b.current()
		for id := range maps.Clone(p.held) {
			c.shrinks(p, id, [2]int64{})
			mustRemove(c.t, p.l, string(id))
		}
	}
	p := last.current()
	all := func(l *Ledger) func() bool {
		return func() bool {
			_, ok, err := take(l, "all", limits["sla"])
			return ok && err == nil
		}
	}
	eventually(c.t, time.Minute, "one box gets all", all(p.l))
	c.grows(p, "all", [2]int64{limits["sla"], limits["sla"]})
	if all(heir)() {
		c.t.Error("another box gets it too")
	}
	last.kill()
	died := time.Now()
	eventually(c.t, chaosTTL+time.Minute, "another box gets what a dead one had", all(heir))
	c.t.Logf("a dead box's share came back after %v of a lease of %v", time.Since(died).Round(time.Millisecond), chaosTTL)
}

// unsettled tells of a box that etcd does not know as it is.
func (c *chaos) unsettled(a *auditor) string {
	for _, b := range c.boxes {
		p := b.current()
		a.mu.Lock()
		region, sla := a.sums["region"][b.name], a.sums["sla"][b.name]
		a.mu.Unlock()
		n, errN := p.l.mem.Sum(wan)
		m, errM := p.l.mem.Sum(level)
		if s := p.l.Status(); s.State != Connected || errN != nil || errM != nil || n != region || m != sla {
			return fmt.Sprintf("%s has %d and %d, etcd %d and %d: %+v", b.name, n, m, region, sla, s)
		}
	}
	return ""
}

// settles waits until etcd has what the boxes have.
func (c *chaos) settles(a *auditor) {
	said := ""
	for end := time.Now().Add(3 * time.Minute); ; wait(c.t.Context(), 10*time.Millisecond) {
		if said = c.unsettled(a); said == "" {
			break
		}
		if time.Now().After(end) {
			c.t.Fatalf("etcd does not get what the boxes have: %s", said)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.boxes {
		var sum [2]int64
		for _, h := range b.process.held {
			sum[0], sum[1] = sum[0]+h[0], sum[1]+h[1]
		}
		if n, _ := b.process.l.mem.Sum(wan); n != sum[0] {
			c.t.Errorf("%s has entries of %d, granted were %d", b.name, n, sum[0])
		}
		if n, _ := b.process.l.mem.Sum(level); n != sum[1] {
			c.t.Errorf("%s has entries of %d, granted were %d", b.name, n, sum[1])
		}
	}
}

func (c *chaos) verdict(a *auditor) (over []string, lost int64) {
	n := &c.count
	c.t.Logf("%d granted, %d refused, %d failed; %d boxes and %d members killed; %d revisions, %d leases lost", n.granted.Load(), n.refused.Load(),
		n.failed.Load(), n.kills.Load(), n.killedMembers.Load(), a.revisions, n.lost.Load())
	if !c.enough(a) {
		c.t.Error("too little has happened to show anything")
	}
	return append(a.over, c.over...), n.lost.Load()
}
