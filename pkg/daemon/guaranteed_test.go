package daemon

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

var voicePolicy = config.Reserve{
	Service: config.ServiceGuaranteed, Delay: 50 * time.Millisecond,
	TSpec: config.TSpec{Rate: 10_000, Burst: 400, Peak: 20_000, MinUnit: 64, MaxPacket: 400},
}

// pathTerms is an ADSPEC with these error terms.
func pathTerms(c, d uint32) *intserv.AdSpec {
	ad := intserv.NewAdSpec(intserv.Hop{
		Bandwidth: 1e6, MTU: 1500, ControlledLoad: &intserv.ServiceHop{}, Guaranteed: &intserv.GuaranteedHop{C: c, D: d},
	})
	return &ad
}

// RFC 2210 section 2, RFC 2212: R follows from the policy's delay and the
// ADSPEC's error terms, and what R = r leaves is slack.
func TestReceiverAsksForRateByDelayRFC2212(t *testing.T) {
	i := softstate.PathInfo{TSpec: tspecOf(voicePolicy.TSpec), AdSpec: pathTerms(3, 30_000)}
	got := askFor(&voicePolicy, i)
	if got.Refusal != nil {
		t.Fatal(got.Refusal)
	}
	// b = M: the bound is (M + Ctot)/R + Dtot, R = 403 / 20 ms.
	if f := got.FlowSpec; f.Service != intserv.Guaranteed || math.Abs(f.RSpec.Rate-20_150) > 0.01 || f.RSpec.Slack > 1 {
		t.Errorf("asked for %v", f)
	}
	i.AdSpec = pathTerms(3, 1000)
	// R = r would take 403 / 10000 + 1 ms = 41.3 ms of the 50.
	if f := askFor(&voicePolicy, i).FlowSpec; f.RSpec.Rate != 10_000 || f.RSpec.Slack != 8700 {
		t.Errorf("on a fast path: asked for %v", f)
	}
	less := i
	less.TSpec.Bucket, less.TSpec.Rate = 200, 5000
	if f := askFor(&voicePolicy, less).FlowSpec; f.TSpec.Rate != 5000 || f.RSpec.Rate < 5000 {
		t.Errorf("the sender announces less: asked for %v", f)
	}
}

