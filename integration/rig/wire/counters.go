package wire

import (
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
)

// Late is the delay behind its deadline from which a frame counts as late.
const Late = time.Millisecond

// Counters of one direction: those of the emulated link, and what the machine
// itself did to the frames. The latter say whether a measurement can be trusted.
type Counters struct {
	emulator.Counters
	Oversize    uint64        `json:"oversize"`     // frames larger than the wire carries
	KernelDrops uint64        `json:"kernel_drops"` // the emulator did not read fast enough
	SendErrors  uint64        `json:"send_errors"`  // the receiving interface refused the frame
	LateFrames  uint64        `json:"late_frames"`  // delivered more than Late behind schedule
	MaxLateness time.Duration `json:"max_lateness_ns"`
}

// add notes how far behind its deadline a frame was delivered.
func (c *Counters) add(lateness time.Duration) {
	c.MaxLateness = max(c.MaxLateness, lateness)
	if lateness > Late {
		c.LateFrames++
	}
}
