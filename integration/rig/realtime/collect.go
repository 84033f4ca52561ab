package realtime

import (
	"math"
	"runtime/debug"
)

// memoryLimit is far above what a run allocates, bytes.
const memoryLimit = 512 << 20

// PutOffCollections puts off garbage collection until the function that it returns is
// called. A collection stops every goroutine for a moment, also those that
// carry the WAN's frames; on a busy machine that moment is long enough to show
// in the delays that are measured.
func PutOffCollections() (restore func()) {
	percent := debug.SetGCPercent(-1)
	limit := debug.SetMemoryLimit(math.MaxInt64)
	debug.SetMemoryLimit(min(limit, memoryLimit))
	return func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}
