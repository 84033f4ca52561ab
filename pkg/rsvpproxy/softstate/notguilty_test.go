package softstate

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const innocence = "not because of this request"

// more has the failed flowspec be k times what was asked for.
func more(k float64) func(*wire.Message) {
	return func(m *wire.Message) {
		f := *m.Flows[0].FlowSpec
		f.TSpec.Rate, f.TSpec.Bucket, f.TSpec.Peak = k*tspec.Rate, k*tspec.Bucket, k*tspec.Peak
		m.Flows[0].FlowSpec = &f
	}
}

// RFC 2205 section 3.11.1 (RESV_ERR upcall) and Appendix A.5: the node that gives
// an admission failure to a local receiver sets NotGuilty if what failed is
// strictly greater than what that receiver asks for. What came in a message does
// not count, and no message carries it.
func TestNotGuiltyRFC2205SectionA_5(t *testing.T) {
	for name, tt := range map[string]struct {
		code   wire.ErrorCode
		value  uint16
		flags  uint8
		failed func(*wire.Message)
		want   uint8
		state  State
	}{
		"a larger, merged request":         {1, 2, 0, more(2), wire.NotGuilty, Reserved},
		"a larger one, and this stays":     {1, 2, wire.InPlace, more(2), wire.InPlace | wire.NotGuilty, Reserved},
		"this request":                     {1, 2, 0, more(1), 0, Rejected},
		"this request, for an earlier one": {1, 2, wire.InPlace, more(1), wire.InPlace, Reserved},
		"greater in one component only":    {1, 2, 0, rate(2 * tspec.Rate), 0, Rejected},
		"a neighbour's flag":               {1, 2, wire.NotGuilty, more(1), 0, Rejected},
		"no failure of admission control":  {2, 5, wire.NotGuilty, more(2), 0, Rejected},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			r := proxyRig(t)
			r.grant(r.path())
			m := resvErr(tt.code, tt.value, tt.flags, 0)
			tt.failed(m)
			es := r.in(left, prevHop, leftAddr, m)
			f := r.view().Failure
			if f == nil || f.Flags != tt.want || strings.Contains(f.String(), innocence) != (tt.want&wire.NotGuilty != 0) {
				t.Errorf("%v, flags %d", f, f.Flags)
			}
			e := only[Event](t, es)
			if e.Failure == nil || e.Failure.Flags != tt.want {
				t.Errorf("told: %+v", e)
			}
			for _, s := range sends(es, wire.PathErr) {
				if s.Msg.ErrorSpec.Flags != tt.flags&wire.InPlace {
					t.Errorf("the sender is told flags %d", s.Msg.ErrorSpec.Flags)
				}
			}
			r.wantState(tt.state)
		})
	}
}

// RFC 2205 section 3.11.1: the flag is for receivers. Where none is spoken for the
// error goes on; a sender proxy has no part in it.
func TestNotGuiltyIsForReceiversRFC2205Section3_11_1(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	m := resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, 0, 0)
	more(2)(m)
	onlySend(t, r.in(left, prevHop, leftAddr, m), wire.ResvErr)
	if f := r.view().Failure; f.Flags != 0 || strings.Contains(f.String(), innocence) {
		t.Errorf("transit: %v", f)
	}
	r = newRig(t, Config{})
	r.add(host)
	r.in(right, nextHop, rightAdr, &wire.Message{
		Type: wire.PathErr, Session: sess, SenderTemplate: &filter, SenderTSpec: &host.TSpec,
		ErrorSpec: &wire.ErrorSpec{Node: nextHop, Code: wire.ErrAdmission, Flags: wire.NotGuilty | wire.InPlace},
	})
	if f := r.view().Failure; f == nil || f.Flags != wire.InPlace || strings.Contains(f.String(), innocence) {
		t.Errorf("sender proxy: %v", f)
	}
}

// The same error again, now of the own request: it is told anew.
func TestNotGuiltyNoLongerRFC2205SectionA_5(t *testing.T) {
	r := proxyRig(t)
	r.grant(r.path())
	fails := func(k float64) Event {
		m := resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, wire.InPlace, 0)
		more(k)(m)
		return only[Event](t, r.in(left, prevHop, leftAddr, m))
	}
	if e := fails(2); e.Failure.Flags != wire.InPlace|wire.NotGuilty {
		t.Errorf("%+v", e)
	}
	if e := fails(1); e.Failure.Flags != wire.InPlace {
		t.Errorf("%+v", e)
	}
}

