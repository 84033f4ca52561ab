package admission

import (
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Link is an outgoing interface as admission sees it.
type Link struct {
	Name       string
	Capacity   float64 // bytes/s; 0: unmanaged, everything is admitted and only counted
	Reservable float64 // bytes/s of Capacity that reservations may take in all
	MTU        uint32  // bytes of IP packet; 0: not known, not checked
	Overhead   uint32  // bytes the link layer adds to each packet

	// Bursts is what all reserved flows together may send at once, in bytes, while
	// some of them have guaranteed service: the D that the link advertises counts
	// on it (RFC 2212); 0: not limited. A flow sends at once what its bucket holds,
	// but no more than Lead bytes and LeadTime at its rate.
	Bursts, Lead float64
	LeadTime     time.Duration
}

// burst is what a reservation may send at once, in whole bytes.
func (l Link) burst(f intserv.FlowSpec) int64 {
	return units(min(f.TSpec.Bucket, l.Lead+f.Bandwidth()*l.LeadTime.Seconds()))
}

// Managed says whether the link has a limit.
func (l Link) Managed() bool { return l.Capacity > 0 }

// precision is what a rate may gain by its trip through the single-precision
// floats of RSVP: reservations that fill a link exactly must not fail by it.
const precision = 1e-6

// limit returns what the ledger may hold for the link, in bytes/s.
func (l Link) limit() int64 {
	if !l.Managed() {
		return noLimit
	}
	return units(min(l.Reservable, l.Capacity) * (1 + precision))
}

// maxUnits bounds a single entry so that no sum of them can overflow.
const maxUnits = 1 << 42

// units converts bytes/s to the whole bytes/s in which the ledger counts:
// integers, so that what was added can be taken away exactly.
func units(v float64) int64 {
	if !(v > 0) {
		return 0
	}
	return int64(min(math.Round(v), maxUnits))
}

// free returns what is left to grant, in bytes/s.
func (l Link) free(u Usage) float64 {
	if !l.Managed() {
		return math.Inf(1)
	}
	return max(0, min(l.Reservable, l.Capacity)-float64(u.Bandwidth))
}
