package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// passed is what the kernel shows of a row after so many packets of 100 bytes.
func passed(conform, exceed, dropped uint64) shaper.Counters {
	all := exceed + dropped // as the kernel counts: what is dropped exceeds
	return shaper.Counters{
		Packets: conform + all, Bytes: 100 * (conform + all), Conform: conform, ConformBytes: 100 * conform,
		Exceed: all, ExceedBytes: 100 * all, Dropped: dropped, DroppedBytes: 100 * dropped,
	}
}

func usage(conform, exceed, dropped uint64) accounting.Usage {
	n := func(packets uint64) accounting.Count { return accounting.Count{Packets: packets, Bytes: 100 * packets} }
	return accounting.Usage{Conform: n(conform), Exceed: n(exceed), Dropped: n(dropped)}
}

func accountRig(t *testing.T) rig {
	r := testControl(t)
	r.fake.counted = map[packet.FlowKey]shaper.Counters{}
	return r
}

func (r rig) keeper(t *testing.T, dir string) (*accountKeeper, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	file := &handFile{dir: dir}
	t.Cleanup(func() { _ = file.close() })
	k := &accountKeeper{accounts: r.account, kernel: r.fake, lines: &accountLines{}, log: zap.New(core), whole: zap.New(core), state: &accountState{file: file, claim: file.claim}}
	return k, logs
}

func (r rig) records() (ended, running []accounting.Record) {
	r.account.read(func(b *accounting.Book, now time.Time) { ended, running = b.Ended(), b.Running(now) })
	return ended, running
}

