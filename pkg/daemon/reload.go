package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// reloadStatus is how the last reload ended.
type reloadStatus struct {
	mu sync.Mutex
	reloadResult
}

type reloadResult struct {
	count, failed uint64
	err           error
	at            time.Time // of the configuration in use
}

func (s *reloadStatus) get() reloadResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadResult
}

func (s *reloadStatus) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.err = err
	if err != nil {
		s.failed++
		return
	}
	s.at = time.Now()
}

// ErrRestart is returned by Reload for a change that a running box cannot make.
var ErrRestart = errors.New("needs a restart")

// Reload reads the configuration file again. The new one is validated, applied
// and swapped in whole, or the old one stays and the error is told. Flows whose
// policy says the same as before are not disturbed.
func (d *Daemon) Reload(ctx context.Context) error {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	err := d.reloadLocked(ctx)
	d.reload.note(err)
	return err
}

func (d *Daemon) reloadLocked(ctx context.Context) error {
	old := d.cfg.Load()
	c, err := LoadConfig(d.opts.ConfigFile)
	if err != nil {
		return err
	}
	if err := reloadable(old, c); err != nil {
		return err
	}
	l, err := readLinks(c, d.links.Load())
	if err != nil {
		return err
	}
	records, err := openAccountFile(c.Accounting.File)
	if err != nil {
		return err
	}
	p, before := newPolicies(c), d.flows.current()
	shards := len(d.cheat.handlers)
	// Once begun it is not given up half-way, whoever asked for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*kernelTimeout)
	defer cancel()
	if err := d.setPlan(ctx, wanted(c, p, shards, time.Now())); err != nil {
		return errors.Join(fmt.Errorf("shaping: %w", err), closeFile(records))
	}
	if err := d.table.Load().SetPrefilters(p.prefilters()); err != nil {
		back := d.setPlan(ctx, wanted(old, before, shards, time.Now()))
		return errors.Join(fmt.Errorf("queue rules: %w", err), back, closeFile(records))
	}
	// From here on nothing can fail.
	d.cfg.Store(c)
	d.useLinks(l)
	d.accounts.configure(c.Accounting, records)
	d.cheat.stripECN.Store(c.TCP.ECN == config.ECNStrip)
	d.recordIfCheating(c)
	d.admit.SetPolicy(admissionPolicy(c))
	d.setLinks(l)
	d.rsvp.SetInterfaces(l.rsvp())
	if err := d.rsvp.SetRefresh(c.RSVP.Refresh); err != nil {
		d.log.Warn("refresh period not changed", zap.Error(err))
	}
	changed := d.flows.adopt(c.File, p, l.zones())
	for _, key := range changed {
		// What the flow gets is decided anew with its next packet.
		d.retire(ctx, key)
	}
	d.claimFound()
	d.tc.reprogramAll(ctx)
	// Those packets must not pass as settled by the old policies. The others must: a
	// flow that comes back to the queue overtakes itself when it leaves again.
	if err := d.first.anew(d.table.Load(), changed); err != nil {
		d.log.Warn("changed flows are decided anew only after the settled timeout", zap.Error(err))
	}
	d.log.Info("reloaded", zap.Int("policies", p.table.Len()), zap.Int("flows_decided_anew", len(changed)))
	return nil
}

// reloadable tells which changes need a restart.
func reloadable(old, c *config.Config) error {
	var errs []error
	need := func(changed bool, key string) {
		if changed {
			errs = append(errs, fmt.Errorf("%s: %s %w", c.File, key, ErrRestart))
		}
	}
	need(old.Mode != c.Mode, "mode")
	need(old.Bridge != c.Bridge, "bridge")
	need(bridged(old) && bridged(c) && !slices.Equal(portsOf(old), portsOf(c)), "the list of a bridge's interfaces")
	need(old.RSVP.Hop != c.RSVP.Hop, "rsvp.hop")
	need(old.Limits != c.Limits, "limits")
	need(old.Console != c.Console, "console")
	need(old.Log != c.Log, "log")
	need(old.RSVP.Reliable != c.RSVP.Reliable, "rsvp.reliable")
	need(old.StateDir != c.StateDir, "state_dir")
	need(old.Watchdog != c.Watchdog, "watchdog")
	need(outlives(old) != outlives(c), "on_crash")
	was, now := old.Admission.Etcd, c.Admission.Etcd
	need((was == nil) != (now == nil), "admission.ledger")
	need(was != nil && now != nil && !was.Same(now), "admission.etcd")
	for i := range c.Interfaces {
		was := old.Interface(c.Interfaces[i].Name)
		need(was != nil && was.Zone != c.Interfaces[i].Zone, "the zone of "+c.Interfaces[i].Name)
	}
	return errors.Join(errs...)
}

// current returns the policies in use.
func (t *flowTable) current() *policies {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.policies
}

// adopt swaps in new policies. Flows that the new ones treat as the old ones
// did, and those that are here for a reservation that others asked for, are
// kept and point to the new ones; the others are returned.
func (t *flowTable) adopt(file string, p *policies, zones map[int]config.Zone) (changed []packet.FlowKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file, t.policies, t.zones = file, p, zones
	for _, c := range t.conns {
		same := true
		for i := range c.dirs {
			f := &c.dirs[i]
			if !f.present {
				continue
			}
			next := t.match(p, f.key)
			if f.role == roleSender || f.reserved.IsZero() {
				same = same && samePolicy(f.policy, next)
			}
			if same {
				f.policy = next
			}
		}
		if !same {
			changed = append(changed, c.dirs[0].key)
		}
	}
	return changed
}

// samePolicy tells whether two policies do the same with a flow, whatever their
// names, places and matches.
func samePolicy(a, b *config.Policy) bool {
	if a == nil || b == nil {
		return a == b
	}
	if (a.Reserve == nil) != (b.Reserve == nil) || a.Reserve != nil && *a.Reserve != *b.Reserve {
		return false
	}
	return a.Marked == b.Marked && a.Named == b.Named && a.DSCP == b.DSCP && a.TCP == b.TCP && a.ThinAcks == b.ThinAcks && a.Fill == b.Fill && a.Excess == b.Excess && a.Name == b.Name && samePolice(a.Police, b.Police)
}
