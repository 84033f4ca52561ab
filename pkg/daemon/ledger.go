package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/statefile"
)

// This file joins admission with the boxes that draw from the same contracts.

// openLedger makes the ledger that the configuration asks for; shared is nil if
// it is in memory.
func openLedger(c *config.Config, log *zap.Logger) (all admission.Ledger, shared *etcd.Ledger, err error) {
	e := c.Admission.Etcd
	if e == nil {
		return admission.NewMemory(), nil, nil
	}
	o := etcd.Options{
		Endpoints: e.Endpoints, Prefix: e.Prefix, Box: e.Box, TTL: e.TTL, Timeout: e.Timeout,
		CertFile: e.CertFile, KeyFile: e.KeyFile, CAFile: e.CAFile, Username: e.Username, Log: log.Named("etcd"),
	}
	fail := func(err error) error { return fmt.Errorf("%s:%d: admission.etcd: %w", c.File, e.Line, err) }
	if o.Host, err = os.Hostname(); err != nil {
		return nil, nil, fail(fmt.Errorf("the host has no name: %w: give the box one, box: NAME", err))
	}
	if o.Box == "" {
		o.Box = o.Host
	}
	if err := etcd.CheckName(o.Box); err != nil {
		return nil, nil, fail(fmt.Errorf("the host's name %q: %w: give the box another one, box: NAME", o.Box, err))
	}
	if o.Home, err = home(c.StateDir); err != nil {
		return nil, nil, fail(err)
	}
	if e.PasswordFile != "" {
		secret, err := readSecret(e.PasswordFile)
		if err != nil {
			return nil, nil, fail(err)
		}
		o.Password = string(secret)
	}
	if shared, err = etcd.New(o); err != nil {
		return nil, nil, fail(err)
	}
	return shared, shared, nil
}

// home is what only one process at a time has: a directory of state, on this
// machine since it was started. Another process that registered with the same is
// dead.
func home(stateDir string) (string, error) {
	boot, err := statefile.Boot()
	if err != nil {
		return "", fmt.Errorf("this machine's start cannot be told from others: %w", err)
	}
	return stateDir + " since boot " + boot, nil
}

// sharedAccounts are the accounts of this box that other boxes draw from too, at
// a time of day.
func sharedAccounts(c *config.Config, list []admission.Link) map[admission.Account]etcd.Shared {
	out := map[admission.Account]etcd.Shared{}
	e := c.Admission.Etcd
	if e == nil {
		return out
	}
	for i := range list {
		l := &list[i]
		k := c.Interface(l.Name)
		if k == nil {
			continue
		}
		if k.Shared != "" {
			out[admission.LinkAccount(l.Name)] = etcd.Shared{Name: k.Shared, Limit: int64(min(l.Reservable, l.Capacity)), Quota: int64(e.Quota)}
		}
		for _, v := range l.Levels {
			name, rate := sharedLevel(k, v.DSCP)
			if name == "" {
				continue
			}
			out[admission.LevelAccount(l.Name, v.DSCP)] = etcd.Shared{Name: name, Limit: int64(v.Rate), Quota: int64(e.Quota)}
			// Bursts have the same part of theirs as rates have of the rate.
			part := min(1, float64(e.Quota)/float64(rate))
			out[admission.BurstAccount(l.Name, v.DSCP)] = etcd.Shared{Name: name, Burst: true, Limit: int64(v.Burst), Quota: int64(part * v.Burst)}
		}
	}
	return out
}

// sharedLevel is the name under which a level is shared, and the largest rate
// that it ever has.
func sharedLevel(k *config.Interface, code uint8) (name string, rate uint64) {
	for _, s := range k.SLS {
		if s.Class == code {
			name, rate = s.Shared, max(rate, s.Rate)
		}
	}
	return name, rate
}

// share tells the ledger which accounts other boxes draw from.
func (d *Daemon) share(c *config.Config, list []admission.Link) {
	if d.shared == nil {
		return
	}
	if err := d.shared.SetShared(sharedAccounts(c, list)); err != nil {
		d.log.Error("the shared accounts stay what they were", zap.Error(err))
	}
}

// leave ends this box's part in the shared ledger. keep: it is left to the next
// process.
func (d *Daemon) leave(keep bool) {
	if d.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	if err := d.shared.Stop(ctx, keep); err != nil {
		d.log.Warn("shared admission", zap.Error(err)) // the lease ends by itself
	}
}

// sharedProblems says what is not as it should be between the boxes.
func (d *Daemon) sharedProblems() (out []string) {
	if d.shared == nil {
		return nil
	}
	s := d.shared.Status()
	if s.State != etcd.Connected {
		out = append(out, fmt.Sprintf("etcd is not in use (%s for %v: %s): what is reserved stays, and of shared accounts no more is granted than this box has%s",
			s.State, time.Since(s.Since).Round(time.Second), s.Reason, quotaWords(d.cfg.Load().Admission.Etcd)))
	}
	for _, a := range s.Accounts {
		unit := "bytes/s"
		if a.Burst {
			unit = "bytes of bursts"
		}
		if a.Over {
			out = append(out, fmt.Sprintf("shared account %s holds %d of %d %s: a box could not reach etcd for longer than admission.etcd.ttl, or used its quota; nothing new is granted until enough has ended",
				a.Name, a.Held, a.Limit, unit))
		}
		for _, b := range a.Boxes {
			if b.Box != s.Box && b.Limit != a.Limit {
				out = append(out, fmt.Sprintf("shared account %s has %d %s here, and %d by the configuration of box %s: give all boxes the same", a.Name, a.Limit, unit, b.Limit, b.Box))
			}
		}
	}
	return out
}

func quotaWords(e *config.Etcd) string {
	if e == nil || e.Quota == 0 {
		return ""
	}
	return fmt.Sprintf(" and a quota of %d bit/s", e.Quota*8)
}
