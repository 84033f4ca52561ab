package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

func testKey(n int) packet.FlowKey {
	return packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), uint16(1000+n)), netip.AddrPortFrom(netip.MustParseAddr("10.2.0.2"), 80))
}

// testNow is when the promises of these tests are read.
var testNow = time.Unix(1_800_000_000, 0)

func clockOf(at *time.Time) func() time.Time { return func() time.Time { return *at } }

func stamp(t time.Time) uint32 { return uint32(t.Unix()) }

// keeper is a record in dir, with what it has found there.
func keeper(t testing.TB, dir string, slots int) *promises {
	t.Helper()
	k := &promises{
		dir: dir, slots: slots, log: zap.NewNop(), boot: [16]byte{1},
		claim: func() error { return os.MkdirAll(dir, stateDirMod) }, now: clockOf(&testNow), since: time.Unix(0, 0),
		sides: func(packet.FlowKey) (int, int) { return 3, 4 },
	}
	if err := k.load(); err != nil {
		t.Fatal(err)
	}
	return k
}

// crashEnv has this test program keep promises until it is killed.
const crashEnv = "QOSPROXY_TEST_PROMISES"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		promiseUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func promiseUntilKilled(dir string) {
	k := &promises{
		dir: dir, slots: 4, log: zap.NewNop(), claim: func() error { return nil }, now: time.Now, since: bootTime(),
		sides: func(packet.FlowKey) (int, int) { return 3, 4 }, boot: [16]byte{1},
	}
	out := bufio.NewWriterSize(os.Stdout, 16)
	var slots [2]int
	for i := range slots {
		n, ok := k.Take(testKey(i), tcpcheat.Reliable)
		if !ok || n < 0 {
			fmt.Fprintln(os.Stderr, "no slot", k.failed)
			os.Exit(1)
		}
		slots[i] = n
	}
	for n := 1; ; n++ {
		for i, s := range slots {
			p := tcpcheat.Promise{Key: testKey(i), Passed: packet.Seq(n), Had: packet.Seq(n / 2), At: stamp(testNow)}
			k.Put(s, &p)
		}
		fmt.Fprintln(out, n)
		if err := out.Flush(); err != nil {
			os.Exit(1)
		}
	}
}

// What was recorded before anybody was told is there when the process is gone, by
// whatever signal, and at whatever moment.
func TestPromisesSurviveSIGKILL(t *testing.T) {
	for round := range 8 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		told := 0
		for told < 200+round*37 && lines.Scan() {
			if told, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had told when it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				told = n
			}
		}
		_ = cmd.Wait() // killed
		k := keeper(t, dir, 4)
		if len(k.left) != 2 || told < 200 {
			t.Fatalf("told of %d; found %+v", told, k.left)
		}
		for _, l := range k.left {
			if p := int(l.Promise.Passed); p < told || p > told+2 || l.In != 3 || l.Promise.Had != packet.Seq(p/2) {
				t.Errorf("told of %d, found %+v", told, l)
			}
		}
	}
}

// What is still owed to somebody has a slot in the next process's file from its
// first moment, and stays there for as long as it is looked after.
func TestPromisesAreCarriedOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	one := keeper(t, dir, 3)
	for i := range 3 {
		n, ok := one.Take(testKey(i), tcpcheat.Realtime)
		if !ok {
			t.Fatal("full")
		}
		p := tcpcheat.Promise{Key: testKey(i), Passed: 1000, Had: packet.Seq(1000 - 100*i), At: stamp(testNow)}
		one.Put(n, &p)
	}
	if _, ok := one.Take(testKey(3), tcpcheat.Realtime); ok || one.count.full.get() != 1 {
		t.Error("limits.flows is the number of slots")
	}

	two := keeper(t, dir, 3)
	if len(two.left) != 3 || two.left[2].In != 3 || two.left[2].Out != 4 {
		t.Fatalf("found %+v", two.left)
	}
	if err := two.open(); err != nil {
		t.Fatal(err)
	}
	if two.inUse() != 2 {
		t.Errorf("%d slots are taken: one connection owes nothing", two.inUse())
	}
	n, ok := two.Take(testKey(2).Reverse().Reverse(), tcpcheat.Realtime)
	if !ok || two.inUse() != 2 {
		t.Error("a connection that is taken over has its slot")
	}
	two.Free(n)
	two.drop(testKey(1))
	if err := two.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, promiseKept)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing is owed, and there is still a file: %v", err)
	}
}

