package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// maxTries is how often a decision is tried again because of what others ask for
// and may not get.
const maxTries = 10

var (
	errStopped   = errors.New("the ledger has been closed")
	errContended = errors.New("too much changes at once")
	errMarker    = errors.New("this box's registration has gone")
)

// obtain has etcd count what is asked for, before anybody relies on it, and notes
// it as claimed until the commit is over. A refusal names the account.
func (l *Ledger) obtain(asks []ask) (admission.Short, bool, error) {
	if asks = l.claims(asks); len(asks) == 0 {
		return admission.Short{}, true, nil
	}
	if short, no := l.inVain(asks); no {
		return short, false, nil
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
		return short, false, fmt.Errorf("shared account %s: %w; what is reserved stays, no more is granted until etcd answers", strings.TrimSuffix(asks[0].pot.name, burstSuffix), err)
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
	fresh := false
	for tries := 0; ; {
		short, room := l.fits(asks)
		var err error
		switch {
		case room == full && fresh:
			return short, false, nil
		case room == crowded && fresh && tries >= maxTries:
			return short, false, nil // whoever asked was given it, or asks again and again
		case tries > 2*maxTries:
			return admission.Short{}, false, errContended
		case room != enough:
			if fresh {
				tries++
				pause(ctx, tries)
			}
			err = l.attempt(ctx, func(ctx context.Context) error { return l.read(ctx, potsOf(asks)) })
			fresh = err == nil
		default:
			var ok bool
			if err = l.attempt(ctx, func(ctx context.Context) (err error) { ok, err = l.ask(ctx, asks); return err }); ok {
				return admission.Short{}, true, nil
			}
			fresh = err == nil // it has read, whatever came of it
			tries++
		}
		if err != nil {
			if ctx.Err() != nil || !passing(err) {
				return admission.Short{}, false, l.trouble(err)
			}
			// Whether it was done is not known: look.
			l.forget(potsOf(asks))
		}
	}
}

func potsOf(asks []ask) []*pot {
	list := make([]*pot, 0, len(asks))
	for _, a := range asks {
		list = append(list, a.pot)
	}
	return list
}

// ask asks etcd for room: false if there is none, or if this box's line was not
// what it was thought to be. What was asked for in vain is taken back.
func (l *Ledger) ask(ctx context.Context, asks []ask) (bool, error) {
	list := make([]change, 0, len(asks))
	for _, a := range asks {
		list = append(list, change{pot: a.pot, want: a.need, limit: a.limit, asks: true})
	}
	done, err := l.write(ctx, list)
	if err != nil || !done {
		return false, err
	}
	if l.granted(asks) {
		return true, nil
	}
	for i := range list {
		list[i] = change{pot: list[i].pot}
	}
	_, err = l.write(ctx, list)
	return false, err
}

// granted tells whether etcd counts what was asked for.
func (l *Ledger) granted(asks []ask) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asks {
		if a.pot.sure < a.need {
			return false
		}
	}
	return true
}

// attempt gives one exchange half of the time of a decision, so that another
// member can be asked when one does not answer.
func (l *Ledger) attempt(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Timeout/2)
	defer cancel()
	return f(ctx)
}

// pause lets others finish: up to 1, 2, 4, ... 32 ms.
func pause(ctx context.Context, tries int) {
	t := time.NewTimer(time.Duration(rand.Int64N(int64(time.Millisecond) << min(tries-1, 5))))
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

// room is what an account has for what is asked for.
type room uint8

const (
	enough  room = iota
	crowded      // others ask for it, and may not get it
	full
	unknown
)

// fits tells whether what is asked for finds room, by what is known.
func (l *Ledger) fits(asks []ask) (short admission.Short, r room) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range asks {
		if !a.pot.known {
			return admission.Short{}, unknown
		}
		hold, count := a.pot.others(l.opts.Box)
		if a.need <= a.limit-count || r == full {
			continue
		}
		if r = crowded; a.need > a.limit-hold {
			r = full
		}
		short = admission.Short{Account: a.account, Used: hold + a.need - a.amount}
	}
	return short, r
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
	if l.state == Connected || l.state == Taken || l.state == Closed {
		return false
	}
	for _, a := range asks {
		_, hold := a.pot.others(l.opts.Box)
		if a.pot.quota <= 0 || a.need > a.pot.base+a.pot.quota || a.need > a.limit-hold {
			return false
		}
	}
	l.counters.ByQuota++
	return true
}