// A flow that was counted before its reservation, and is counted after it: the
// record has what passed in between, by what it was found to be.
func TestAccountOfAReservation(t *testing.T) {
	r := accountRig(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if err := r.count(t.Context(), plan.Treatment{Key: imagingKey, Interface: "wan0"}); err != nil {
		t.Fatal(err)
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(8, 2, 1)
	change := request(1, 5e5)
	change.Change = true
	if refusal := r.Reserve(change); refusal != nil {
		t.Fatal(refusal)
	}
	k, _ := r.keeper(t, t.TempDir())
	k.look()
	if _, running := r.records(); len(running) != 1 || running[0].Usage != usage(5, 2, 1) || running[0].Rate != 5e5 || running[0].Style != "ff" || running[0].Policy != "imaging" || running[0].DSCP != 26 {
		t.Fatalf("%+v", running)
	}
	r.fake.counted[imagingKey] = passed(10, 2, 4)
	r.Release(1)
	if got := r.fake.have[imagingKey]; got.Reserve {
		t.Fatalf("%+v", got)
	}
	r.fake.counted[imagingKey] = passed(90, 2, 4) // nobody's any more
	k.look()
	ended, running := r.records()
	if len(ended) != 1 || len(running) != 0 || ended[0].Usage != usage(7, 2, 4) || ended[0].Why != whyReleased {
		t.Fatalf("%+v, %+v", ended, running)
	}
	p := ended[0].Parts
	if len(p) != 1 || p[0].Interface != "wan0" || p[0].User != (accounting.User{Kind: accounting.ByAddress, Name: "10.1.0.2"}) || p[0].Usage != usage(7, 2, 4) {
		t.Errorf("%+v", p)
	}
}

// A row that goes with its reservation has its last counts told, and one that is
// made anew begins from nothing.
func TestAccountOfARowThatGoes(t *testing.T) {
	r := accountRig(t)
	for range 2 {
		if refusal := r.Reserve(request(1, 1e6)); refusal != nil { // there is no other reason for the row
			t.Fatal(refusal)
		}
		r.fake.counted[imagingKey] = passed(6, 0, 0)
		r.flows.remove(imagingKey)
		r.Release(1)
		if len(r.fake.have) != 0 {
			t.Fatal("the row has not gone")
		}
	}
	if ended, _ := r.records(); len(ended) != 2 || ended[0].Usage != usage(6, 0, 0) || ended[1].Usage != usage(6, 0, 0) {
		t.Errorf("%+v", ended)
	}
}

// A reservation that takes over from one that was taken back (a style is changed so)
// has what passes from then on, and the other what passed before.
func TestAccountOfAStyleChange(t *testing.T) {
	r := accountRig(t)
	wf := request(1, 1e6)
	wf.Style = wire.WF
	if refusal := r.Reserve(wf); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(4, 0, 0)
	r.Torn(1)
	r.fake.counted[imagingKey] = passed(5, 0, 0)
	if refusal := r.Reserve(request(2, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(9, 0, 0)
	r.Release(2)
	ended, running := r.records()
	if len(ended) != 2 || len(running) != 0 || ended[0].Usage != usage(5, 0, 0) || ended[0].Style != "wf" || ended[0].Why != whyTorn || ended[1].Usage != usage(4, 0, 0) {
		t.Errorf("%+v, %+v", ended, running)
	}
}

// What could not be programmed has no record, and the reservation in place keeps
// its own.
func TestAccountOfAFailure(t *testing.T) {
	r := accountRig(t)
	r.fake.fail = errors.New("no room")
	if r.Reserve(request(1, 1e6)) == nil {
		t.Fatal("granted")
	}
	if ended, running := r.records(); len(ended)+len(running) != 0 {
		t.Errorf("%+v, %+v", ended, running)
	}
	r.fake.fail = nil
	if refusal := r.Reserve(request(2, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(2, 0, 0)
	r.fake.fail = errors.New("no room")
	change := request(2, 2e5)
	change.Change = true
	if r.Reserve(change) == nil {
		t.Fatal("granted")
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	r.fake.fail = nil
	r.Release(2)
	if ended, _ := r.records(); len(ended) != 1 || ended[0].Usage != usage(3, 0, 0) || ended[0].Rate != 1e6 {
		t.Errorf("%+v", ended)
	}
}

// The branches of a flow to a group are one record.
func TestAccountOfAGroup(t *testing.T) {
	r := testControl(t)
	k := &byPlace{have: map[shaper.FlowID]plan.Treatment{}, counted: map[shaper.FlowID]shaper.Counters{}}
	r.kernel = k
	session, filter := sessionOf(groupKey)
	for id, out := range map[uint64]int{1: wan, 2: lan} {
		if refusal := r.Reserve(softstate.Reserve{
			ID: id, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: 7, Out: softstate.IfIndex(out), FlowSpec: spec(1e4), SenderTSpec: spec(1e4).TSpec,
		}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	k.counted[shaper.FlowID{Interface: "wan0", Key: groupKey}] = passed(3, 0, 0)
	k.counted[shaper.FlowID{Interface: "lan0", Key: groupKey}] = passed(1, 1, 0)
	r.Release(2)
	if ended, running := r.records(); len(ended) != 0 || len(running) != 1 || running[0].Usage != usage(1, 1, 0) {
		t.Fatalf("%+v, %+v", ended, running)
	}
	r.Release(1)
	ended, _ := r.records()
	if len(ended) != 1 || ended[0].Usage != usage(4, 1, 0) || len(ended[0].Parts) != 2 {
		t.Errorf("%+v", ended)
	}
}

// RFC 3182: who the messages name pays; else who has made the reservation by hand;
// else the source. It may change while the reservation is in place.
func TestAccountOfAUserRFC3182(t *testing.T) {
	r := accountRig(t)
	ask := request(1, 1e6)
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(1, 0, 0)
	k, _ := r.keeper(t, t.TempDir())
	k.look()
	r.flows.hand.put(byhand.Reservation{ID: 1, Flow: imagingKey, Owner: "alice"})
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	k.look()
	ask.Identities = []softstate.Identity{
		{Said: wire.Identity{Type: wire.AuthApp}, Names: []string{"app"}},
		{Said: wire.Identity{Type: wire.AuthUser}, Names: []string{"CN=Joe"}},
	}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(7, 0, 0)
	r.Release(1)
	want := map[accounting.User]accounting.Usage{
		{Kind: accounting.ByAddress, Name: "10.1.0.2"}: usage(1, 0, 0),
		{Kind: accounting.ByOwner, Name: "alice"}:      usage(2, 0, 0),
		{Kind: accounting.ByIdentity, Name: "CN=Joe"}:  usage(4, 0, 0),
	}
	r.account.read(func(b *accounting.Book, now time.Time) {
		for _, s := range b.Users(now) {
			if want[s.User] != s.Usage {
				t.Errorf("%+v", s)
			}
			delete(want, s.User)
		}
	})
	if len(want) != 0 {
		t.Errorf("missing: %+v", want)
	}
}

func lines(t *testing.T, path string) (rows []console.AccountingRow) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(strings.NewReader(string(data))); s.Scan(); {
		var row console.AccountingRow
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		rows = append(rows, row)
	}
	return rows
}

// Each record that ends is a line in the log and in the file. A file that is moved
// away is let go at a SIGHUP; one that cannot be made anew stays in use.
func TestAccountLines(t *testing.T) {
	r := accountRig(t)
	k, logs := r.keeper(t, t.TempDir())
	dir := t.TempDir()
	path := filepath.Join(dir, "records.json")
	var err error
	if k.lines, err = openAccountLines(path); err != nil {
		t.Fatal(err)
	}
	one := func(packets uint64) {
		t.Helper()
		if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
			t.Fatal(refusal)
		}
		r.fake.counted[imagingKey] = passed(packets, 0, 0)
		r.flows.remove(imagingKey)
		r.Release(1)
		k.store(true)
	}
	one(1)
	if got := lines(t, path); len(got) != 1 || got[0].ConformPackets != 1 || got[0].Serial != 1 || got[0].Src != "10.1.0.2" || got[0].Reason != whyReleased || got[0].State != console.AccountEnded {
		t.Errorf("%+v", got)
	}
	if e := logs.FilterMessage("accounting").All(); len(e) != 1 || e[0].ContextMap()["record"].(console.AccountingRow).ConformBytes != 100 {
		t.Errorf("%+v", e)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	one(2) // the old file still
	if err := k.lines.reopen(); err != nil {
		t.Fatal(err)
	}
	one(3)
	if old, now := lines(t, path+".1"), lines(t, path); len(old) != 2 || len(now) != 1 || now[0].Serial != 3 {
		t.Errorf("%+v, %+v", old, now)
	}
	k.lines.path = filepath.Join(dir, "none", "records.json")
	if err := k.lines.reopen(); err == nil {
		t.Error("a directory that is not there")
	}
	one(4)
	if got := lines(t, path); len(got) != 2 || k.lines.lost.get() != 0 {
		t.Errorf("%+v", got)
	}
	if err := k.lines.f.Close(); err != nil {
		t.Fatal(err)
	}
	one(5)
	if k.lines.lost.get() != 1 {
		t.Error("a line that was not written is not counted")
	}
	if _, err := openAccountLines(filepath.Join(dir, "none", "x")); err == nil {
		t.Error("a file that cannot be opened")
	}
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

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAccountRowOfAnSPI(t *testing.T) {
	key := packet.SPIKey(packet.ProtoESP, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2"), 0x1234)
	row := accountRow(time.Now(), &accounting.Record{
		Info:  accounting.Info{Dst: key.DstAddr(), Protocol: packet.ProtoESP, Format: "gpi", Src: key.SrcAddr(), SPI: 0x1234},
		Parts: []accounting.Part{{Row: rowOf("wan0", key)}},
	})
	if row.SPI != 0x1234 || row.Format != "gpi" || row.Branches[0].Sport != 0 {
		t.Errorf("%+v", row)
	}
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

// However many reservations end at once, each has its line, in the log or, where
// there is one, in the file.
func TestAccountLinesAreNotThinned(t *testing.T) {
	const calls = 90
	for _, file := range []string{"", filepath.Join(t.TempDir(), "records.json")} {
		r := accountRig(t)
		k, _ := r.keeper(t, t.TempDir())
		core, logs := observer.New(zap.InfoLevel)
		k.whole = zap.New(core)
		k.log = thinned(k.whole)
		var err error
		if k.lines, err = openAccountLines(file); err != nil {
			t.Fatal(err)
		}
		for n := range calls {
			if refusal := r.Reserve(callOf(n + 1)); refusal != nil {
				t.Fatal(refusal)
			}
		}
		for n := range calls {
			r.Release(uint64(n + 1))
		}
		k.store(true)
		got := len(serials(logs))
		if file == "" && got != calls {
			t.Errorf("%d lines in the log of %d", got, calls)
		}
		if file != "" && (len(lines(t, file)) != calls || got >= calls) {
			t.Errorf("%d lines in the file of %d, and %d in the log", len(lines(t, file)), calls, got)
		}
	}
}

// A line of which only a part could be written, now or by a process before, does
// not spoil the next.
func TestAccountLinesAfterATornOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.json")
	if err := os.WriteFile(path, []byte("{\"serial\":1}\n{\"ser"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		l, err := openAccountLines(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.add(console.AccountingRow{Serial: uint64(2 + n)}); err != nil {
			t.Fatal(err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Split(string(mustRead(t, path)), "\n"); len(got) != 5 || got[1] != `{"ser` || !json.Valid([]byte(got[2])) || !json.Valid([]byte(got[3])) {
		t.Errorf("%q", got)
	}

	// A pipe with room for a page takes a part.
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	out, in := os.NewFile(uintptr(fds[0]), "out"), os.NewFile(uintptr(fds[1]), "in")
	defer func() { _ = out.Close() }()
	size, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	if _, err := in.Write(make([]byte, size-page)); err != nil {
		t.Fatal(err)
	}
	if err := in.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	l := &accountLines{f: in}
	if _, err := l.add(console.AccountingRow{Reason: strings.Repeat("x", 4*page)}); err == nil || !l.torn || l.lost.get() != 1 {
		t.Fatalf("%v, torn %t", err, l.torn)
	}
	if _, err := io.CopyN(io.Discard, out, int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := in.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.add(console.AccountingRow{Serial: 7}); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || rest[0] != '\n' || !json.Valid(rest[1:]) || l.torn {
		t.Errorf("%q, %v", rest, err)
	}
}
