package bpf

import (
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Renew lets the treatments be valid for another while; 0 is for ever. Without
// it they end by themselves, so that a daemon that died and never came back
// does not leave reservations behind that nobody holds.
func (t *Table) Renew(d time.Duration) error {
	until := uint64(math.MaxUint64)
	if d > 0 {
		var now unix.Timespec
		// The clock of bpf_ktime_get_ns.
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return fmt.Errorf("read the monotonic clock: %w", err)
		}
		until = uint64(now.Nano()) + uint64(d)
	}
	zero := uint32(0)
	return explain("renew the lease of the treatments", t.lease.Update(raw(&zero), raw(&until), ebpf.UpdateAny))
}