// change is what etcd shall have of this box in one account: what it holds, or, if
// it asks, what it wants within a limit.
type change struct {
	pot   *pot
	asks  bool
	want  int64
	limit int64
}

// write tells etcd, all or nothing. It returns false when this box's line was
// another one than was thought. The pots are read in any case; what is asked for
// is granted where pot.sure says so. The token is held.
func (l *Ledger) write(ctx context.Context, list []change) (bool, error) {
	l.mu.Lock()
	cl, lease, marker := l.client, l.lease, l.marker
	if cl == nil || marker == 0 {
		l.mu.Unlock()
		return false, errMarker
	}
	is := func(key string, rev int64) clientv3.Cmp { return clientv3.Compare(clientv3.ModRevision(key), "=", rev) }
	cmps := []clientv3.Cmp{is(l.keys.marker(), marker)}
	var puts []clientv3.Op
	reads := []clientv3.Op{clientv3.OpGet(l.keys.marker())}
	pots, lines, before := make([]*pot, len(list)), make([]line, len(list)), make([]pot, len(list))
	for i, c := range list {
		p, key := c.pot, l.keys.own(c.pot.name)
		// As it is now: what is granted from here on may rely on what etcd has.
		due := l.due(p)
		lines[i] = line{Sum: due, Limit: p.limit}
		if c.asks && c.want > due {
			lines[i].Asked = c.want
		}
		cmps = append(cmps, is(key, p.mine(l.opts.Box).rev))
		if lines[i].counts() > 0 {
			puts = append(puts, clientv3.OpPut(key, text(lines[i]), clientv3.WithLease(lease)))
		} else {
			puts = append(puts, clientv3.OpDelete(key))
		}
		reads = append(reads, l.keys.reads(p.name))
		pots[i], before[i] = p, *p
		p.sure, p.unsure = min(p.sure, lines[i].counts()), true
	}
	l.mu.Unlock()
	resp, err := cl.Txn(ctx).If(cmps...).Then(append(puts, reads...)...).Else(reads...).Commit()
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marker != marker {
		return false, errMarker // the lease was found to have ended meanwhile
	}
	rev, got := resp.Header.Revision, resp.Responses
	if resp.Succeeded {
		got = got[min(len(puts), len(got)):]
	}
	if err := l.reread(rev, got, pots); err != nil {
		return false, err
	}
	if !resp.Succeeded {
		l.counters.Conflicts++
		for i, p := range pots { // nothing was done, for certain
			p.sure, p.unsure = before[i].sure, before[i].unsure || p.limit != before[i].limit
		}
		return false, nil
	}
	l.told(list, lines, before)
	return true, nil
}

// told notes what a write that is done means. All that was asked for is granted,
// or nothing. l.mu is held.
func (l *Ledger) told(list []change, lines []line, before []pot) {
	all, now := true, time.Now()
	for _, c := range list {
		_, count := c.pot.others(l.opts.Box)
		all = all && (!c.asks || c.want <= c.limit-count)
	}
	for i, c := range list {
		p := c.pot
		p.sure, p.wrote, p.unsure = lines[i].Sum, now, p.limit != lines[i].Limit
		if all {
			p.sure = lines[i].counts()
		} else {
			l.counters.Crowded++
		}
		p.sure = max(p.sure, min(before[i].sure, lines[i].counts()))
		p.base = p.sure
	}
}
