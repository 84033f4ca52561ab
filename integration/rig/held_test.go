package rig

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// A watch stands still while the process does, and runs while it is merely busy.
func TestWatchStandsStill(t *testing.T) {
	w, began := StartWatch(), time.Now()
	ctx, cancel := Within(t.Context(), 900*time.Millisecond)
	defer cancel()
	// The shell stops this process for a second, as a machine does that is somebody
	// else's.
	p := exec.Command("sh", "-c", "kill -STOP $0; sleep 1; kill -CONT $0", strconv.Itoa(os.Getpid()))
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if shown, took := w.Shown(), time.Since(began); took-shown < 800*time.Millisecond {
		t.Errorf("after %s, of which it stood still for a second, it shows %s", took, shown)
	}
	if w.Shown() < 800*time.Millisecond && ctx.Err() != nil {
		t.Error("what had 0.9 s has ended")
	}
	<-ctx.Done()
	if shown := w.Shown(); shown < 800*time.Millisecond {
		t.Errorf("0.9 s are over when the watch shows %s", shown)
	}
	w, began = StartWatch(), time.Now()
	held := Held()
	for time.Since(began) < 300*time.Millisecond {
		time.Sleep(5 * time.Millisecond)
	}
	const asked = time.Millisecond // one after the other
	if shown, took := w.Shown(), time.Since(began); shown > took+asked || shown < took-(Held()-held)-asked {
		t.Errorf("after %s it shows %s", took, shown)
	}
}