// Receivers that leave the peak rate open (RFC 2210 section 3.1 has infinity for
// it) can be told too: nothing is asked for by a peak that neither knows.
func TestNotGuiltyWithoutPeakRFC2205SectionA_5(t *testing.T) {
	r := proxyRig(t)
	r.path(func(m *wire.Message) {
		ts := tspec
		ts.Peak = math.Inf(1)
		m.SenderTSpec = &ts
	})
	r.grant(r.path(func(m *wire.Message) { m.SenderTSpec.Peak = math.Inf(1) }))
	m := resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, 0, 0)
	more(2)(m)
	m.Flows[0].FlowSpec.TSpec.Peak = math.Inf(1)
	r.in(left, prevHop, leftAddr, m)
	if f := r.view().Failure; f == nil || f.Flags != wire.NotGuilty {
		t.Errorf("%v", f)
	}
}

// A group with two receivers here: the one that asks for what failed is guilty,
// and then the session is not told that it is innocent.
func TestNotGuiltyOfAllReceiversRFC2205Section3_11_1(t *testing.T) {
	ask := func(c, d float64) func(PathInfo) (ReserveSpec, bool) {
		return func(i PathInfo) (ReserveSpec, bool) {
			s, _ := sayYes(i)
			k := map[IfIndex]float64{3: c, 4: d}[i.Out]
			s.FlowSpec.TSpec.Rate, s.FlowSpec.TSpec.Bucket, s.FlowSpec.TSpec.Peak = k*unit, k*unit, k*unit
			return s, k > 0
		}
	}
	for _, tt := range []struct {
		c, d  float64
		order string
		want  uint8
	}{
		{1, 2, "resverr P1 FF S1{4} 1", wire.NotGuilty},
		{1, 4, "resverr P1 FF S1{4} 1", 0},
		{1, 2, "resverr P1 FF S1{2} 1", 0},
	} {
		l := newLab(t, false)
		l.do("unaware")
		l.env.proxy = ask(tt.c, tt.d)
		l.do("path S1{9}")
		l.do(tt.order)
		v := l.n.Sessions(l.now)[0]
		if v.Failure == nil || v.Failure.Flags != tt.want {
			t.Errorf("%+v: %v", tt, v.Failure)
		}
	}
	// One receiver here, one behind a next hop that asks for more than this link has.
	l := newLab(t, false)
	l.env.proxy = ask(0, 1)
	l.do("path S1{9}")
	l.do("limit 4")
	es := l.do("resv c R1 FF S1{6}")
	if s := onlySend(t, es, wire.ResvErr); s.Dst != l.addr("R1") || s.Msg.ErrorSpec.Flags != 0 {
		t.Errorf("%s", dump(es))
	}
	if v := l.n.Sessions(l.now)[0]; v.State != Reserved || v.Failure == nil || v.Failure.Flags != wire.NotGuilty {
		t.Errorf("%v %v", v.State, v.Failure)
	}
}

// Senders that share what one box asks for, at its own link: the merged request
// is refused, and the smaller of its parts is not the cause (RFC 2205 section
// 2.5). What is refused is refused for both all the same.
func TestNotGuiltyOfASharedRequestRFC2205SectionA_5(t *testing.T) {
	l := newLab(t, false)
	l.do("unaware")
	l.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		s, _ := sayYes(i)
		s.Style = wire.SE
		return s, i.Out == 3
	}
	l.do("limit 4")
	l.do("path S1{1}")
	l.do("path S2{6}")
	flags := map[string]uint8{}
	for _, v := range l.n.Sessions(l.now) {
		if v.Failure == nil {
			t.Fatalf("%s: nothing is refused", l.name(v.Sender.Src))
		}
		flags[l.name(v.Sender.Src)] = v.Failure.Flags
	}
	if flags["S1"]&wire.NotGuilty == 0 || flags["S2"]&wire.NotGuilty != 0 {
		t.Errorf("%v", flags)
	}
	if s := l.n.Sessions(l.now); !slices.ContainsFunc(s, func(v SessionView) bool { return v.State == Reserved }) {
		t.Errorf("what was in place is not: %+v", s)
	}
}
