package plan

import (
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// validateLevels refuses levels that the kernel could not keep.
func (itf Interface) validateLevels() error {
	sum, err := itf.validLevels(itf.Levels)
	if err == nil {
		_, err = itf.validLevels(itf.Arriving)
	}
	if err != nil {
		return err
	}
	if itf.BestEffort != 0 && !within(itf.BestEffort, minBestEffortShare, maxBestEffortShare) {
		return fmt.Errorf("interface %s: best effort has a share of %g: not in %g to %g", itf.Name, itf.BestEffort, minBestEffortShare, maxBestEffortShare)
	}
	if room := float64(itf.Capacity) * (1 - controlShare - itf.BestEffortShare()); itf.Capacity > 0 && sum > room {
		return fmt.Errorf("interface %s: its service levels have %.0f bytes/s together, and %.0f are there beside control traffic and best effort", itf.Name, sum, room)
	}
	return nil
}

// validLevels returns the sum of their rates.
func (itf Interface) validLevels(list []Level) (sum float64, err error) {
	seen := map[uint8]bool{}
	for _, l := range list {
		name := dscp.Name(l.DSCP)
		switch {
		case l.DSCP > dscp.Max || l.Excess > dscp.Max || l.Queue > dscp.Max:
			return 0, fmt.Errorf("interface %s: service level %d: no such DSCP", itf.Name, l.DSCP)
		case seen[l.DSCP]:
			return 0, fmt.Errorf("interface %s: service level %s is there twice", itf.Name, name)
		case float64(l.Rate) > MaxRate || float64(l.Burst) > MaxBucket:
			return 0, fmt.Errorf("interface %s: service level %s: rate %d or burst %d is too large", itf.Name, name, l.Rate, l.Burst)
		case l.Rate > 0 && l.Burst == 0 && !l.Free:
			return 0, fmt.Errorf("interface %s: service level %s has no burst: nothing would conform", itf.Name, name)
		}
		seen[l.DSCP] = true
		// Its class stays, even where all of its rate is reserved by flows that have
		// classes of their own.
		sum += float64(l.Rate) + minRate
	}
	return sum, nil
}
