package rig

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// borrow takes much of a processor in one stay in the kernel, which gives it memory,
// over and over, and tells of each.
func borrow() error {
	mem, err := unix.Mmap(-1, 0, 256<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	for err == nil {
		err = errors.Join(unix.Madvise(mem, unix.MADV_POPULATE_WRITE), unix.Madvise(mem, unix.MADV_DONTNEED))
		fmt.Fprintln(os.Stderr, "done")
	}
	return err
}

// What a throttled program has had too much of, it pays for a second and no longer:
// each of these stays is as much as it may have in many seconds.
func TestThrottleForgives(t *testing.T) {
	roottest.Need(t)
	r := newRig(t)
	ns, err := r.Namespace("slow")
	if err != nil {
		t.Fatal(err)
	}
	p := startRole(t, r, ns, "debtor")
	used := func() int { return strings.Count(p.Stderr(), "done") }
	for w := StartWatch(); used() == 0; time.Sleep(10 * time.Millisecond) {
		if w.Shown() > 20*time.Second {
			t.Fatal("it does not begin")
		}
	}
	undo, err := Throttle(p, 0.005)
	if err != nil {
		t.Fatal(err)
	}
	before, begin := used(), StartWatch()
	const times = 4
	for used() < before+times && begin.Shown() < 30*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	if n := used() - before; n < times {
		t.Errorf("%d in %s", n, begin.Shown())
	} else if shown := begin.Shown(); shown < 2*time.Second {
		t.Errorf("%d in %s: it is not throttled", n, shown)
	}
	if err := errors.Join(p.Kill(), undo()); err != nil {
		t.Error(err)
	}
}
