package rig

import (
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// Asymmetric returns the WAN of the asymmetric scenario: 20 Mbit/s from box 1
// to box 2 with a drop-tail queue of 100 ms, 256 kbit/s with a 64 kB drop-tail queue the other way, 50 ms each.
func Asymmetric(seed uint64) wire.Config {
	return wire.Config{
		AB: emulator.Params{
			Rate:        20_000_000,
			Delay:       50 * time.Millisecond,
			QueueFrames: 170, // of 1,514 bytes, that is 100 ms
		},
		BA: emulator.Params{
			Rate:  256_000,
			Delay: 50 * time.Millisecond,
			Queue: 64_000,
		},
		Seed: seed,
	}
}
