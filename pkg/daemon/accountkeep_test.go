package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

func (r rig) keeper(t *testing.T, dir string) (*accountKeeper, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	file := &handFile{dir: dir}
	t.Cleanup(func() { _ = file.close() })
	k := &accountKeeper{accounts: r.account, kernel: r.fake, lines: &accountLines{}, log: zap.New(core), whole: zap.New(core), state: &accountState{file: file, claim: file.claim}}
	return k, logs
}

// callOf is a request of its own for each n.
func callOf(n int) softstate.Reserve {
	r := request(uint64(n), 100)
	r.Session.DstPort, r.Session.Protocol = uint16(20000+n), packet.ProtoUDP
	return r
}

// died closes what a process that dies closes, and is the next one's keeper.
func (k *accountKeeper) died(t *testing.T, dir string) (*accountKeeper, *observer.ObservedLogs) {
	t.Helper()
	if err := k.state.file.close(); err != nil {
		t.Fatal(err)
	}
	next, logs := accountRig(t).keeper(t, dir)
	if err := next.restore(accounting.Limits{}); err != nil {
		t.Fatal(err)
	}
	next.resume(nil)
	return next, logs
}

// serials are those that the log has lines of.
func serials(logs *observer.ObservedLogs) (list []uint64) {
	for _, e := range logs.FilterMessage("accounting").All() {
		list = append(list, e.ContextMap()["record"].(console.AccountingRow).Serial)
	}
	return list
}

// A daemon that dies and comes again goes on with the records from what the kernel
// has counted meanwhile; ended ones are there until they are read.
func TestAccountsSurviveARestart(t *testing.T) {
	r := accountRig(t)
	dir := filepath.Join(t.TempDir(), "state")
	k, _ := r.keeper(t, dir)
	k.store(true)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("state_dir was made for nothing: %v", err)
	}
	voice := request(2, 1e4)
	voice.Session.DstPort, voice.Session.Protocol = 5004, packet.ProtoUDP
	voiceKey := flowKey(voice.Session, voice.Filters[0])
	gone := request(3, 1e4)
	gone.Session.DstPort, gone.Session.Protocol = 5005, packet.ProtoUDP
	for _, ask := range []softstate.Reserve{request(1, 1e6), voice, gone} {
		if refusal := r.Reserve(ask); refusal != nil {
			t.Fatal(refusal)
		}
	}
	r.fake.counted[imagingKey], r.fake.counted[voiceKey] = passed(5, 0, 0), passed(1, 0, 0)
	r.Release(3)
	k.look()
	k.saved = time.Time{}
	k.store(false)
	r.fake.counted[imagingKey] = passed(8, 0, 0) // after the last look, and while nobody was there
	if err := k.state.file.close(); err != nil {
		t.Fatal(err)
	}

	next := accountRig(t)
	next.fake.counted, next.fake.have = r.fake.counted, r.fake.have
	k, _ = next.keeper(t, dir)
	var err error
	if k.book, err = k.state.load(accounting.Limits{}); err != nil {
		t.Fatal(err)
	}
	k.resume([]shaper.FlowID{{Interface: "wan0", Key: imagingKey}, {Interface: "wan0", Key: voiceKey}})
	k.look()
	if ended, running := next.records(); len(ended) != 1 || ended[0].Dport != 5005 || len(running) != 2 {
		t.Fatalf("%+v, %+v", ended, running)
	}
	if refusal := next.Reserve(request(7, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	next.fake.counted[imagingKey] = passed(9, 0, 0)
	k.forfeit()
	next.Release(7)
	ended, running := next.records()
	if len(ended) != 3 || len(running) != 0 {
		t.Fatalf("%+v, %+v", ended, running)
	}
	if e := ended[1]; e.Dport != 5004 || e.Why != whyLost || e.Usage != usage(1, 0, 0) || e.Serial != 2 {
		t.Errorf("%+v", e)
	}
	if e := ended[2]; e.Dport != 104 || e.Usage != usage(9, 0, 0) || e.Serial != 3 || e.Begin.After(ended[0].End) {
		t.Errorf("%+v", e)
	}
	// A file that nobody can read is set aside, and the daemon starts.
	if err := k.state.file.close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, accountKept)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, _ = next.keeper(t, dir)
	if b, err := k.state.load(accounting.Limits{}); err == nil || b == nil || !strings.Contains(err.Error(), accountBad) {
		t.Errorf("%v", err)
	}
	// The directory of another daemon is left alone.
	other, _ := next.keeper(t, dir)
	if err := other.state.save(k.book.Snapshot(time.Now())); err == nil || !strings.Contains(err.Error(), "another running daemon") {
		t.Errorf("%v", err)
	}
}

