package daemon

import (
	"fmt"
	"math"
	"sync"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// askFor is what a policy has the receiver proxy ask for: its TSpec, but never
// more than the sender announces, and for guaranteed service the rate that keeps
// the policy's delay on the path that the ADSPEC tells of (RFC 2210 section 2,
// one pass with advertising). It is asked with every PATH, so that another path
// gets another rate.
func askFor(p *config.Reserve, i softstate.PathInfo) softstate.ReserveSpec {
	if i.TSpec.Null() {
		return nullOnly()
	}
	f := intserv.FlowSpec{Service: serviceOf(p.Service), TSpec: tspecOf(p.TSpec)}.Installed(i.TSpec)
	out := softstate.ReserveSpec{FlowSpec: f, Priority: priorityOf(p)}
	out.Style, out.Auto = styleOf(p.Style)
	if f.Service == intserv.Guaranteed {
		out.FlowSpec.RSpec, out.Refusal = rspecFor(f.TSpec, p, i.AdSpec)
	}
	return out
}

// needed is what is asked for where no policy claims a flow, and its sender says
// that the receiver needs a proxy (RFC 5946 section 4.2): what the sender
// announces, of the service that needs no policy to tell it a bound. Admission
// control rules on it as on the request of any host.
func needed(i softstate.PathInfo) softstate.ReserveSpec {
	if i.TSpec.Null() {
		return nullOnly()
	}
	t := i.TSpec
	t.MinUnit = max(t.MinUnit, 1) // some senders announce 0, which no request may have (RFC 2210 section 3.1)
	return softstate.ReserveSpec{FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: t}, Auto: true}
}

func nullOnly() softstate.ReserveSpec {
	return softstate.ReserveSpec{Style: wire.FF, Refusal: &softstate.Refusal{
		Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported,
		Text: "the sender offers the null service only (RFC 2997), which no policy asks for",
	}}
}

// rspecFor refuses what cannot be promised: RFC 2212 knows no guarantee over a
// hop that has none, and a bound that the path's queues alone exceed is missed
// at any rate.
func rspecFor(t intserv.TSpec, p *config.Reserve, ad *intserv.AdSpec) (intserv.RSpec, *softstate.Refusal) {
	late := func(format string, args ...any) (intserv.RSpec, *softstate.Refusal) {
		return intserv.RSpec{}, &softstate.Refusal{
			Code: wire.ErrAdmission, Value: wire.AdmissionDelay,
			Text: fmt.Sprintf("a delay of %v cannot be promised: ", p.Delay) + fmt.Sprintf(format, args...),
		}
	}
	unsupported := func(text string) (intserv.RSpec, *softstate.Refusal) {
		return intserv.RSpec{}, &softstate.Refusal{Code: wire.ErrTrafficControl, Value: wire.TCServiceUnsupported, Text: text}
	}
	switch {
	case ad == nil:
		return late("PATH came without an ADSPEC, so that nothing is known of the queues on its way")
	case ad.Guaranteed == nil:
		return unsupported("the path does not offer guaranteed service")
	case ad.Guaranteed.Break || ad.Guaranteed.Empty:
		return unsupported("a hop of the path does not offer guaranteed service: an RSVP router needs the capacity of its interface for it")
	case ad.Break:
		return late("a router that does not speak RSVP is on the path")
	}
	e := ad.Guaranteed.Terms()
	r, err := intserv.RSpecFor(t, e, p.Delay)
	if err != nil {
		return late("the queues of the path may take %d microseconds and %d bytes at the reserved rate (Dtot, Ctot): %v", e.Dtot, e.Ctot, err)
	}
	return r, nil
}

func serviceOf(s config.Service) intserv.Service {
	if s == config.ServiceGuaranteed {
		return intserv.Guaranteed
	}
	return intserv.ControlledLoad
}

// guarantee makes a treatment that of guaranteed service: the class has R, room
// for all that can come (RFC 2212, Guidelines for Implementors), and real-time
// priority. Only the edge compares traffic with the TSpec itself: further on it
// is compared with what queues on the way can have made of conforming traffic,
// which never punishes it (Policing).
func guarantee(t *plan.Treatment, r *reservation) {
	ts, e := r.flow.TSpec, r.ask.Terms
	t.RealTime = true
	t.Share = max(r.flow.RSpec.Rate, ts.Rate)
	t.Buffer = intserv.Buffer(ts, t.Share, e)
	if !r.ask.Police.Entry {
		t.Bucket = min(intserv.Buffer(ts, ts.Rate, e), plan.MaxBucket)
		t.Peak = math.Inf(1)
	}
}

// promise is what a link can promise for guaranteed service; false: nothing.
// Behind a hosts interface that is not shaped is the hosts' own network. Its
// operator says by that that it is no bottleneck, and admission takes it so, too:
// the least is told.
func (k *link) promise() (plan.Promise, bool) {
	f := plan.DefaultFacts
	if k.MTU > 0 {
		f.MTU = uint32(k.MTU)
	}
	if k.cfg.Classify == config.ClassifyDSCP {
		return plan.Promise{}, false // flows wait for each other there
	}
	p, ok := plan.PromiseOf(planned(&k.cfg, largest), f)
	if !ok && k.cfg.Zone == config.ZoneHosts {
		return plan.LeastPromise, true
	}
	return p, ok
}

// guaranteed is the link's contribution to an ADSPEC. A class lets what is in
// its bucket pass and borrows besides, so it is no reshaping point.
func (k *link) guaranteed() *intserv.GuaranteedHop {
	p, ok := k.promise()
	if !ok {
		return nil
	}
	return &intserv.GuaranteedHop{C: p.C, D: uint32(p.D.Microseconds())}
}

// steps is in how many parts of what may be reserved the rest is told: every
// change of it makes the next refresh of every PATH one that neighbours must have
// in full (RFC 2961).
const steps = 8

// rests are what the links' ADSPEC told last of the bandwidth that is left.
type rests struct {
	mu   sync.Mutex
	told map[string]float64
}

// of returns the rest of a link in whole steps. It follows the truth only when
// that is a step away, so that one call more or less on the border is not told
// of each time.
func (r *rests) of(link string, free, reservable float64) float64 {
	step := reservable / steps
	r.mu.Lock()
	defer r.mu.Unlock()
	was, known := r.told[link]
	if known && was <= free+step && was >= free-2*step {
		return was
	}
	if r.told == nil {
		r.told = map[string]float64{}
	}
	now := max(math.Floor(free/step)*step, 1) // 0 would be "not known" (RFC 2215 section 3.3)
	r.told[link] = now
	return now
}

// rest is what can still be reserved on an interface, in bytes/s and roughly; 0:
// not known, the interface is not shaped.
func (t *trafficControl) rest(index int) float64 {
	l := t.links().byIndex[index]
	if l == nil || l.cfg.Capacity == 0 {
		return 0
	}
	free, err := t.admit.Rest(l.Name, intserv.Guaranteed)
	if err != nil {
		return 0
	}
	return t.rests.of(l.Name, free, float64(l.cfg.Reservable))
}
