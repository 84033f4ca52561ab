package plan

import (
	"fmt"
	"math"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The limits of what the policer can compute in 64 bits with buckets in
// bytes * 10^9: far above what RFC 2215 section 3.6 lets a sender ask for in
// rates, below it in bucket depth (250 GB), of which nobody has the memory.
const (
	MaxRate   = 40e12 * 1.001 // bytes/s
	MaxBucket = 4e9           // bytes
)

// Treatment is what is done to the packets of one direction of a flow when
// they leave through an interface.
type Treatment struct {
	Key       packet.FlowKey
	Interface string
	// The TSpec (RFC 2215 section 3.6): rates in bytes/s and sizes in bytes of
	// IP packets, header included. Peak may be +Inf or 0: none. A MaxPacket of
	// 0 is no limit.
	Rate, Bucket, Peak float64
	MinUnit, MaxPacket uint32
	// Share is what the class is given in place of Rate, in bytes/s: the R of
	// guaranteed service (RFC 2212); 0: Rate. Buffer is the room for the flow's
	// packets that its queue must have, in bytes; 0: as the bucket needs.
	Share, Buffer float64
	DSCP          uint8
	Mark          bool // write DSCP
	Police        bool // compare with the TSpec; what conforms gets class and DSCP
	Drop          bool // what exceeds is dropped; else it is best effort with
	Excess        uint8
	Reserve       bool // give it a class of its own with Rate
	// Cheated flows are never policed, whatever Police says: a byte that was
	// acknowledged in the receiver's name may not be dropped by ourselves.
	// Their class shapes them to Rate instead.
	Cheated  bool
	RealTime bool // like voice: before other reserved flows, short queue
	// Group, if it is not zero, has all treatments of an interface with the same
	// Group share one policer and one class (RFC 2205 section 1.3): the TSpec is
	// that of all of them together, and the last one given counts. It is a name
	// that outlives the process, such as the key of a session, without source.
	Group packet.FlowKey
}

// Grouped tells whether the treatment shares its policer and its class.
func (t Treatment) Grouped() bool { return t.Group != packet.FlowKey{} }

// WithTSpec is t with the TSpec of another treatment, and what its class has
// beyond that.
func (t Treatment) WithTSpec(o Treatment) Treatment {
	t.Rate, t.Bucket, t.Peak, t.MinUnit, t.MaxPacket = o.Rate, o.Bucket, o.Peak, o.MinUnit, o.MaxPacket
	t.Share, t.Buffer = o.Share, o.Buffer
	return t
}

// Policed tells whether packets are compared with the TSpec.
func (t Treatment) Policed() bool { return t.Police && !t.Cheated }

// HasPeak tells whether there is a peak rate to compare with.
func (t Treatment) HasPeak() bool { return t.Peak > 0 && !math.IsInf(t.Peak, 1) }

// Validate refuses numbers that the kernel could not compute with.
func (t Treatment) Validate() error {
	bad := func(what string, v float64) error {
		return fmt.Errorf("%w of %s: %s %g", ErrTreatment, t.Key, what, v)
	}
	if t.DSCP > dscp.Max || t.Excess > dscp.Max {
		return bad("DSCP", float64(max(t.DSCP, t.Excess)))
	}
	if t.Grouped() && !t.Reserve && !t.Police {
		return fmt.Errorf("%w of %s: only reserved or policed flows can share something", ErrTreatment, t.Key)
	}
	if !t.Policed() && !t.Reserve {
		return nil
	}
	if !within(t.Rate, math.SmallestNonzeroFloat64, MaxRate) {
		return bad("rate", t.Rate)
	}
	if !within(t.Bucket, 0, MaxBucket) {
		return bad("bucket", t.Bucket)
	}
	if math.IsNaN(t.Peak) || t.Peak < 0 || t.HasPeak() && t.Peak > MaxRate {
		return bad("peak rate", t.Peak)
	}
	if t.Share != 0 && !within(t.Share, t.Rate, MaxRate) {
		return bad("service rate", t.Share)
	}
	if !within(t.Buffer, 0, math.MaxFloat64) {
		return bad("buffer", t.Buffer)
	}
	if t.MinUnit > 65535 {
		return bad("minimum policed unit", float64(t.MinUnit))
	}
	if t.MaxPacket != 0 && t.MinUnit > t.MaxPacket {
		return bad("minimum policed unit above the maximum packet size:", float64(t.MinUnit))
	}
	return nil
}

// within is false for NaN, too.
func within(v, low, high float64) bool { return v >= low && v <= high }

// smallest is the size of the packets that have most headers for their bytes:
// what is guaranteed to IP bytes must hold for them too (RFC 2212, Guidelines
// for Implementors: headers are accounted for by the minimum policed unit).
func (t Treatment) smallest() uint32 { return max(t.MinUnit, leastUnit) }
