package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watch follows what other boxes do, so that a decision seldom has to read first,
// and that what is shown is not old. Nothing that is granted depends on it.
func (l *Ledger) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.follow(ctx); err != nil {
			l.mu.Lock()
			l.counters.WatchErrors++
			l.mu.Unlock()
		}
		wait(ctx, minRetry+rand.N(maxRetry/2))
	}
}

// follow reads all and then takes in each change, until something fails.
func (l *Ledger) follow(ctx context.Context) error {
	l.mu.Lock()
	cl, up := l.client, l.state == Connected
	l.mu.Unlock()
	if cl == nil || !up {
		return nil
	}
	got, err := cl.Get(ctx, l.keys.marker())
	if err != nil {
		return err
	}
	if err := l.readAll(ctx); err != nil {
		return err
	}
	l.nudge() // what was read may not be what it should be
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range cl.Watch(ctx, l.keys.all(), clientv3.WithPrefix(), clientv3.WithRev(got.Header.Revision+1)) {
		if err := resp.Err(); err != nil {
			return err
		}
		l.changed(resp.Events)
	}
	if ctx.Err() == nil {
		return errors.New("the watch has ended")
	}
	return nil
}

// readAll reads all pots.
func (l *Ledger) readAll(ctx context.Context) error {
	l.mu.Lock()
	pots := make([]*pot, 0, len(l.pots))
	for _, p := range l.pots {
		pots = append(pots, p)
	}
	l.mu.Unlock()
	slices.SortFunc(pots, func(a, b *pot) int { return compare(a.name, b.name) })
	return l.attempt(ctx, func(ctx context.Context) error { return l.read(ctx, pots) })
}

func compare(a, b string) int { return strings.Compare(a, b) }

// changed takes in events.
func (l *Ledger) changed(events []*clientv3.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		account, box := l.keys.parse(string(e.Kv.Key))
		p := l.pots[account]
		if p == nil || box == "" {
			continue
		}
		t := told{rev: e.Kv.ModRevision, gone: e.Type == clientv3.EventTypeDelete}
		if !t.gone {
			var err error
			if t.line, err = parseLine(e.Kv.Value); err != nil {
				p.known = false // reading it tells what is wrong
				continue
			}
		}
		if len(p.boxes) >= 2*maxBoxes && p.boxes[box].rev == 0 {
			p.known = false
			continue
		}
		p.put(box, t)
		if box == l.opts.Box {
			l.nudge()
		}
	}
}
