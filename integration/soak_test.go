package integration

import (
	"os"
	"time"
)

// soak returns the shorter of two amounts, or the longer one in `make soak`,
// which repeats more and waits longer (docs/testing.md).
func soak[T int | time.Duration](usual, long T) T {
	if os.Getenv("QOSPROXY_SOAK") == "1" {
		return long
	}
	return usual
}