// A file that cannot be read is set aside, and the daemon begins with a new one.
func TestPromisesDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, promiseKept), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &promises{dir: dir, slots: 1, log: zap.NewNop(), claim: func() error { return nil }, sides: func(packet.FlowKey) (int, int) { return 0, 0 }}
	if err := k.load(); err == nil {
		t.Error("read")
	}
	if _, err := os.Stat(filepath.Join(dir, promiseKept+promiseBad)); err != nil {
		t.Error(err)
	}
	if n, ok := k.Take(testKey(0), tcpcheat.Reliable); !ok || n != 0 {
		t.Errorf("slot %d, %v", n, ok)
	}
	if err := k.close(); err != nil { // something is owed: the file stays
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, promiseKept)); err != nil {
		t.Error(err)
	}
}

// The time of promises goes on with the clock that nobody sets, and is the same in another
// process.
func TestPromisesTimeIsTheMachines(t *testing.T) {
	a := bootTime()
	time.Sleep(20 * time.Millisecond)
	b := bootTime()
	if d := b.Sub(a).Abs(); d > 10*time.Millisecond {
		t.Errorf("the machine was started %s later", d)
	}
	if !strings.Contains(a.String(), " m=-") {
		t.Errorf("%s is the wall clock's alone", a)
	}
	if up := time.Since(a); up < time.Second || up > 100*365*24*time.Hour {
		t.Errorf("it is up for %s", up)
	}
}

// A record of a connection whose receiver had everything grows old, too: nobody is
// spoken for hours later.
func TestWholeRecordsGrowOld(t *testing.T) {
	for age, want := range map[time.Duration]int{4 * time.Minute: 1, 6 * time.Minute: 0} {
		dir := t.TempDir()
		one := keeper(t, dir, 2)
		n, ok := one.Take(testKey(0), tcpcheat.Reliable)
		if !ok || n < 0 {
			t.Fatal(one.failed)
		}
		one.Put(n, &tcpcheat.Promise{Key: testKey(0), Passed: 1000, Had: 1000, At: stamp(testNow.Add(-age))})
		two := keeper(t, dir, 2)
		if len(two.left) != want || two.count.lost.get() != 0 {
			t.Errorf("after %s %d are left, %d lost", age, len(two.left), two.count.lost.get())
		}
	}
}

// owing is a record that owes something to connection 0.
func owing(t *testing.T, k *promises, at time.Time) {
	t.Helper()
	n, ok := k.Take(testKey(0), tcpcheat.Reliable)
	if !ok || n < 0 {
		t.Fatal(k.failed)
	}
	k.Put(n, &tcpcheat.Promise{Key: testKey(0), Passed: 1000, At: stamp(at)})
}

// Promises that are older than anybody waits for, or from before the machine was
// started, are nobody's: the ports may be another connection's.
func TestPromisesGrowOld(t *testing.T) {
	for name, tc := range map[string]struct {
		age  time.Duration
		boot [16]byte
		left int
	}{
		"of now":            {0, [16]byte{1}, 1},
		"four minutes":      {4 * time.Minute, [16]byte{1}, 1},
		"the clock went on": {-time.Hour, [16]byte{1}, 1},
		"six minutes":       {6 * time.Minute, [16]byte{1}, 0},
		"another boot":      {0, [16]byte{2}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			one := keeper(t, dir, 2)
			one.boot = tc.boot
			owing(t, one, testNow.Add(-tc.age))
			two := keeper(t, dir, 2)
			if len(two.left) != tc.left {
				t.Errorf("%d are left", len(two.left))
			}
			if _, err := os.Stat(filepath.Join(dir, promiseKept)); errors.Is(err, os.ErrNotExist) != (tc.left == 0) {
				t.Errorf("the file: %v", err)
			}
		})
	}
}

// The file is in memory, by a name of this state_dir alone; it goes when nothing is owed,
// and the directory with the last of them.
func TestPromisesAreInMemory(t *testing.T) {
	memory := filepath.Join(t.TempDir(), "qosproxy")
	boxes := []*promises{keeper(t, t.TempDir(), 3), keeper(t, t.TempDir(), 3)}
	for _, k := range boxes {
		k.memory = []string{memory}
		if err := k.open(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(k.dir, promiseKept)); !errors.Is(err, os.ErrNotExist) || filepath.Dir(k.at) != memory {
			t.Errorf("kept as %s; in state_dir: %v", k.at, err)
		}
	}
	if boxes[0].at == boxes[1].at {
		t.Fatal("two boxes have the same file")
	}
	if st, err := os.Stat(memory); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	owing(t, boxes[0], testNow)
	for _, k := range boxes {
		if err := k.close(); err != nil {
			t.Fatal(err)
		}
	}
	again := &promises{dir: boxes[0].dir, memory: boxes[0].memory, slots: 3, log: zap.NewNop(), boot: [16]byte{1}, claim: boxes[0].claim, sides: boxes[0].sides, now: boxes[0].now, since: boxes[0].since}
	if err := again.load(); err != nil || len(again.left) != 1 {
		t.Fatalf("%v, %d left", err, len(again.left))
	}
	if err := again.open(); err != nil {
		t.Fatal(err)
	}
	again.drop(testKey(0))
	if err := again.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(memory); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing is owed, and there is still something in memory: %v", err)
	}
}