// The keeper finishes what is left when it is told to end.
func TestAccountKeeperEnds(t *testing.T) {
	r := accountRig(t)
	dir := t.TempDir()
	k, logs := r.keeper(t, dir)
	k.stopping.Store(true)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.Release(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k.run(ctx)
	if e := logs.FilterMessage("accounting").All(); len(e) != 1 || e[0].ContextMap()["record"].(console.AccountingRow).Reason != whyStopped {
		t.Errorf("%+v", e)
	}
	if b, err := accounting.Decode(mustRead(t, filepath.Join(dir, accountKept)), accounting.Limits{}); err != nil || len(b.Ended()) != 1 {
		t.Errorf("%v", err)
	}
}

// Whenever the process dies, the end of a reservation is told with one serial, and
// no other has it: nothing is told before it is saved, and what is saved and not
// known to be told is told again as it was.
func TestAccountIsSavedBeforeItIsTold(t *testing.T) {
	r := accountRig(t)
	dir := t.TempDir()
	k, logs := r.keeper(t, dir)
	for n := range 2 {
		if refusal := r.Reserve(callOf(n + 1)); refusal != nil {
			t.Fatal(refusal)
		}
	}
	k.store(true)
	k.pause = time.Hour // it is not time to save again
	r.Release(1)
	k.store(false)
	if got := serials(logs); len(got) != 0 {
		t.Fatalf("told before it is saved: %v", got)
	}
	// It dies here: the next one finds both running.
	k, logs = k.died(t, dir)
	k.forfeit()
	k.save(true)
	// And this one dies before it writes the lines.
	k, logs2 := k.died(t, dir)
	k.store(true)
	if got, want := append(serials(logs), serials(logs2)...), []uint64{1, 2}; !slices.Equal(got, want) {
		t.Errorf("lines of %v, want %v", got, want)
	}
	// All is told: nothing is told again, nor has anything new an old serial.
	k, logs = k.died(t, dir)
	k.store(true)
	if got := serials(logs); len(got) != 0 || k.book.Last() != 2 {
		t.Errorf("told again: %v; the last serial is %d", got, k.book.Last())
	}
}

// What the API has shown as ended is so for the next process too.
func TestAccountIsSavedBeforeItIsShown(t *testing.T) {
	r := accountRig(t)
	dir := t.TempDir()
	k, _ := r.keeper(t, dir)
	d := &Daemon{accounts: k}
	if refusal := r.Reserve(callOf(1)); refusal != nil {
		t.Fatal(refusal)
	}
	k.store(true)
	k.pause = time.Hour
	r.Release(1)
	if rows := d.Accounting(); len(rows) != 1 || rows[0].Serial != 1 {
		t.Fatalf("%+v", rows)
	}
	saved := k.saved
	if d.Accounting(); k.saved != saved {
		t.Error("saved for a reader though nothing has ended since")
	}
	next, logs := k.died(t, dir)
	if ended := next.book.Ended(); len(ended) != 1 || ended[0].Serial != 1 || ended[0].Why != whyReleased {
		t.Errorf("%+v", ended)
	}
	next.store(true)
	if got := serials(logs); !slices.Equal(got, []uint64{1}) {
		t.Errorf("lines of %v", got)
	}
}

// A book that cannot be saved does not keep the lines from being written.
func TestAccountLinesWithoutAStateDir(t *testing.T) {
	r := accountRig(t)
	k, logs := r.keeper(t, t.TempDir())
	k.state.refused = errors.New("another's")
	if refusal := r.Reserve(callOf(1)); refusal != nil {
		t.Fatal(refusal)
	}
	r.Release(1)
	k.store(false)
	if got := serials(logs); !slices.Equal(got, []uint64{1}) || k.errors.get() == 0 {
		t.Errorf("lines of %v, %d errors", got, k.errors.get())
	}
}
