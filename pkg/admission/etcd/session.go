package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

const (
	minRetry = 100 * time.Millisecond
	maxRetry = time.Second
	// gather is how long what was given back waits for more of it.
	gather = 5 * time.Millisecond
)

var errTaken = errors.New("another process is this box")

// Start registers the box. If that takes longer than within, it goes on in the
// background.
func (l *Ledger) Start(within time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	first := make(chan struct{})
	l.done.Go(func() { l.run(ctx, first) })
	l.done.Go(func() { l.beat(ctx) })
	l.done.Go(func() { l.watch(ctx) })
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-first:
	case <-t.C:
	}
}

// Stop ends the ledger. keep: the box's share is left to its next process, for as
// long as the lease lives; else it goes at once, if etcd can be told.
func (l *Ledger) Stop(ctx context.Context, keep bool) error {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	cl, lease := l.client, l.lease
	l.client, l.lease, l.marker = nil, 0, 0
	l.enter(Closed, errStopped.Error())
	l.mu.Unlock()
	if cl == nil {
		return nil
	}
	var err error
	if lease != 0 && !keep {
		ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
		defer cancel()
		if _, err = cl.Revoke(ctx, lease); err != nil {
			err = fmt.Errorf("this box's share stays in etcd for up to %v: %w", l.opts.TTL, err)
		}
	}
	return errors.Join(err, cl.Close())
}

