package tunnel

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2746 section 4.2.3: what was confirmed stays, what is new waits until the
// entry has announced that much, and what becomes less is less at once.
func TestWantedRFC2746Section4_2_3(t *testing.T) {
	spec := func(rate float64) intserv.FlowSpec {
		return intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: rate, Bucket: rate / 10, MinUnit: 100, MaxPacket: 800}}
	}
	type flows map[uint64]float64 // rates by reservation
	for name, c := range map[string]struct {
		announced                       float64
		accepted, asked, refused, wants flows
	}{
		"all of it":           {30, nil, flows{1: 10, 2: 20}, nil, flows{1: 10, 2: 20}},
		"the oldest first":    {25, nil, flows{1: 10, 2: 20, 3: 15}, nil, flows{1: 10, 3: 15}},
		"nothing yet":         {5, nil, flows{1: 10}, nil, flows{}},
		"what was there":      {5, flows{1: 10}, flows{1: 10, 2: 1}, nil, flows{1: 10}},
		"more":                {30, flows{1: 10, 2: 10}, flows{1: 20, 2: 10}, nil, flows{1: 20, 2: 10}},
		"more than announced": {25, flows{1: 10, 2: 10}, flows{1: 20, 2: 10}, nil, flows{1: 10, 2: 10}},
		"less of two":         {10, flows{1: 10, 2: 10}, flows{1: 5, 2: 5}, nil, flows{1: 5, 2: 5}},
		"less makes room":     {20, flows{1: 15, 2: 5}, flows{1: 5, 2: 15}, nil, flows{1: 5, 2: 15}},
		"refused":             {30, flows{1: 10}, flows{1: 20, 2: 5}, flows{1: 20}, flows{1: 10, 2: 5}},
	} {
		x := newExit()
		x.tspec, x.accepted = spec(c.announced).TSpec, map[flowID]intserv.FlowSpec{}
		id := func(n uint64) flowID { return flowID{wire.Session{DstPort: uint16(n)}, n} }
		for n, rate := range c.asked {
			x.bound[id(n).session] = time.Time{}
			x.flows[id(n)] = flow{spec: spec(rate)}
		}
		for n, rate := range c.accepted {
			x.accepted[id(n)] = spec(rate)
		}
		for n, rate := range c.refused {
			x.refused[id(n)] = spec(rate)
		}
		got := x.wanted()
		if len(got) != len(c.wants) {
			t.Errorf("%s: %v, want %v", name, got, c.wants)
		}
		for n, rate := range c.wants {
			if got[id(n)] != spec(rate) {
				t.Errorf("%s: reservation %d gets %v, want %v", name, n, got[id(n)], rate)
			}
		}
	}
}
