package daemon

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/console"
)

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

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
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