// run keeps the box registered and etcd informed.
func (l *Ledger) run(ctx context.Context, first chan struct{}) {
	delay := minRetry
	for {
		err := l.attend(ctx)
		if err != nil && passing(err) && ctx.Err() == nil {
			err = l.attend(ctx) // perhaps another member answers
		}
		if first != nil {
			close(first)
			first = nil
		}
		if err == nil {
			delay = minRetry
			select {
			case <-ctx.Done():
				return
			case <-l.wake:
			}
			wait(ctx, gather)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		_ = l.trouble(err)
		wait(ctx, delay/2+rand.N(delay/2))
		delay = min(2*delay, maxRetry)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// attend does what there is to do: register, and tell what etcd does not know.
func (l *Ledger) attend(ctx context.Context) error {
	l.mu.Lock()
	registered, up := l.marker != 0, l.state == Connected
	l.mu.Unlock()
	if !registered {
		if err := l.register(ctx); err != nil {
			return err
		}
	}
	n, err := l.flush(ctx)
	if err != nil {
		return err
	}
	if !up && n == 0 {
		// Nothing was to be told: see whether a majority answers.
		if err := l.attempt(ctx, func(ctx context.Context) error { return l.readSome(ctx, nil) }); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != Connected && l.marker != 0 {
		l.enter(Connected, "")
	}
	return nil
}

// register makes the lease and the marker of the box. All sums are then unsure:
// they are told anew, whatever the limits are.
func (l *Ledger) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	cl, lease, err := l.grant(ctx)
	if err != nil {
		return err
	}
	got, err := cl.Get(ctx, l.keys.marker())
	if err != nil {
		return err
	}
	rev := int64(0)
	if len(got.Kvs) > 0 {
		rev = got.Kvs[0].ModRevision
		var o owner
		if err := json.Unmarshal(got.Kvs[0].Value, &o); err != nil {
			return fmt.Errorf("key %s: %w: remove it", got.Kvs[0].Key, err)
		}
		if o.Instance != l.self.Instance && (o.Home != l.self.Home || l.self.Home == "") {
			return fmt.Errorf("%w: box %s is registered by %s on %s; its lease ends within %v if that one is dead, or else give each box a name of its own",
				errTaken, l.opts.Box, o.Home, o.Host, l.opts.TTL)
		}
	}
	resp, err := cl.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(l.keys.marker()), "=", rev)).
		Then(clientv3.OpPut(l.keys.marker(), text(l.self), clientv3.WithLease(lease))).Commit()
	switch {
	case err != nil:
		return err
	case !resp.Succeeded:
		return fmt.Errorf("%w: it has just registered", errTaken)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marker = resp.Header.Revision
	l.doubt()
	l.counters.Registered++
	return nil
}

// grant returns the client and a lease; it makes what is not there.
func (l *Ledger) grant(ctx context.Context) (*clientv3.Client, clientv3.LeaseID, error) {
	l.mu.Lock()
	cl, lease := l.client, l.lease
	l.mu.Unlock()
	if cl == nil {
		made, err := l.opts.client(&l.tries) // it may have to log in, which takes time
		if err != nil {
			return nil, 0, err
		}
		cl = made
		l.mu.Lock()
		l.client = cl
		l.mu.Unlock()
	}
	if lease != 0 {
		return cl, lease, nil
	}
	sent := time.Now()
	resp, err := cl.Grant(ctx, int64(l.opts.TTL/time.Second))
	if err != nil {
		return nil, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease, l.until = resp.ID, sent.Add(time.Duration(resp.TTL)*time.Second)
	return cl, l.lease, nil
}

// doubt has all sums told anew. l.mu is held.
func (l *Ledger) doubt() {
	for _, p := range l.pots {
		p.sure, p.unsure, p.known = 0, true, false
	}
}

// flush tells etcd what it does not know, and returns how many sums that were.
func (l *Ledger) flush(ctx context.Context) (n int, err error) {
	for tries := 0; tries <= maxTries; {
		list, blind, err := l.flushSome(ctx)
		if err != nil {
			return n, err
		}
		if list == 0 && !blind {
			return n, nil
		}
		if list == 0 {
			tries++
			pause(ctx, tries)
		}
		n += list
	}
	return n, errContended
}

// flushSome tells some of it. again: something had changed meanwhile.
func (l *Ledger) flushSome(ctx context.Context) (n int, again bool, err error) {
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	var blind []*pot
	l.mu.Lock()
	list, later := l.untold()
	if later {
		time.AfterFunc(settle, l.nudge)
	}
	for _, c := range list {
		if !c.pot.known {
			blind = append(blind, c.pot)
		}
	}
	l.mu.Unlock()
	if len(list) == 0 {
		return 0, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	defer cancel()
	if len(blind) > 0 {
		if err := l.read(ctx, blind); err != nil {
			return 0, false, err
		}
	}
	ok, err := l.write(ctx, list)
	if err != nil {
		pots := make([]*pot, 0, len(list))
		for _, c := range list {
			pots = append(pots, c.pot)
		}
		l.forget(pots)
		return 0, false, err
	}
	if !ok {
		return 0, true, nil
	}
	l.over(list)
	l.drop()
	return len(list), false, nil
}

// due is what etcd shall have of this box. What a commit that is under way claims
// is not given back, but only the commit itself asks for more than there is.
// Nothing is given back while something goes on together. l.mu is held.
func (l *Ledger) due(p *pot) int64 {
	want := max(l.own(p), min(p.claim, p.sure))
	if l.together > 0 {
		want = max(want, p.sure)
	}
	return want
}

// settle is how long a line says that what was granted is asked for, unless
// something else is told sooner.
const settle = 50 * time.Millisecond

// untold lists what etcd shall learn. later says that there is more, which can
// wait until something else is to be told. l.mu is held.
func (l *Ledger) untold() (list []change, later bool) {
	for _, p := range l.pots {
		mine, due := p.mine(l.opts.Box), l.due(p)
		switch {
		case !p.known || p.unsure || p.sure != due || mine.counts() != due:
			list = append(list, change{pot: p})
		case mine.Asked != 0 && p.claim == 0:
			if time.Since(p.wrote) < settle {
				later = true
			} else {
				list = append(list, change{pot: p})
			}
		}
	}
	slices.SortFunc(list, func(a, b change) int { return compare(a.pot.name, b.pot.name) })
	return list[:min(len(list), chunk)], later
}

// drop forgets pots that no account of this box counts in any more.
func (l *Ledger) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, p := range l.pots {
		if len(p.accounts) == 0 && !p.unsure && p.sure == 0 && p.claim == 0 {
			delete(l.pots, name)
		}
	}
}

// over tells of accounts that hold more than they have, through what was told
// without asking.
func (l *Ledger) over(list []change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range list {
		p := c.pot
		hold, _ := p.others(l.opts.Box)
		own := l.own(p)
		held := hold + own
		if !p.exceeded(held) || own == 0 {
			p.over = false
			continue
		}
		if !p.over {
			l.counters.Over++
			l.opts.Log.Warn("a shared account holds more than it has, since what was reserved here stays",
				zap.String("account", p.name), zap.Int64("held", held), zap.Int64("limit", p.limit), zap.Int64("this_box", own))
		}
		p.over = true
	}
}

// beat keeps the lease alive.
func (l *Ledger) beat(ctx context.Context) {
	every := l.opts.TTL / 4
	next := every
	for ctx.Err() == nil {
		wait(ctx, next)
		l.mu.Lock()
		cl, lease := l.client, l.lease
		l.mu.Unlock()
		next = min(every, maxRetry/2)
		if cl == nil || lease == 0 || ctx.Err() != nil {
			continue
		}
		sent := time.Now()
		ttl, err := keepAlive(ctx, cl, lease, min(every, max(l.opts.Timeout, maxRetry)))
		if err != nil && ctx.Err() == nil {
			_ = l.trouble(err)
			continue
		}
		l.mu.Lock()
		if l.lease == lease {
			l.until = sent.Add(ttl)
		}
		l.mu.Unlock()
		next = every
	}
}

// keepAlive sends one sign of life. The client's own does not pause between its
// tries while nobody answers.
func keepAlive(ctx context.Context, cl *clientv3.Client, lease clientv3.LeaseID, within time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	stream, err := clientv3.RetryLeaseClient(cl).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
		return 0, rpctypes.Error(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	if resp.GetTTL() <= 0 {
		return 0, rpctypes.ErrLeaseNotFound
	}
	return time.Duration(resp.GetTTL()) * time.Second, nil
}

// trouble notes an error of etcd, and returns it in words.
func (l *Ledger) trouble(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state == Closed:
		return errStopped
	case errors.Is(err, rpctypes.ErrLeaseNotFound), errors.Is(err, errMarker):
		if l.marker != 0 {
			l.counters.Lost++
			l.opts.Log.Warn("this box's lease in etcd has ended, and others may have taken its share: it is registered anew", zap.String("box", l.opts.Box))
		}
		l.lease, l.marker, l.until = 0, 0, time.Time{}
		l.doubt()
		l.enter(Starting, "the lease has ended")
	case errors.Is(err, errTaken):
		l.enter(Taken, err.Error())
	default:
		l.enter(Unreachable, l.words(err))
	}
	l.nudge()
	return fmt.Errorf("%s (%s)", l.state, l.reason)
}

// words are an error's, without what the transport adds.
func (l *Ledger) words(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return cmp.Or(l.tries.met(), "no answer in time")
	}
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Error()
	}
	if _, ok := status.FromError(err); ok {
		return cmp.Or(cause(err), "no answer in time")
	}
	return err.Error()
}

// enter notes a state. l.mu is held.
func (l *Ledger) enter(s State, reason string) {
	if l.state == s && l.reason == reason {
		return
	}
	if l.state != s {
		l.since = time.Now()
		f := l.opts.Log.Warn
		if s == Connected || s == Closed {
			f = l.opts.Log.Info
		}
		f("shared admission", zap.String("etcd", string(s)), zap.String("reason", reason), zap.String("box", l.opts.Box))
	}
	l.state, l.reason = s, reason
}
