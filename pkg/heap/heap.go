// Package heap says how much garbage the process makes before it is collected.
//
// A box that sets up thousands of reservations a second makes much garbage beside
// a heap that is small for the machine; with Go's own setting a quarter of its
// processor time would go into collecting it. So the heap may grow to five times
// what is in use while that costs little memory, and by no more than Go's own
// setting where much is in use.
package heap

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// spare is the garbage that is worth the processor time it saves, in bytes.
	spare = 256 << 20
	least = 100 // Go's own setting
	most  = 400 // beyond it little is gained
)

// percent is the garbage, in percent of what is in use, that may lie before it
// is collected.
func percent(live uint64) int {
	return int(min(max(100*spare/max(live, 1), least), most))
}

// Tuner adjusts the process; the zero value has not yet. It is safe for
// concurrent use.
type Tuner struct{ set atomic.Int64 }

// Tune looks at what is in use and adjusts the collector to it. It is called
// from time to time. An operator who has set GOGC knows better.
func (t *Tuner) Tune() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	want := percent(live[0].Value.Uint64())
	// Setting it stops the world for a moment: not for a small change.
	if was := int(t.set.Load()); was == 0 || want*5 < was*4 || want*4 > was*5 {
		t.set.Store(int64(want))
		debug.SetGCPercent(want)
	}
}
