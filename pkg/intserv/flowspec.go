package intserv

import (
	"errors"
	"fmt"
	"math"
)

// RSpec is what guaranteed service asks for beside the TSpec (RFC 2212,
// Invocation Information).
type RSpec struct {
	Rate  float64 // R, bytes/s
	Slack uint32  // S, microseconds
}

// FlowSpec is a request for a service (RFC 2210 section 3.2). It is comparable.
// RSpec is zero unless Service is Guaranteed.
type FlowSpec struct {
	Service Service
	TSpec   TSpec
	RSpec   RSpec
}

// ErrServiceConflict is returned when requests for different services meet in
// one session: RFC 2210 section 2.2 wants one service for all receivers.
var ErrServiceConflict = errors.New("different services cannot be merged")

// ErrService is returned for a service that cannot be asked for.
var ErrService = errors.New("service not supported")

// Validate refuses what traffic control must not be given: see [TSpec.Validate];
// for guaranteed service R must be a rate and not below r (RFC 2212, Invocation
// Information).
func (f FlowSpec) Validate() error {
	if f.Service == Null {
		return f.checkNull()
	}
	if !f.Service.Requestable() {
		return fmt.Errorf("%v: %w", f.Service, ErrService)
	}
	err := f.TSpec.Validate()
	if f.Service != Guaranteed {
		return err
	}
	err = errors.Join(err, checkFloat("service rate R", f.RSpec.Rate, maxRate))
	if f.RSpec.Rate < f.TSpec.Rate {
		err = errors.Join(err, fmt.Errorf("service rate R %g below token rate r %g: %w",
			f.RSpec.Rate, f.TSpec.Rate, ErrRange))
	}
	return err
}

// checkNull: the null service has a maximum packet size and nothing else (RFC
// 2997 section 4.4).
func (f FlowSpec) checkNull() error {
	if !f.TSpec.Null() || f.RSpec != (RSpec{}) {
		return fmt.Errorf("null service with %v: %w", f.TSpec, ErrRange)
	}
	return nil
}

// Wire returns f as the peer will read it, see [TSpec.Wire].
func (f FlowSpec) Wire() FlowSpec {
	f.TSpec = f.TSpec.Wire()
	f.RSpec.Rate = float64(float32(f.RSpec.Rate))
	return f
}

// Covers says whether f is a substitute for o. Different services are not.
func (f FlowSpec) Covers(o FlowSpec) bool {
	return f.Service == o.Service && f.TSpec.Covers(o.TSpec) && f.RSpec.Covers(o.RSpec)
}

// Compare orders f relative to o: Greater when f is the better of the two.
func (f FlowSpec) Compare(o FlowSpec) Order { return order(f.Covers(o), o.Covers(f)) }

// StrictlyAbove says whether f is greater than o in every component. A failed
// request Qb blockades another Qi unless Qb.StrictlyAbove(Qi) (RFC 2205
// section 3.5). A peak that neither knows is no component: nothing is asked for
// by it that could fail.
func (f FlowSpec) StrictlyAbove(o FlowSpec) bool {
	unknown := math.IsInf(f.TSpec.Peak, 1) && math.IsInf(o.TSpec.Peak, 1)
	if f.Service != o.Service || f.TSpec.Rate <= o.TSpec.Rate ||
		f.TSpec.Bucket <= o.TSpec.Bucket || f.TSpec.Peak <= o.TSpec.Peak && !unknown {
		return false
	}
	return f.Service != Guaranteed || f.RSpec.Rate > o.RSpec.Rate
}

// Merge returns the least upper bound that goes upstream (RFC 2211 section 8,
// RFC 2212 Ordering and Merging), or ErrServiceConflict.
func (f FlowSpec) Merge(o FlowSpec) (FlowSpec, error) {
	if f.Service != o.Service {
		return FlowSpec{}, fmt.Errorf("%v and %v: %w", f.Service, o.Service, ErrServiceConflict)
	}
	return FlowSpec{f.Service, f.TSpec.Merge(o.TSpec), f.RSpec.Merge(o.RSpec)}, nil
}

// GLB returns the greatest lower bound, see [TSpec.GLB], or ErrServiceConflict.
func (f FlowSpec) GLB(o FlowSpec) (FlowSpec, error) {
	if f.Service != o.Service {
		return FlowSpec{}, fmt.Errorf("%v and %v: %w", f.Service, o.Service, ErrServiceConflict)
	}
	r := RSpec{Rate: min(f.RSpec.Rate, o.RSpec.Rate), Slack: max(f.RSpec.Slack, o.RSpec.Slack)}
	return FlowSpec{f.Service, f.TSpec.GLB(o.TSpec), r}, nil
}

// Installed returns what a node sets aside for a request: the minimum of what
// the senders together announce and what the receivers ask for (RFC 2205
// section 2.2), with the smallest m of all (RFC 2210 section 3.2.1). R is the
// receiver's and stays: it was chosen for a delay bound (RFC 2212). The zero
// TSpec stands for "nothing announced" and leaves f as it is.
func (f FlowSpec) Installed(senders TSpec) FlowSpec {
	if senders == (TSpec{}) {
		return f
	}
	t := f.TSpec.Min(senders)
	t.MinUnit = min(f.TSpec.MinUnit, senders.MinUnit)
	t.MaxPacket = minPacket(f.TSpec.MaxPacket, senders.MaxPacket)
	f.TSpec = t
	return f
}

// Bandwidth returns what admission counts, in bytes/s: the token rate for
// controlled load, R for guaranteed service.
func (f FlowSpec) Bandwidth() float64 {
	if f.Service == Guaranteed {
		return max(f.RSpec.Rate, f.TSpec.Rate)
	}
	return f.TSpec.Rate
}

// String is for people.
func (f FlowSpec) String() string {
	if f.Service == Guaranteed {
		return fmt.Sprintf("%v %v R=%g S=%d", f.Service, f.TSpec, f.RSpec.Rate, f.RSpec.Slack)
	}
	return fmt.Sprintf("%v %v", f.Service, f.TSpec)
}

// Covers says whether r is a substitute for o (RFC 2212 Ordering and Merging).
func (r RSpec) Covers(o RSpec) bool { return r.Rate >= o.Rate && r.Slack <= o.Slack }

// Merge takes the largest rate and the smallest slack (RFC 2212).
func (r RSpec) Merge(o RSpec) RSpec {
	return RSpec{Rate: max(r.Rate, o.Rate), Slack: min(r.Slack, o.Slack)}
}
