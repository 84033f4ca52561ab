package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// maxConflicts is how often a transaction is tried again because another box was
// faster.
const maxConflicts = 20

var (
	errStopped   = errors.New("the ledger has been closed")
	errContended = fmt.Errorf("other boxes were faster %d times", maxConflicts)
	errView      = errors.New("what is known has changed")
	errMarker    = errors.New("this box's registration has gone")
)

// obtain has etcd count what is asked for, before anybody relies on it, and notes
// it as claimed until the commit is over. A refusal names the account.
func (l *Ledger) obtain(asks []ask) (admission.Short, bool, error) {
	if asks = l.claims(asks); len(asks) == 0 {
		return admission.Short{}, true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.opts.Timeout)
	defer cancel()
	short, ok, err := l.negotiate(ctx, asks)
	if err != nil && l.withinQuota(asks) {
		return admission.Short{}, true, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.counters.Failed++
		return short, false, fmt.Errorf("shared account %s: %w; what is reserved stays, nothing new is granted until etcd answers", asks[0].pot.name, err)
	case !ok:
		l.counters.Refused++
	default:
		l.counters.Granted++
	}
	return short, ok, nil
}

// claims notes what is asked for, and returns what etcd does not have of this box
// already.
func (l *Ledger) claims(asks []ask) (rest []ask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sure := l.state != Taken && time.Now().Before(l.until)
	for _, a := range asks {
		a.pot.claim = a.need
		if !sure || a.need > a.pot.sure {
			rest = append(rest, a)
		}
	}
	return rest
}

// negotiate is obtain while etcd is thought to be in reach.
func (l *Ledger) negotiate(ctx context.Context, asks []ask) (admission.Short, bool, error) {
	if err := l.refusing(); err != nil {
		return admission.Short{}, false, err
	}
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-ctx.Done():
		return admission.Short{}, false, errors.New("etcd is slow")
	}
	pots, list := make([]*pot, 0, len(asks)), make([]change, 0, len(asks))
	for _, a := range asks {
		pots, list = append(pots, a.pot), append(list, change{pot: a.pot, want: a.need, guarded: true, limit: a.limit})
	}
	fresh, last := false, error(nil)
	for conflicts := 0; conflicts <= maxConflicts; {
		short, fits, known := l.fits(asks)
		if known && !fits && fresh {
			return short, false, nil
		}
		var err error
		if !known || !fits {
			err = l.attempt(ctx, func(ctx context.Context) error { return l.read(ctx, pots) })
			fresh = err == nil
		} else {
			var ok bool
			err = l.attempt(ctx, func(ctx context.Context) (err error) { ok, err = l.write(ctx, list); return err })
			switch {
			case ok:
				return admission.Short{}, true, nil
			case errors.Is(err, errView):
				err, fresh = nil, false
				conflicts++
			case err == nil:
				fresh = true // a transaction that fails reads
				conflicts++
				pause(ctx, conflicts)
			default:
				// Whether it was done is not known: look.
				fresh = false
				l.forget(pots)
			}
		}
		if err != nil {
			if ctx.Err() != nil || !passing(err) {
				return admission.Short{}, false, l.trouble(err, last)
			}
			last = err
		}
	}
	return admission.Short{}, false, errContended
}

// attempt gives one exchange half of the time of a decision, so that another
// member can be asked when one does not answer.
func (l *Ledger) attempt(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout/2)
	defer cancel()
	return f(ctx)
}

// pause lets others finish: up to 1, 2, 4, ... 32 ms.
func pause(ctx context.Context, conflicts int) {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(time.Millisecond) << min(conflicts-1, 5))))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// passing tells whether another try may succeed.
func passing(err error) bool {
	return !errors.Is(err, rpctypes.ErrLeaseNotFound) && !errors.Is(err, errMarker) && !errors.Is(err, errStopped) &&
		!errors.Is(err, rpctypes.ErrPermissionDenied) && !errors.Is(err, errBoxes) && !errors.Is(err, errTaken)
}

// refusing says why etcd is not asked now; nil: it is.
func (l *Ledger) refusing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == Connected {
		return nil
	}
	return fmt.Errorf("%s for %v (%s)", l.state, time.Since(l.since).Round(time.Second), l.reason)
}

