package nfq

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRow(t *testing.T) {
	num, c, err := parseRow([]byte("  101   4242    17 2 65531     3     5     1234  1\n"))
	want := KernelCounters{PortID: 4242, Waiting: 17, QueueDropped: 3, UserDropped: 5, LastID: 1234}
	if err != nil || num != 101 || c != want {
		t.Error(num, err, cmp.Diff(want, c))
	}
	for _, bad := range []string{"", "1 2 3", "70000 1 1 1 1 1 1 1", "x 1 1 1 1 1 1 1", "1 1 1 1 1 1 1 -1"} {
		if _, _, err := parseRow([]byte(bad)); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

// The rows are read from their beginning each time, by whoever asks, and without a
// buffer of its own for each.
func TestRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows")
	const text = "  100   4242     0 2 65531     0     0        1  1\n  101   4242    17 2 65531     3     5     1234  1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p := procFile{f}
	defer func() { _ = p.close() }()
	var before, after runtime.MemStats
	const times = 400
	runtime.ReadMemStats(&before)
	for range times {
		if c, ok := p.row(101); !ok || c.Waiting != 17 {
			t.Fatalf("%+v, %v", c, ok)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / times; n > procRoom/2 {
		t.Errorf("%d bytes for each reading", n)
	}
	if c, ok := p.row(102); ok {
		t.Errorf("a queue that is not there: %+v", c)
	}
	if _, ok := (procFile{}).row(101); ok {
		t.Error("no file, and a row")
	}
}