// RFC 2210 section 2.3.1, RFC 5946 section 3.1.2: what cannot be promised is refused by code 1 value 1
// where the delay is why, and the reason is told.
func TestReceiverRefusesWhatCannotBePromised(t *testing.T) {
	broken, without, unaware, empty := pathTerms(3, 1000), pathTerms(3, 1000), pathTerms(3, 1000), pathTerms(3, 1000)
	broken.Guaranteed.Break, without.Guaranteed, unaware.Break, empty.Guaranteed.Empty = true, nil, true, true
	for name, tc := range map[string]struct {
		ad   *intserv.AdSpec
		code wire.ErrorCode
		text string
	}{
		"queues alone take longer": {pathTerms(3, 50_000), wire.ErrAdmission, "50000 microseconds"},
		"no ADSPEC":                {nil, wire.ErrAdmission, "without an ADSPEC"},
		"a hop without RSVP":       {unaware, wire.ErrAdmission, "does not speak RSVP"},
		"a hop without it":         {broken, wire.ErrTrafficControl, "capacity"},
		"nobody has it":            {without, wire.ErrTrafficControl, "does not offer"},
		"nobody had it yet":        {empty, wire.ErrTrafficControl, "does not offer"},
	} {
		r := askFor(&voicePolicy, softstate.PathInfo{TSpec: tspecOf(voicePolicy.TSpec), AdSpec: tc.ad}).Refusal
		if r == nil || r.Code != tc.code || !strings.Contains(r.Text, tc.text) || r.Code == wire.ErrAdmission && r.Value != wire.AdmissionDelay {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func guaranteedRequest(id uint64, entry bool) softstate.Reserve {
	r := request(id, 1e4)
	t := tspecOf(voicePolicy.TSpec)
	r.FlowSpec = intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: t, RSpec: intserv.RSpec{Rate: 30_000, Slack: 7}}
	r.SenderTSpec, r.Police.Entry = t, entry
	r.Terms = intserv.ErrorTerms{Ctot: 300, Dtot: 40_000, Csum: 200, Dsum: 20_000}
	return r
}

// RFC 2212: the ledger counts R, the class has R and room for b + Csum + Dsum R,
// the TSpec is policed at the edge and nowhere else.
func TestGuaranteedTreatmentRFC2212(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(guaranteedRequest(1, true)); refusal != nil {
		t.Fatal(refusal)
	}
	got := r.fake.have[imagingKey]
	if got.Share != 30_000 || got.Rate != 10_000 || got.Bucket != 400 || got.Peak != 20_000 || !got.Police || !got.RealTime {
		t.Errorf("at the edge: %+v", got)
	}
	if got.Buffer != 400+200+0.02*30_000 {
		t.Errorf("buffer %v, want b + Csum + Dsum R = 1200", got.Buffer)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Bandwidth != 30_000 {
		t.Errorf("ledger counts %d bytes/s, want R", u.Bandwidth)
	}
	inside := guaranteedRequest(1, false)
	inside.Change = true
	if refusal := r.Reserve(inside); refusal != nil {
		t.Fatal(refusal)
	}
	if got = r.fake.have[imagingKey]; got.Bucket != 400+200+0.02*10_000 || !math.IsInf(got.Peak, 1) || got.Share != 30_000 {
		t.Errorf("inside: %+v, want what queues can have made of (r, b)", got)
	}
	// Reducing is never refused (RFC 2212), and a policy without a mark gets that
	// of its service.
	if key := imagingKey; r.flows.policyOf(key).Marked != true || got.DSCP != 26 {
		t.Errorf("policy's own mark: %+v", got)
	}
}

func TestGuaranteedMapping(t *testing.T) {
	r := testControl(t)
	ask := guaranteedRequest(1, true)
	ask.Session.DstPort = 9 // no policy has it
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	for _, got := range r.fake.have {
		if got.DSCP != 46 {
			t.Errorf("DSCP %d, want that of mapping.guaranteed", got.DSCP)
		}
	}
}

// Small packets have more headers than the ledger counts: where the kernel has no
// room for them, that is a lack of bandwidth and no fault of the system.
func TestNoRoomForHeadersIsNoSystemError(t *testing.T) {
	r := testControl(t)
	r.fake.fail = shaper.ErrCapacity
	if refusal := r.Reserve(guaranteedRequest(1, true)); refusal == nil || refusal.Code != wire.ErrAdmission || refusal.Value != wire.AdmissionBandwidth {
		t.Errorf("%+v", refusal)
	}
	if u, _, _ := r.admit.Usage("wan0"); u.Reservations != 0 {
		t.Errorf("ledger = %+v", u)
	}
}

// RFC 2215 section 3.1: only an interface that is shaped has the service; hosts'
// own network, which is not, adds the least there is.
func TestLinksOfferGuaranteed(t *testing.T) {
	r := testControl(t)
	lanLink, wanLink := r.links().byIndex[lan], r.links().byIndex[wan]
	if g := wanLink.guaranteed(); g == nil || g.C != 1 || g.D < 7000 || g.D > 15_000 || g.Reshapes {
		t.Errorf("shaped: %+v", g)
	}
	if g := lanLink.guaranteed(); g == nil || g.C != 1 || g.D != 1 {
		t.Errorf("hosts: %+v", g)
	}
	unshaped := *wanLink
	unshaped.cfg.Capacity = 0
	if g := unshaped.guaranteed(); g != nil {
		t.Errorf("network without capacity: %+v", g)
	}
	a := r.links().admission(time.Now())
	if a[1].Bursts <= 0 || a[1].Lead <= 0 || a[1].LeadTime <= 0 || a[0].Bursts != 0 {
		t.Errorf("admission is told %+v", a)
	}
}

// RFC 2215 section 3.3: the bandwidth told is what can still be reserved, in
// steps, so that it does not change with every call.
func TestRestIsToldInSteps(t *testing.T) {
	r := testControl(t)
	all := float64(r.links().byIndex[wan].cfg.Reservable)
	if got := r.rest(wan); got != all {
		t.Errorf("rest %v, want %v", got, all)
	}
	if got := r.rest(lan); got != 0 {
		t.Errorf("rest of an interface that is not shaped: %v", got)
	}
	if refusal := r.Reserve(guaranteedRequest(1, true)); refusal != nil {
		t.Fatal(refusal)
	}
	if got := r.rest(wan); got != all {
		t.Errorf("rest %v after a small reservation, want still %v", got, all)
	}
	if refusal := r.Reserve(request(2, all*0.9)); refusal != nil {
		t.Fatal(refusal)
	}
	if got := r.rest(wan); got > all*0.1 || got <= 0 {
		t.Errorf("rest %v after nine tenths", got)
	}
	var s rests
	if got := s.of("x", 0, 1600); got != 1 {
		t.Errorf("nothing left is told as %v: 0 would be not known", got)
	}
}
