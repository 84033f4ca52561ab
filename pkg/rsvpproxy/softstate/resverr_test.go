package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func resvErr(code wire.ErrorCode, value uint16, flags uint8, r float64) *wire.Message {
	f := flow
	f.TSpec.Rate = r
	return &wire.Message{
		Type: wire.ResvErr, Session: sess, Hop: &wire.Hop{Addr: prevHop, LIH: 7}, Style: wire.FF,
		ErrorSpec: &wire.ErrorSpec{Node: prevHop, Code: code, Value: value, Flags: flags},
		Flows:     []wire.FlowDescriptor{{FlowSpec: &f, Filters: []wire.Filter{filter}}},
		Unknown:   []wire.Object{{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}},
	}
}

// RFC 2205 sections 3.1.8, 3.5; RFC 2209 RERR MESSAGE ARRIVES: forwarded to the
// next hop, the reservation stays, blockade state is made for Kb*R.
func TestResvErrForwardedAndBlockades(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	m := resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, 0, tspec.Rate)
	es := r.in(left, prevHop, leftAddr, m)
	s := onlySend(t, es, wire.ResvErr)
	if s.Dst != nextHop || s.Out != right || s.RouterAlert || *s.Msg.ErrorSpec != *m.ErrorSpec ||
		*s.Msg.Hop != (wire.Hop{Addr: rightAdr, LIH: uint32(right)}) || len(s.Msg.Unknown) != 1 {
		t.Errorf("%s", dump(es))
	}
	if len(all[Release](es)) != 0 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Blockaded)
	// All that there is is blockaded: its GLB keeps being tried (section 3.5).
	r.path()
	if len(sends(r.run(2*DefaultRefresh), wire.Resv)) == 0 {
		t.Error("no refreshes")
	}
	r.path()
	r.resv()
	r.run(DefaultKb*DefaultRefresh - 2*DefaultRefresh)
	r.wantState(Reserved)
}

// RFC 2205 section 3.5 rule 5: with InPlace, only those who asked for the failed
// amount are told; without, all.
func TestResvErrInPlaceGoesToTheGuilty(t *testing.T) {
	third := addr("198.51.100.3")
	for _, tt := range []struct {
		flags uint8
		want  int
	}{{wire.InPlace, 1}, {0, 2}} {
		r := newRig(t, Config{})
		r.path(rate(90000))
		small := func(m *wire.Message) {
			f := *m.Flows[0].FlowSpec
			f.TSpec.Rate, f.TSpec.Bucket, f.TSpec.Peak = 1000, 1000, 1000
			m.Flows[0].FlowSpec = &f
		}
		r.grant(r.resv(small))
		r.grant(r.resv(rate(40000), func(m *wire.Message) { m.Hop.Addr = third }))
		es := r.in(left, prevHop, leftAddr, resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, tt.flags, 40000))
		got := sends(es, wire.ResvErr)
		if len(got) != tt.want || tt.want == 1 && got[0].Dst != third {
			t.Errorf("flags %d: %s", tt.flags, dump(es))
		}
	}
}

// RFC 2209 RERR MESSAGE ARRIVES: dropped without path state.
func TestResvErrWithoutState(t *testing.T) {
	r := newRig(t, Config{})
	if es := r.in(left, prevHop, leftAddr, resvErr(1, 2, 0, 1000)); len(es) != 0 || r.n.Counters().Dropped[DropNoState] != 1 {
		t.Errorf("%s", dump(es))
	}
	// Other codes make no blockade (section 3.5).
	r.reserved()
	onlySend(t, r.in(left, prevHop, leftAddr, resvErr(wire.ErrPolicy, 0, 0, 1000)), wire.ResvErr)
	r.wantState(Reserved)
	if r.view().Failure == nil {
		t.Error("error not shown")
	}
}

func withConfirm(a string) func(*wire.Message) {
	return func(m *wire.Message) { m.ResvConfirm = addr(a) }
}

// RFC 2205 section 3.1.4: RESV_CONFIRM goes upstream with the largest request,
// once; else ResvConf comes from here (section 3.1.9), with Router Alert (3.3).
func TestResvConfirmMerging(t *testing.T) {
	r := newRig(t, Config{})
	r.env.routes[addr("10.2.0.9")] = right
	r.path(rate(90000))
	es := r.grant(r.resv(withConfirm("10.2.0.1")))
	if s := onlySend(t, es, wire.Resv); s.Msg.ResvConfirm != dstHost {
		t.Errorf("%s", dump(es))
	}
	for _, s := range sends(r.run(60*time.Second), wire.Resv) {
		if s.Msg.ResvConfirm.IsValid() {
			t.Error("asked for twice")
		}
	}
	es = r.grant(r.resv(withConfirm("10.2.0.9"), func(m *wire.Message) { m.Hop.Addr = addr("198.51.100.3") }))
	s := onlySend(t, es, wire.ResvConf)
	if s.Dst != addr("10.2.0.9") || !s.RouterAlert || s.Msg.ErrorSpec.Code != 0 || s.Msg.ErrorSpec.Node != rightAdr || s.Msg.ResvConfirm != s.Dst {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.Resv)
}

// RFC 2205 sections 2.6 and 3.1.9, RFC 2209 RESV CONFIRM ARRIVES: hop by hop to the
// receiver; Appendix B: its destination must be the RESV_CONFIRM address.
func TestResvConfForwarded(t *testing.T) {
	r := newRig(t, Config{})
	f := flow
	m := &wire.Message{
		Type: wire.ResvConf, Session: sess, ErrorSpec: &wire.ErrorSpec{Node: prevHop}, ResvConfirm: dstHost,
		Style: wire.FF, Flows: []wire.FlowDescriptor{{FlowSpec: &f, Filters: []wire.Filter{filter}}},
	}
	es := r.in(left, prevHop, dstHost, m)
	if s := onlySend(t, es, wire.ResvConf); s.Out != right || s.Dst != dstHost || s.TTL != 59 || !s.RouterAlert {
		t.Errorf("%s", dump(es))
	}
	if es := r.in(left, prevHop, nextHop, m); len(es) != 0 || r.n.Counters().Dropped[DropConfirmDst] != 1 {
		t.Errorf("%s", dump(es))
	}
}

// RFC 2205 section 3.1.8: a ResvErr comes from the previous hop. After a change
// of route (section 3.6) the one that was left may still complain of what it
// holds until that times out; nothing is wrong with the reservation on the new
// path, and what was wrong with the old one is forgotten.
func TestResvErrOfHopThatWasLeft(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	r.in(left, prevHop, leftAddr, resvErr(wire.ErrAdmission, wire.AdmissionBandwidth, 0, tspec.Rate))
	r.wantState(Blockaded)
	es := r.path(func(m *wire.Message) { m.Hop.Addr = addr("192.0.2.99") })
	if s := onlySend(t, es, wire.Resv); s.Dst != addr("192.0.2.99") {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
	noSend(t, r.in(left, prevHop, leftAddr, resvErr(wire.ErrNoSender, 0, 0, tspec.Rate)), wire.ResvErr)
	if d, ok := r.n.Dropped(); !ok || d != DropWrongHop {
		t.Errorf("dropped as %v, %v", d, ok)
	}
	r.wantState(Reserved)
}
