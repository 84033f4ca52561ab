package daemon

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sort"
	"sync"
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
	whole  *zap.Logger // log with nothing left out

	writing sync.Mutex // held over saving and writing; taken before accounts.mu
	saved   time.Time  // when state_dir was written last
	through uint64     // it has, or could not get, the records up to this serial
	pause   time.Duration
	errors  counter // of saving
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
			k.store(false)
		case <-timer.C:
			began := time.Now()
			k.look()
			timer.Reset(max(accountEvery, accountShare*time.Since(began)))
			k.store(false)
		}
	}
}

// finish leaves nothing unwritten.
func (k *accountKeeper) finish() {
	k.look()
	k.store(true)
}

// store saves the book and then tells of what has ended: what anybody has seen of
// a record does not depend on whether this process dies, nor does its serial. A
// record whose telling is not in the saved book yet is told again by the next
// process, as it was.
func (k *accountKeeper) store(last bool) {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.save(last)
	if k.write() && last {
		k.save(true)
	}
}

// settle has the book saved if a record has ended since: it is about to be shown.
func (k *accountKeeper) settle() {
	k.writing.Lock()
	defer k.writing.Unlock()
	ended := uint64(0)
	k.read(func(b *accounting.Book, _ time.Time) { ended = b.Last() })
	if ended > k.through {
		k.save(true)
	}
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

// write tells the log and the file of ended records that are saved, and whether
// there were any. Where a file has them all the log need not. k.writing is held.
func (k *accountKeeper) write() bool {
	k.mu.Lock()
	n := sort.Search(len(k.untold), func(i int) bool { return k.untold[i].Serial > k.through })
	list := k.untold[:n:n]
	k.untold = k.untold[n:]
	k.mu.Unlock()
	if n == 0 {
		return false
	}
	now := k.now()
	for i := range list {
		row := accountRow(now, &list[i])
		there, err := k.lines.add(row)
		if err != nil {
			k.log.Warn("accounting: a record is not in the file; the API has it", zap.Uint64("serial", row.Serial), zap.Error(err))
		}
		log := k.whole
		if there && err == nil {
			log = k.log
		}
		log.Info("accounting", zap.Any("record", row))
	}
	k.do(func(b *accounting.Book, _ time.Time) { b.Told(list[n-1].Serial) })
	return true
}

// save writes the book down if there is something new in it. k.writing is held.
func (k *accountKeeper) save(now bool) {
	since := time.Since(k.saved)
	switch {
	case now:
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
		if k.errors.get() == 1 || k.stopping.Load() {
			k.log.Warn("accounting: what is not read yet would not survive a restart", zap.Error(err))
		}
	}
	k.saved, k.through = time.Now(), s.Last()
	k.pause = max(accountEvery, accountShare*k.saved.Sub(began))
}

// restore begins with the book of an earlier process. What had ended and was perhaps
// not told of, since that process died, is told now.
func (k *accountKeeper) restore(l accounting.Limits) error {
	book, err := k.state.load(l)
	k.book, k.through = book, book.Last()
	k.read(func(b *accounting.Book, _ time.Time) {
		list := b.Untold()
		for i := range list {
			k.tell(&list[i])
		}
	})
	return err
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
	k := &accountKeeper{
		accounts: d.tc.account, kernel: d.shape, log: d.log, whole: cmp.Or(d.opts.whole, d.log),
		state: &accountState{file: &d.hands.file, claim: d.hands.claim},
	}
	err := k.restore(accounting.Limits{Kept: c.Accounting.Keep})
	if err != nil {
		d.hands.problem = errors.Join(d.hands.problem, err)
		d.log.Warn("the daemon starts without them", zap.Error(err))
	}
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
