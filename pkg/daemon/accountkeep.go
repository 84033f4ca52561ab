package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

const (
	// accountEvery is how often the kernel's counters are read: peaks are those of a
	// second.
	accountEvery = time.Second
	// accountShare is the part of the time that may be spent on reading and writing:
	// with very many reservations it is done less often.
	accountShare = 20
	// accountSave is how often what has only been counted on is written: the kernel
	// has it too.
	accountSave = time.Minute
)

// countReader is the part of the shaper that accounts are kept from.
type countReader interface {
	SomeCounters(list []shaper.FlowID, tell func(int, shaper.Counters)) error
}

// accountKeeper looks at the kernel's counters, writes ended records into the log
// and the file, and keeps the book in state_dir. All of it is done by one
// goroutine: traffic control waits for none of it.
type accountKeeper struct {
	*accounts
	kernel countReader
	lines  *accountLines
	state  *accountState
	log    *zap.Logger

	saved  time.Time // when state_dir was written last
	pause  time.Duration
	errors counter // of saving
}

// run does it until ctx ends, and once more then.
func (k *accountKeeper) run(ctx context.Context) {
	timer := time.NewTimer(accountEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			k.finish()
			return
		case <-k.wake:
			k.write()
		case <-timer.C:
			began := time.Now()
			k.look()
			timer.Reset(max(accountEvery, accountShare*time.Since(began)))
			k.write()
			k.save(false)
		}
	}
}

// finish leaves nothing unwritten.
func (k *accountKeeper) finish() {
	k.look()
	k.write()
	k.save(true)
}

// look reads what the kernel has counted.
func (k *accountKeeper) look() {
	var l *accounting.Look
	k.read(func(b *accounting.Book, _ time.Time) { l = b.Begin() })
	list := make([]shaper.FlowID, len(l.Rows))
	for i, r := range l.Rows {
		list[i], l.Missing[i] = shaper.FlowID(r), true
	}
	err := k.kernel.SomeCounters(list, func(i int, c shaper.Counters) { l.Counted[i], l.Missing[i] = usageOf(c), false })
	if err != nil && !errors.Is(err, shaper.ErrClosed) {
		k.log.Warn("accounting: the kernel's counters could not be read", zap.Error(err))
	}
	k.read(func(b *accounting.Book, now time.Time) { b.Count(now, l) })
}

// write tells the log and the file of ended records.
func (k *accountKeeper) write() {
	k.mu.Lock()
	list := k.untold
	k.untold = nil
	k.mu.Unlock()
	if len(list) == 0 {
		return
	}
	now := k.now()
	for i := range list {
		row := accountRow(now, &list[i])
		k.log.Info("accounting", zap.Any("record", row))
		if err := k.lines.add(row); err != nil {
			k.log.Warn("accounting: a record is not in the file; the API has it", zap.Uint64("serial", row.Serial), zap.Error(err))
		}
	}
}

// save writes the book down if there is something new in it.
func (k *accountKeeper) save(last bool) {
	since := time.Since(k.saved)
	switch {
	case last:
	case since < k.pause, !k.dirty.Load() && since < accountSave:
		return
	}
	began := time.Now()
	k.dirty.Store(false)
	var s *accounting.Snapshot
	k.read(func(b *accounting.Book, now time.Time) { s = b.Snapshot(now) })
	if err := k.state.save(s); err != nil {
		k.dirty.Store(true)
		k.errors.add()
		if k.errors.get() == 1 || last {
			k.log.Warn("accounting: what is not read yet would not survive a restart", zap.Error(err))
		}
	}
	k.saved = time.Now()
	k.pause = max(accountEvery, accountShare*k.saved.Sub(began))
}

// resume takes over what an earlier process has kept. Of rows that are not in the
// kernel any more nothing can come.
func (k *accountKeeper) resume(adopted []shaper.FlowID) {
	there := make(map[shaper.FlowID]bool, len(adopted))
	for _, id := range adopted {
		there[id] = true
	}
	k.read(func(b *accounting.Book, now time.Time) {
		for _, r := range b.Begin().Rows {
			if !there[shaper.FlowID(r)] {
				b.Lose(now, r)
			}
		}
	})
}

// forfeit ends what an earlier process has kept and has not come again.
func (k *accountKeeper) forfeit() {
	k.do(func(b *accounting.Book, now time.Time) {
		for _, r := range b.Forfeit(now, whyLost) {
			k.tell(r)
		}
	})
}

// keepAccounts joins the accounts to the other rooms.
func (d *Daemon) keepAccounts(c *config.Config) error {
	k := &accountKeeper{accounts: d.tc.account, kernel: d.shape, log: d.log, state: &accountState{file: &d.hands.file, claim: d.hands.claim}}
	book, err := k.state.load(accounting.Limits{Kept: c.Accounting.Keep})
	if err != nil {
		d.hands.problem = errors.Join(d.hands.problem, err)
		d.log.Warn("the daemon starts without them", zap.Error(err))
	}
	k.book = book
	if k.lines, err = openAccountLines(c.Accounting.File); err != nil {
		return err
	}
	d.accounts = k
	return nil
}

// configure goes on by a new configuration.
func (k *accountKeeper) configure(c config.Accounting, records *os.File) {
	k.do(func(b *accounting.Book, _ time.Time) { b.Limit(c.Keep) })
	if err := k.lines.swap(c.File, records); err != nil {
		k.log.Warn("accounting: the file before", zap.Error(err))
	}
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