// What was kept in state_dir goes into memory when there is one.
func TestPromisesMoveIntoMemory(t *testing.T) {
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "qosproxy")
	owing(t, keeper(t, dir, 2), testNow)
	k := keeper(t, dir, 2)
	k.memory = []string{memory}
	if err := k.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, promiseKept)); !errors.Is(err, os.ErrNotExist) || k.inUse() != 1 || filepath.Dir(k.at) != memory {
		t.Errorf("%v; %d in %s", err, k.inUse(), k.at)
	}
}

// Where nothing can be kept in memory, or others could write there, it is state_dir.
func TestPromisesFallBackToStateDir(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, memory := range map[string]string{"it cannot be made": filepath.Join(t.TempDir(), "a", "b"), "anybody writes there": open} {
		k := keeper(t, t.TempDir(), 2)
		k.memory = []string{memory}
		if err := k.open(); err != nil || k.at != filepath.Join(k.dir, promiseKept) {
			t.Errorf("%s: %v, %s", name, err, k.at)
		}
	}
}

// Memory is taken as slots are: what is written to has it.
func TestPromisesTakeMemoryInPieces(t *testing.T) {
	k := keeper(t, t.TempDir(), 3*promiseRoom-5)
	k.memory = []string{filepath.Join(t.TempDir(), "qosproxy")}
	for i := range k.slots {
		n, ok := k.Take(testKey(i), tcpcheat.Reliable)
		if want := min((i/promiseRoom+1)*promiseRoom, k.slots); !ok || n != i || k.room != want {
			t.Fatalf("slot %d of %d, %v; there is room for %d, want %d", n, i, ok, k.room, want)
		}
	}
	if _, ok := k.Take(testKey(0), tcpcheat.Reliable); ok {
		t.Error("more than there are")
	}
}

// What could not be made is tried again by a reload, and not by packets.
func TestPromisesAreTriedAgain(t *testing.T) {
	k := keeper(t, t.TempDir(), 1)
	claim := k.claim
	k.claim = func() error { return errors.New("not now") }
	if k.open() == nil {
		t.Fatal("made")
	}
	k.claim = claim
	if n, ok := k.Take(testKey(0), tcpcheat.Reliable); !ok || n >= 0 {
		t.Errorf("a packet has it made: slot %d", n)
	}
	if err := k.open(); err != nil || k.problem() != "" {
		t.Errorf("%v, %q", err, k.problem())
	}
}

// A reservation by hand that cheats has the record ready before its first packet.
func TestHandPreparesForCheating(t *testing.T) {
	r := testHands(t, t.TempDir())
	one := ask(1000)
	one.Protocol = console.Text("tcp")
	r.must(t, one)
	if r.prepared != 0 {
		t.Errorf("prepared %d times for one that is not cheated", r.prepared)
	}
	two := ask(1001)
	two.Protocol, two.TCP = console.Text("tcp"), "reliable"
	r.must(t, two)
	if r.prepared != 1 {
		t.Errorf("prepared %d times", r.prepared)
	}
	r.restore(t.Context())
	if r.prepared != 2 {
		t.Errorf("prepared %d times, with those of an earlier process", r.prepared)
	}
}

// Without a file connections are cheated all the same: it is told and counted.
func TestPromisesNowhereToKeep(t *testing.T) {
	k := &promises{dir: t.TempDir(), slots: 1, log: zap.NewNop(), claim: func() error { return errors.New("not here") }, sides: func(packet.FlowKey) (int, int) { return 0, 0 }}
	if n, ok := k.Take(testKey(0), tcpcheat.Reliable); !ok || n >= 0 || k.count.unrecorded.get() != 1 {
		t.Errorf("slot %d, %v", n, ok)
	}
	if err := k.close(); err != nil {
		t.Error(err)
	}
}

// The engine's packets are recorded in the mapped file without an allocation.
func TestPromisePutAllocatesNothing(t *testing.T) {
	k := keeper(t, t.TempDir(), 2)
	n, _ := k.Take(testKey(0), tcpcheat.Reliable)
	p := tcpcheat.Promise{Key: testKey(0), RTT: time.Second}
	if a := testing.AllocsPerRun(1000, func() { p.Passed++; k.Put(n, &p) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkPromisePut(b *testing.B) {
	k := keeper(b, b.TempDir(), 2)
	n, _ := k.Take(testKey(0), tcpcheat.Reliable)
	p := tcpcheat.Promise{Key: testKey(0)}
	for b.Loop() {
		p.Passed++
		k.Put(n, &p)
	}
}
