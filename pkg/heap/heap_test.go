package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 400}, {1 << 20, 400}, {64 << 20, 400}, {128 << 20, 200}, {256 << 20, 100}, {8 << 30, 100},
	} {
		if got := percent(c.live); got != c.want {
			t.Errorf("%d bytes in use: %d percent, want %d", c.live, got, c.want)
		}
	}
}

// The process follows what is in use, and an operator's GOGC stands.
func TestTune(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	now := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	t.Setenv("GOGC", "77")
	new(Tuner).Tune()
	if got := now(); got != 100 {
		t.Errorf("%d percent though GOGC is set", got)
	}
	t.Setenv("GOGC", "")
	var tuner Tuner
	runtime.GC()
	tuner.Tune()
	if got := now(); got != most {
		t.Errorf("%d percent with a small heap", got)
	}
	big := make([]byte, 300<<20)
	runtime.GC()
	tuner.Tune()
	if got := now(); got != least {
		t.Errorf("%d percent with %d bytes in use", got, len(big))
	}
	runtime.KeepAlive(big)
}
