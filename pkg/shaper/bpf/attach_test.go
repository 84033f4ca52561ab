package bpf

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// unprivileged runs a function in this thread without a capability that it has.
func unprivileged(t *testing.T, bit uint, f func()) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var is [2]unix.CapUserData
	if err := unix.Capget(&hdr, &is[0]); err != nil {
		t.Fatal(err)
	}
	less := is
	less[bit/32].Effective &^= 1 << (bit % 32)
	if err := unix.Capset(&hdr, &less[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&hdr, &is[0]); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// The program that was found is put back where another took its place or where it was
// taken away. Who may not open it leaves what hangs there.
func TestPutBack(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	want := plan.Program{Attached: true, Current: true, Header: 14}
	first := openTable(t, dir, 10)
	if err := first.Attach(Egress, ifindex, want); err != nil {
		t.Fatal(err)
	}
	at := func() []uint32 {
		t.Helper()
		ids, err := Programs(Egress, ifindex)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	found := at()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openTable(t, dir, 10)
	for name, away := range map[string]func() error{
		"another program": func() error { return second.Attach(Egress, ifindex, want) },
		"none":            func() error { return second.Detach(Egress, ifindex) },
	} {
		if err := away(); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(at(), found) {
			t.Errorf("%s: it is still there", name)
		}
		if err := second.PutBack(Egress, ifindex); err != nil {
			t.Error(err)
		}
		if s := second.State(Egress, ifindex); !slices.Equal(at(), found) || !s.Attached || s.Current {
			t.Errorf("%s: %v, and before %v; %+v", name, at(), found, s)
		}
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, unix.CAP_SYS_ADMIN, func() {
		third, err := Open(dir, 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := third.Close(); err != nil {
				t.Error(err)
			}
		}()
		if err := third.Attach(Egress, ifindex, want); err != nil {
			t.Fatal(err)
		}
		ours := at()
		if err := third.PutBack(Egress, ifindex); err != nil || !slices.Equal(at(), ours) || slices.Equal(ours, found) {
			t.Errorf("%v: %v hangs there, ours %v, found %v", err, at(), ours, found)
		}
	})
}
