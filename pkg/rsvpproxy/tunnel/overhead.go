package tunnel

import (
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
)

// leastPacket is the smallest packet whose encapsulation is reckoned with: an
// IPv4 header with nothing in it.
const leastPacket = 20

// Encapsulated is a TSpec as it is in the tunnel, where every packet is longer
// by overhead bytes (RFC 2746 section 4.2.4). Rates and bucket grow as if all
// packets were of the smallest size, for which the headers weigh most.
func Encapsulated(t intserv.TSpec, overhead uint32) intserv.TSpec {
	m := max(t.MinUnit, leastPacket)
	by := float64(m+overhead) / float64(m)
	t.Rate *= by
	t.Bucket *= by
	t.Peak *= by // infinite stays so
	t.MinUnit = m + overhead
	t.MaxPacket += min(overhead, 1<<32-1-t.MaxPacket)
	return t
}

// encapsulatedFlow is the same for what is reserved.
func encapsulatedFlow(f intserv.FlowSpec, overhead uint32) intserv.FlowSpec {
	m := max(f.TSpec.MinUnit, leastPacket)
	f.RSpec.Rate *= float64(m+overhead) / float64(m)
	f.TSpec = Encapsulated(f.TSpec, overhead)
	return f
}

// sum is what all flows need together (RFC 2746 section 6.4): guaranteed service
// as soon as one of them has it, in which those of controlled load get their r.
// What slack there is, is not used.
func sum(flows []intserv.FlowSpec) (out intserv.FlowSpec) {
	tspecs := make([]intserv.TSpec, 0, len(flows))
	rate := 0.0
	out.Service = intserv.ControlledLoad
	for _, f := range flows {
		tspecs = append(tspecs, f.TSpec)
		if f.Service == intserv.Guaranteed {
			out.Service = intserv.Guaranteed
			rate += f.RSpec.Rate
		} else {
			rate += f.TSpec.Rate
		}
	}
	out.TSpec = intserv.Sum(tspecs...)
	if out.Service == intserv.Guaranteed {
		out.RSpec.Rate = rate
	}
	return out.Wire()
}

// covers says whether need is no more than have.
func covers(have, need intserv.TSpec) bool {
	return have.Rate >= need.Rate*pipe.Slack && have.Bucket >= need.Bucket*pipe.Slack
}

// plus adds, or takes away, what covers looks at.
func plus(a, b intserv.TSpec, sign float64) intserv.TSpec {
	a.Rate += sign * b.Rate
	a.Bucket += sign * b.Bucket
	return a
}

// carries says whether a reservation of the size of have carries need.
func carries(have, need intserv.FlowSpec) bool {
	if have.Service != need.Service && need.Service == intserv.Guaranteed {
		return false
	}
	return covers(have.TSpec, need.TSpec) &&
		(need.Service != intserv.Guaranteed || have.RSpec.Rate >= need.RSpec.Rate*pipe.Slack)
}
