package plan

import (
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// EFModel is how the two kinds of telephony share an interface: what admission let
// in (VOICE-ADMIT), and what it did not (EF, a service level). RFC 5865 section 2.1
// has two models, with a policer for each kind in both: that of the service level,
// and for admitted traffic that of each flow.
type EFModel uint8

// The models.
const (
	// EFPolicer has both wait in one priority queue (figure 3): the jitter of either
	// is that of both.
	EFPolicer EFModel = iota
	// EFPriority has a queue for each, that of admitted traffic of the higher
	// priority (figure 2): it leaves the jitter to the other.
	EFPriority
)

// String is the word of the configuration.
func (m EFModel) String() string {
	if m == EFPriority {
		return "priority"
	}
	return "policer"
}

// unadmitted tells whether the interface has a service level for telephony that
// nobody admitted: without one EF is best effort, and there is nothing to share with.
func (itf Interface) unadmitted() bool {
	return itf.Capacity > 0 && slices.ContainsFunc(itf.Levels, func(l Level) bool { return l.DSCP == dscp.EF && !l.Free })
}

// common tells whether there is one queue for both kinds.
func (itf Interface) common() bool { return itf.EF == EFPolicer && itf.unadmitted() }

func telephony(code uint8) bool { return code == dscp.EF || code == dscp.VoiceAdmit }

// Joins tells whether a reserved flow waits in the common queue, and not in a class
// of its own. A flow of guaranteed service never does: its rate and its delay were
// promised to it alone, so it has another queue of the same priority, as the RFC lets
// one do. Nor does TCP, which a class may have to shape.
func (itf Interface) Joins(t Treatment) bool {
	return itf.common() && !itf.ByDSCP && t.Reserve && t.Mark && telephony(t.DSCP) && t.Share == 0 && t.proto() != packet.ProtoTCP
}

// Common is the class of the common queue.
const Common = FirstLevel | ClassID(dscp.EF)

func (t Treatment) proto() uint8 {
	if t.Grouped() {
		return t.Group.Proto
	}
	return t.Key.Proto
}

// queued puts the levels of telephony into their queues.
func (itf Interface) queued(list []Level) []Level {
	if !itf.common() {
		return list
	}
	for i := range list {
		if list[i].DSCP == dscp.VoiceAdmit {
			list[i].Queue = dscp.EF
		}
	}
	return list
}

// ClassOf is the class that a DSCP has where packets are told apart by that alone.
func (itf Interface) ClassOf(code uint8) ClassID {
	return itf.queued([]Level{{DSCP: code}})[0].Class()
}

// realTimePrio is the priority of a level that cannot wait.
func (itf Interface) realTimePrio(l Level) uint32 {
	switch {
	case itf.common() && l.queue() == dscp.EF:
		return prioRealTime
	case itf.EF == EFPriority && l.DSCP == dscp.EF && itf.unadmitted():
		return prioUnadmitted
	}
	return prioProvisionedRealTime
}

// left is what a level's class is made for: the level's rate less what its flows have
// by classes of their own, and at least what flows in its queue have.
func (itf Interface) left(l Level, sum Sum) (rate, bucket uint64) {
	rate = itf.provisioned(l.DSCP)
	if itf.ByDSCP {
		return max(rate, sum.Class), l.Burst
	}
	apart := sum.Class - sum.Joined
	if apart > 0 {
		apart += uint64(sum.Flows) // rounding up may have given a byte/s to each class
	}
	return max(rate-min(rate, apart), sum.Joined), max(l.Burst, sum.JoinedBucket)
}

// joined adds to the common queue what flows reserve with a DSCP of telephony that is
// no service level.
func (itf Interface) joined(list []Class, limits map[ClassID]float64, reserved Sums) {
	i := slices.IndexFunc(list, func(c Class) bool { return c.ID == Common })
	if i < 0 {
		return
	}
	for code, sum := range reserved {
		if sum.Joined > 0 && !slices.ContainsFunc(itf.Levels, func(l Level) bool { return l.DSCP == code }) {
			list[i].Rate += sum.Joined
			limits[Common] += 2 * float64(sum.JoinedBucket)
		}
	}
}

// efText says in words who waits where, for people; "" where there is no telephony
// that nobody admitted.
func (itf Interface) efText() string {
	switch {
	case !itf.unadmitted():
		return ""
	case itf.common():
		return fmt.Sprintf("# %s: ef_model policer: voice-admit and ef, each behind its policer, wait in class %s", itf.Name, Common)
	}
	return fmt.Sprintf("# %s: ef_model priority: voice-admit, in classes of its flows, goes before ef in class %s", itf.Name, Common)
}