// fits tells whether what is asked for finds room, by what is known.
func (l *Ledger) fits(asks []ask) (short admission.Short, fits, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asks {
		if !a.pot.known {
			return admission.Short{}, false, false
		}
	}
	for _, a := range asks {
		if others := a.pot.others(l.opts.Box); a.need > a.limit-others {
			return admission.Short{Account: a.account, Used: others + a.need - a.amount}, false, true
		}
	}
	return admission.Short{}, true, true
}

// forget has pots read anew before they are relied on.
func (l *Ledger) forget(pots []*pot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range pots {
		p.known = false
	}
}

// withinQuota grants what is asked for without etcd, if the configuration allows
// it: up to a quota beyond what etcd was told last, and never beyond what was
// left of the account when it was read last.
func (l *Ledger) withinQuota(asks []ask) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opts.Quota <= 0 || l.state == Connected || l.state == Taken || l.state == Closed {
		return false
	}
	for _, a := range asks {
		if a.need > a.pot.base+l.opts.Quota || a.need > a.limit-a.pot.others(l.opts.Box) {
			return false
		}
	}
	l.counters.ByQuota++
	return true
}

// change is what etcd shall have of this box in one account.
type change struct {
	pot     *pot
	want    int64
	guarded bool // only up to limit, and if nobody has taken more since the pot was read
	limit   int64
}

// write tells etcd, all or nothing. It returns false when something has changed
// meanwhile; the pots are then read. The token is held.
func (l *Ledger) write(ctx context.Context, list []change) (bool, error) {
	l.mu.Lock()
	cl, lease, marker := l.client, l.lease, l.marker
	if cl == nil || marker == 0 {
		l.mu.Unlock()
		return false, errMarker
	}
	for _, c := range list {
		// The guard vouches for what is known now, which may be more than fits saw.
		if c.guarded && (!c.pot.known || c.want > c.limit-c.pot.others(l.opts.Box)) {
			l.mu.Unlock()
			return false, errView
		}
	}
	for i, c := range list {
		if !c.guarded {
			// As it is now: what is granted from here on may rely on what etcd has.
			list[i].want = l.due(c.pot)
		}
	}
	is := func(key string, rev int64) clientv3.Cmp { return clientv3.Compare(clientv3.ModRevision(key), "=", rev) }
	cmps := []clientv3.Cmp{is(l.keys.marker(), marker)}
	var puts []clientv3.Op
	reads := []clientv3.Op{clientv3.OpGet(l.keys.marker())}
	grows, before := make([]bool, len(list)), make([]pot, len(list))
	for i, c := range list {
		p, key := c.pot, l.keys.own(c.pot.name)
		cmps = append(cmps, is(key, p.mine(l.opts.Box).rev))
		if grows[i] = c.want > p.mine(l.opts.Box).Sum; grows[i] {
			puts = append(puts, clientv3.OpPut(l.keys.guard(p.name), l.opts.Box))
		}
		if c.guarded {
			cmps = append(cmps, is(l.keys.guard(p.name), p.guard))
		}
		if c.want > 0 {
			puts = append(puts, clientv3.OpPut(key, text(line{c.want, p.limit}), clientv3.WithLease(lease)))
		} else {
			puts = append(puts, clientv3.OpDelete(key))
		}
		reads = append(reads, l.keys.reads(p.name)...)
		before[i] = *p
		p.sure, p.unsure = min(p.sure, c.want), true
	}
	l.mu.Unlock()
	resp, err := cl.Txn(ctx).If(cmps...).Then(puts...).Else(reads...).Commit()
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marker != marker {
		return false, errMarker // the lease was found to have ended meanwhile
	}
	rev := resp.Header.Revision
	if !resp.Succeeded {
		l.counters.Conflicts++
		for i, c := range list { // nothing was done, for certain
			c.pot.sure = before[i].sure
			c.pot.unsure = before[i].unsure || c.pot.limit != before[i].limit
		}
		return false, l.reread(rev, resp.Responses, list)
	}
	for i, c := range list {
		p := c.pot
		p.put(l.opts.Box, told{line: line{c.want, p.limit}, rev: rev, gone: c.want == 0})
		if grows[i] {
			p.guard = max(p.guard, rev)
		}
		p.sure, p.base, p.unsure = c.want, c.want, false
	}
	return true, nil
}
