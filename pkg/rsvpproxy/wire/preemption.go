package wire

import "encoding/binary"

// MergeStrategy says how priorities of merged reservations combine (RFC 3181
// section 5.1).
type MergeStrategy uint8

// The strategies.
const (
	MergeHighestQoS      MergeStrategy = 1 // priority of the highest QoS: recommended
	MergeHighestPriority MergeStrategy = 2
	MergeForceError      MergeStrategy = 3 // error if the reservations differ
)

// PreemptionError says why a PREEMPTION_PRI element is sent back (RFC 3181
// section 6).
type PreemptionError uint8

// The errors.
const (
	PreemptionNoError       PreemptionError = 0
	PreemptionPreempted     PreemptionError = 1 // this admitted flow was preempted
	PreemptionHeterogeneous PreemptionError = 2 // it met a heterogeneous merge
)

// Preemption is the PREEMPTION_PRI policy element (RFC 3181 section 4). Higher
// values are higher priorities.
type Preemption struct {
	Strategy  MergeStrategy
	Error     PreemptionError
	Priority  uint16 // of a new flow, against the defending priority of admitted ones
	Defending uint16 // of the flow once it is admitted; not below Priority
}

// Element returns p as a policy element.
func (p Preemption) Element() PolicyElement {
	b := []byte{0, uint8(p.Strategy), uint8(p.Error), 0}
	b = binary.BigEndian.AppendUint16(b, p.Priority)
	return PolicyElement{Type: PreemptionPriority, Body: binary.BigEndian.AppendUint16(b, p.Defending)}
}

// ParsePreemption reads a PREEMPTION_PRI element.
func ParsePreemption(e PolicyElement) (Preemption, error) {
	if e.Type != PreemptionPriority || len(e.Body) != 8 {
		return Preemption{}, badPolicy(PolicyBadElement, "P-Type %d with %d bytes is no PREEMPTION_PRI", e.Type, len(e.Body))
	}
	p := Preemption{
		Strategy: MergeStrategy(e.Body[1]), Error: PreemptionError(e.Body[2]),
		Priority: binary.BigEndian.Uint16(e.Body[4:]), Defending: binary.BigEndian.Uint16(e.Body[6:]),
	}
	return p, p.check()
}

func (p Preemption) check() error {
	switch {
	case p.Strategy < MergeHighestQoS || p.Strategy > MergeForceError:
		return badPolicy(PolicyBadElement, "merge strategy %d", p.Strategy)
	case p.Error > PreemptionHeterogeneous:
		return badPolicy(PolicyBadElement, "preemption error %d", p.Error)
	case p.Priority > p.Defending:
		return badPolicy(PolicyBadElement, "preemption priority %d above defending priority %d", p.Priority, p.Defending)
	}
	return nil
}
