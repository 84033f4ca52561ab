package admission

import (
	"fmt"
	"math"
	"time"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Link is an outgoing interface as admission sees it.
type Link struct {
	Name       string
	Capacity   float64 // bytes/s; 0: unmanaged, everything is admitted and only counted
	Reservable float64 // bytes/s of Capacity that reservations may take in all
	MTU        uint32  // bytes of IP packet; 0: not known, not checked
	Overhead   uint32  // bytes the link layer adds to each packet

	// Services bounds what each service may have of the link. One that is not there
	// has no bound of its own.
	Services map[intserv.Service]Service
	// Contract: the network behind the link carries the DSCPs of Levels alone, each
	// within its bounds (RFC 2998 section 4.1).
	Contract bool
	Levels   []Level

	// Queue is what the queue of one reservation's class can hold, in bytes with
	// Header more of each packet; 0: not limited.
	Queue  float64
	Header uint32
	// ByLevel: packets are told apart by DSCP alone, and all reservations of a level
	// have one queue.
	ByLevel bool

	// Bursts is what all reserved flows together may send at once, in bytes, while
	// some of them have guaranteed service: the D that the link advertises counts
	// on it (RFC 2212); 0: not limited. A flow sends at once what its bucket holds,
	// but no more than Lead bytes and LeadTime at its rate.
	Bursts, Lead float64
	LeadTime     time.Duration
}

// Service is what one IntServ service may have of a link.
type Service struct {
	Ceiling float64 // bytes/s; 0: as much as the link has
	// Overbooking is how many times as much is granted as there is room for; 0 and
	// 1: no more than that. Of controlled load only, see [Link.overbooking].
	Overbooking float64
}

// Level is what the network behind a link carries with one DSCP at this time.
type Level struct {
	DSCP  uint8
	Rate  float64 // bytes/s
	Burst float64 // bytes that all reservations may send at once
	// Closed: not at this time of day. What was granted before stays.
	Closed bool
}

// level is what a DSCP has at this time, with the reason where it has nothing;
// without a contract it is not limited.
func (l Link) level(code uint8) (v Level, none string) {
	if !l.Contract {
		return Level{DSCP: code, Rate: math.Inf(1), Burst: l.shared()}, ""
	}
	for _, v := range l.Levels {
		switch {
		case v.DSCP != code:
		case v.Closed:
			return Level{DSCP: code, Closed: true}, fmt.Sprintf("service level %s of %s has nothing at this time of day (sls)", dscp.Name(code), l.Name)
		default:
			v.Burst = min(v.Burst, l.shared())
			return v, ""
		}
	}
	return Level{DSCP: code}, fmt.Sprintf("the network behind %s has no service level %s (sls)", l.Name, dscp.Name(code))
}

// leastPacket has the most headers for its bytes: of IP and UDP alone.
const leastPacket = 28

// shared is what the bursts of all reservations of a level may be for its queue's
// sake, in bytes.
func (l Link) shared() float64 {
	if !l.ByLevel || l.Queue <= 0 {
		return math.Inf(1)
	}
	return l.Queue * leastPacket / float64(leastPacket+l.Header)
}

// overbooking is by how much a service is granted more than there is room for. A
// node may do that with controlled load, if it knows that the flows send less
// than they may (RFC 2211 section 9). With guaranteed service never: each flow's
// bound needs its R of the link whatever the others do (RFC 2212).
func (l Link) overbooking(s intserv.Service) float64 {
	if s != intserv.ControlledLoad {
		return 1
	}
	return max(1, l.Services[s].Overbooking)
}

// burst is what a reservation may send at once, in whole bytes.
func (l Link) burst(f intserv.FlowSpec) int64 {
	return units(min(f.TSpec.Bucket, l.Lead+f.Bandwidth()*l.LeadTime.Seconds()))
}

// queued is what a flow's burst takes in the queue of its class. Controlled load
// is owed room for it as well as bandwidth (RFC 2211 section 4): what conforms must
// not be lost. It comes in packets as small as m.
func (l Link) queued(r Request) float64 {
	t := l.installed(r).TSpec
	return t.LinkRate(t.Bucket, l.Header)
}

// Managed says whether the link has a limit.
func (l Link) Managed() bool { return l.Capacity > 0 }

// precision is what a rate may gain by its trip through the single-precision
// floats of RSVP: reservations that fill a link exactly must not fail by it.
const precision = 1e-6

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
