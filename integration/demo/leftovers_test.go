package demo

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// What stays is found: a look that never finds anything would prove nothing.
func TestLeftoversAreFound(t *testing.T) {
	roottest.Need(t)
	watch, err := watchLeftovers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := rig.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	ns, err := r.Namespace("box1")
	if err == nil {
		err = watch.made(r)
	}
	var p *rig.Process
	if err == nil {
		p, err = r.Start(rig.ProcessConfig{NS: ns, Path: "/bin/sleep", Args: []string{"60"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	left, err := watch.find(work)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{work, "namespace " + ns.Name(), fmt.Sprintf("process %d in %s", p.PID(), ns.Name())}
	if !slices.Equal(left, want) {
		t.Errorf("found %q, want %q", left, want)
	}
	if err := errors.Join(r.Close(), os.RemoveAll(work)); err != nil {
		t.Fatal(err)
	}
	if left, err := watch.find(work); err != nil || len(left) > 0 {
		t.Errorf("after the end: %q, %v", left, err)
	}
}

// A directory for pins is one of the run's own namespaces only.
func TestPinsAreNamedAfterTheCookie(t *testing.T) {
	roottest.Need(t)
	r, err := rig.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	seen := map[string]bool{}
	var l leftovers
	for _, role := range []string{"one", "two"} {
		if _, err := r.Namespace(role); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.made(r); err != nil {
		t.Fatal(err)
	}
	for _, s := range l.spaces {
		if seen[s.pins] || !strings.HasPrefix(s.pins, rig.PinRoot+"/netns-") {
			t.Errorf("%+v", l.spaces)
		}
		seen[s.pins] = true
	}
}
