package demo

import (
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// The relations of a value to its target.
const (
	atLeast = ">="
	atMost  = "<="
	below   = "<"
	exactly = "="
)

// The units whose figures are not whole.
const (
	unitRate = "Mbit/s"
	unitTime = "ms"
)

func newTarget(name string, value float64, unit, relation string, target float64) Target {
	t := Target{Name: name, Value: value, Unit: unit, Relation: relation, Target: target}
	switch relation {
	case atLeast:
		t.Pass = value >= target
	case atMost:
		t.Pass = value <= target
	case below:
		t.Pass = value < target
	case exactly:
		t.Pass = value == target
	default:
		t.Pass = false
	}
	return t
}

// targets compares what was measured with what was promised.
func targets(m *measured) []Target {
	var list []Target
	const mega = 1e6
	var whole, wholeOf float64
	for i := range m.results {
		r := &m.results[i]
		switch {
		case r.before():
			list = append(list, newTarget("goodput without boxes, "+r.cc, r.goodput()/mega, unitRate, below, failedShare*carries/mega))
		default:
			list = append(list, newTarget("goodput with boxes, "+r.cc+", "+r.mode, r.goodput()/mega, unitRate, atLeast, goodputShare*carries/mega))
		}
		if r.mode == modeReliable {
			wholeOf++
			if r.transfer.Complete() {
				whole++
			}
		}
	}
	const limit = float64(voiceExcess) / float64(time.Millisecond)
	bad := 0.0
	if m.before.Lost > 0 || m.excess(&m.before) > limit {
		bad = 1
	}
	list = append(list,
		newTarget("call without boxes fails: loss, or p99 too late", bad, "calls", exactly, 1),
		newTarget("voice lost with boxes", float64(m.after.Lost), "packets", exactly, 0),
		newTarget("voice p99 with boxes, above the unloaded path", m.excess(&m.after), unitTime, atMost, limit),
		newTarget("reliable transfers with equal SHA-256", whole, "transfers", exactly, wholeOf),
	)
	if m.unseen != nil {
		list = append(list, m.unseen.targets()...)
	}
	return append(list, standing(m)...)
}

// targets are those of boxes that are bridges: that hosts see nothing of them.
func (u *unseen) targets() []Target {
	none := func(name string, found int, unit string) Target {
		if u.frames == 0 { // nobody has looked
			found = 1
		}
		return newTarget(name, float64(found), unit, exactly, 0)
	}
	return []Target{
		none("at A and B, from an Ethernet address that is no host's", int(u.strangers), "frames"),
		none("at A and B, with a TTL that is no host's", int(u.ttls), "frames"),
		none("in the hosts' neighbour tables, changed or no host's", len(u.entries), "entries"),
		none("on the boxes, while they work", len(u.addresses), "addresses"),
	}
}

// standing are the targets of every scenario.
func standing(m *measured) (list []Target) {
	if m.rsvp.skipped == "" {
		// No message at all is not a success.
		list = append(list, newTarget("RSVP messages that tshark finds right",
			float64(m.rsvp.messages-len(m.rsvp.faulty)), "messages", exactly, float64(max(1, m.rsvp.messages))))
	}
	return append(list,
		newTarget("changes that the boxes left in their kernels", float64(len(m.changed)), "changes", exactly, 0),
		newTarget("things left behind on this machine", float64(len(m.left)), "things", exactly, 0),
	)
}

// excess is how much more a stream's p99 delay is than on the unloaded path,
// ms. A stream of which nothing arrived fails by its loss.
func (m *measured) excess(s *traffic.StreamResult) float64 {
	return max(0, s.Delay.P99-m.unloaded.Delay.P99).Seconds() * 1e3
}
