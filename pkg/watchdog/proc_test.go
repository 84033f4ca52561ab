package watchdog

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c) T 1 42 42 0 -1 4194304 1234 0 0 0 250 75 0 0 20 0 9 0 100 1000000 500 18446744073709551615\n"
	letter, used, err := parseStat([]byte(line))
	if err != nil || letter != 'T' || used != 3250*time.Millisecond {
		t.Errorf("%c, %s, %v", letter, used, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2", "42 (a) SS 1 42 42 0 -1 4194304 1234 0 0 0 250 75", "42 (a) S 1 42 42 0 -1 4194304 1234 0 0 0 x 75"} {
		if _, _, err := parseStat([]byte(bad)); !errors.Is(err, errStat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if n := tracer([]byte("Name:\tx\nTracerPid:\t77\nUid:\t0\n")); n != 77 {
		t.Errorf("traced by %d", n)
	}
	if d := runDelay([]byte("100 2500000 7\n")); d != 2500*time.Microsecond {
		t.Errorf("waited %s", d)
	}
}

// This process's own figures grow as it works.
func TestReadSelf(t *testing.T) {
	before, err := read("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before // as long as the kernel gives it no processor it has used none
	for end := time.Now().Add(time.Minute); err == nil && after.used <= before.used && time.Now().Before(end); {
		after, err = read("/proc", os.Getpid())
	}
	if err != nil || before.stopped || before.traced || after.used <= before.used {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
	if _, err := read("/proc", 1<<22+1); err == nil {
		t.Error("a process that is not there")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) T 1 42 42 0 -1 4194304 1234 0 0 0 250 75 0 0 20 0 9 0 100 1000000 500 1\n"))
	f.Add([]byte(") S"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, used, err := parseStat(b); err != nil && used != 0 {
			t.Error("an error, and a time")
		}
		tracer(b)
		runDelay(b)
	})
}
