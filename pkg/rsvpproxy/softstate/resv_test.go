package softstate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.1.4, RFC 2209 RESV MESSAGE ARRIVES: first traffic control,
// then the previous hop.
func TestResvReservesThenForwards(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	es := r.resv()
	noSend(t, es)
	v := only[Reserve](t, es)
	if v.Change || v.Out != right || v.In != left || v.Role != Transit || v.Session != sess || v.FlowSpec != flow || v.SenderTSpec != tspec {
		t.Errorf("reserve %+v", v)
	}
	r.wantState(Requested)
	es = r.checked(r.n.ReserveResult(r.now, v.ID, nil))
	s := onlySend(t, es, wire.Resv)
	if s.Dst != prevHop || s.Src != leftAddr || s.Out != left || s.RouterAlert {
		t.Errorf("envelope: %s", dump(es))
	}
	if *s.Msg.Hop != (wire.Hop{Addr: leftAddr, LIH: 7}) { // the LIH of the PATH is echoed
		t.Errorf("hop %+v", *s.Msg.Hop)
	}
	if s.Msg.Style != wire.FF || *s.Msg.Flows[0].FlowSpec != flow || s.Msg.Flows[0].Filters[0] != filter {
		t.Errorf("message %+v", s.Msg)
	}
	r.wantState(Reserved)
	if e := only[Event](t, es); e.State != Reserved || e.Previous != Requested || e.Reservation != v.ID || e.FlowSpec != flow {
		t.Errorf("event %+v", e)
	}
	if es := r.resv(); len(es) != 0 { // a refresh changes nothing
		t.Errorf("%s", dump(es))
	}
	if got := r.view(); got.NextHop != nextHop || got.PrevHop != prevHop || got.Style != wire.FF || *got.FlowSpec != flow {
		t.Errorf("view %+v", got)
	}
}

// RFC 2205 section 2.2, RFC 2210 section 3.2.1: the smaller of FLOWSPEC and
// sender TSpec is installed, the FLOWSPEC goes upstream.
func TestResvInstalledFlowSpec(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	v := only[Reserve](t, r.resv(rate(15000)))
	if v.FlowSpec.TSpec.Rate != 10000 {
		t.Errorf("installed %v", v.FlowSpec)
	}
	s := onlySend(t, r.n.ReserveResult(r.now, v.ID, nil), wire.Resv)
	if s.Msg.Flows[0].FlowSpec.TSpec.Rate != 15000 {
		t.Errorf("forwarded %v", s.Msg.Flows[0].FlowSpec)
	}
	// RFC 2209: Path_Te grows, traffic control follows.
	es := r.path(rate(15000))
	v = only[Reserve](t, es)
	if !v.Change || v.FlowSpec.TSpec.Rate != 15000 {
		t.Errorf("%s", dump(es))
	}
}

// RFC 2205 section 3.1.8 and Appendix B: what a RESV can be refused with.
func TestResvErrors(t *testing.T) {
	nothing := func(*rig) {}
	tests := []struct {
		name   string
		before func(*rig)
		change func(*wire.Message)
		code   wire.ErrorCode
		value  uint16
	}{
		{"no path: code 3", nothing, func(m *wire.Message) { m.Session.DstPort++ }, wire.ErrNoPath, 0},
		{"no sender: code 4", nothing, func(m *wire.Message) { m.Flows[0].Filters[0].SrcPort = 9 }, wire.ErrNoSender, 0},
		{"no wildcard port (3.2): code 4", nothing, func(m *wire.Message) { m.Flows[0].Filters[0].SrcPort = 0 }, wire.ErrNoSender, 0},
		{"sender routes elsewhere: code 4", nothing, func(m *wire.Message) { m.Hop.LIH = uint32(other) }, wire.ErrNoSender, 0},
		{"style conflict: code 5", func(r *rig) { r.grant(r.resv()) }, func(m *wire.Message) { m.Style = wire.SE }, wire.ErrStyleConflict, uint16(wire.FF)},
		{"dst ports (3.2): code 7", nothing, func(m *wire.Message) { m.Session.DstPort, m.Flows[0].Filters[0].SrcPort = 0, 0 }, wire.ErrDstPorts, 0},
		{"M above MTU: code 1", nothing, func(m *wire.Message) { m.Flows[0].FlowSpec.TSpec.MaxPacket = 9000 }, wire.ErrAdmission, wire.AdmissionMTU},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.path()
			tt.before(r)
			es := r.resv(tt.change)
			s := onlySend(t, es, wire.ResvErr)
			e := s.Msg.ErrorSpec
			if e.Code != tt.code || e.Value != tt.value || e.Flags != 0 {
				t.Errorf("%+v", e)
			}
			if s.Dst != nextHop || s.RouterAlert {
				t.Errorf("%s", dump(es))
			}
			if len(all[Reserve](es)) != 0 || r.n.Counters().ResvErrs[tt.code] != 1 {
				t.Errorf("%s", dump(es))
			}
		})
	}
}

// RFC 2205 section 3.1.8: each flow descriptor is processed independently, with
// a ResvErr for each that is in error.
func TestResvFlowsAreIndependent(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	es := r.resv(func(m *wire.Message) {
		f := flow
		m.Flows = append(m.Flows,
			wire.FlowDescriptor{FlowSpec: &f, Filters: []wire.Filter{{Src: srcHost, SrcPort: 1}}},
			wire.FlowDescriptor{FlowSpec: &f, Filters: []wire.Filter{{Src: srcHost, SrcPort: 2}}})
		m.BadFlows = []wire.BadFlow{{
			FlowDescriptor: wire.FlowDescriptor{FlowSpec: &f, Filters: []wire.Filter{{Src: srcHost, SrcPort: 3}}},
			Err:            &wire.Error{Code: wire.ErrTrafficControl, Value: wire.TCBadFlowSpec, Respond: true},
		}}
	})
	only[Reserve](t, es)
	errs := sends(es, wire.ResvErr)
	if len(errs) != 3 {
		t.Fatalf("%s", dump(es))
	}
	for _, s := range errs {
		if len(s.Msg.Flows) != 1 || len(s.Msg.Flows[0].Filters) != 1 {
			t.Errorf("%s", dump(es))
		}
	}
}

// RFC 2205 section 3.1.8, RFC 2209: a refused new reservation leaves nothing,
// and the error has no InPlace.
func TestResvRefused(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	es := r.refuse(r.resv(), Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: "link full"})
	s := onlySend(t, es, wire.ResvErr)
	if e := *s.Msg.ErrorSpec; e != (wire.ErrorSpec{Node: rightAdr, Code: 1, Value: 2}) || s.Dst != nextHop || s.Out != right {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.Resv)
	if len(all[Release](es)) != 0 {
		t.Errorf("released what was never granted: %s", dump(es))
	}
	r.wantState(Rejected)
	if v := r.view(); v.Error() != "link full (code 1 value 2) at 198.51.100.1" {
		t.Errorf("error %q", v.Error())
	}
	// The refresh tries again: soft state.
	r.grant(r.resv())
	r.wantState(Reserved)
	if v := r.view(); v.Failure != nil {
		t.Errorf("failure stays: %v", v.Failure)
	}
}

// RFC 2205 sections 2.5 (KR-I), 3.1.8: a refused increase leaves the old
// reservation, the error says InPlace.
func TestResvRefusedIncrease(t *testing.T) {
	r := newRig(t, Config{})
	r.path(rate(50000))
	id := only[Reserve](t, r.grant(r.resv())).ID
	es := r.resv(rate(30000))
	v := only[Reserve](t, es)
	if v.ID != id || !v.Change || v.FlowSpec.TSpec.Rate != 30000 {
		t.Errorf("%+v", v)
	}
	es = r.checked(r.n.ReserveResult(r.now, id, &Refusal{Value: wire.AdmissionBandwidth}))
	s := onlySend(t, es, wire.ResvErr)
	if e := s.Msg.ErrorSpec; e.Code != wire.ErrAdmission || e.Flags != wire.InPlace || s.Msg.Flows[0].FlowSpec.TSpec.Rate != 30000 {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.Resv, wire.ResvTear)
	r.wantState(Reserved)
	if v := r.view(); v.FlowSpec.TSpec.Rate != 10000 {
		t.Errorf("flowspec %v", v.FlowSpec)
	}
	// Upstream keeps getting the old one.
	if s := sends(r.run(60*time.Second), wire.Resv); len(s) == 0 || s[0].Msg.Flows[0].FlowSpec.TSpec.Rate != 10000 {
		t.Errorf("refresh %+v", s)
	}
	// An increase of the sender's TSpec that is refused leaves all in place, too.
	r = newRig(t, Config{})
	r.path()
	r.grant(r.resv(rate(30000)))
	es = r.refuse(r.path(rate(20000)), Refusal{})
	if e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec; e.Flags != wire.InPlace {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
	if es := r.path(rate(20000)); len(all[Reserve](es)) != 0 {
		t.Errorf("asked again at once: %s", dump(es))
	}
}

// RFC 2205 section 3.6: a changed PHOP gets the RESV at once; so does one that
// has restarted and numbers its interfaces anew.
func TestPHOPChange(t *testing.T) {
	newHop := addr("192.0.2.77")
	for name, change := range map[string]func(*wire.Message){
		"address": func(m *wire.Message) { m.Hop.Addr = newHop },
		"LIH":     func(m *wire.Message) { m.Hop.LIH = 99 },
	} {
		r := newRig(t, Config{})
		r.reserved()
		es := r.path(change)
		s := onlySend(t, es, wire.Resv)
		want := *pathMsg()
		change(&want)
		if s.Dst != want.Hop.Addr || s.Msg.Hop.LIH != want.Hop.LIH {
			t.Errorf("%s: %s", name, dump(es))
		}
		if len(all[Release](es))+len(all[Reserve](es)) != 0 {
			t.Errorf("%s: reservation disturbed: %s", name, dump(es))
		}
	}
}

// RFC 2205 section 3.6: after a route change PATH takes the new way after W; the
// reservation on the old interface goes.
func TestLocalRepair(t *testing.T) {
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	r.env.routes[dstHost] = other
	r.n.RouteChanged(r.now, dstPrefix)
	noSend(t, r.run(DefaultRepair-time.Millisecond))
	es := r.run(time.Millisecond)
	if s := onlySend(t, es, wire.Path); s.Out != other || s.Msg.Hop.Addr != otherAdr {
		t.Errorf("%s", dump(es))
	}
	if only[Release](t, es).ID != id {
		t.Errorf("%s", dump(es))
	}
	es = r.grant(r.in(other, addr("203.0.113.2"), otherAdr, func() *wire.Message {
		m := resvMsg()
		m.Hop = &wire.Hop{Addr: addr("203.0.113.2"), LIH: uint32(other)}
		return m
	}()))
	if v := only[Reserve](t, es); v.Out != other || v.ID == id {
		t.Errorf("%+v", v)
	}
	r.wantState(Reserved)
}

// RFC 2205 section 3.10 (1) rules 2 and 3: unknown objects are kept, forwarded in
// refreshes, and one copy of each when requests are merged.
func TestResvUnknownObjects(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	a := wire.Object{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}
	b := wire.Object{Class: 200, CType: 1, Body: []byte{9, 9, 9, 9}}
	dclass := wire.Object{Class: 225, CType: 1, Body: []byte{0, 0, 0, 0x88}}
	es := r.grant(r.resv(func(m *wire.Message) { m.Unknown = []wire.Object{a}; m.Flows[0].Unknown = []wire.Object{dclass} }))
	s := onlySend(t, es, wire.Resv)
	if !cmp.Equal(s.Msg.Unknown, []wire.Object{a}) || !cmp.Equal(s.Msg.Flows[0].Unknown, []wire.Object{dclass}) {
		t.Errorf("%s", dump(es))
	}
	es = r.grant(r.resv(func(m *wire.Message) {
		m.Hop.Addr = addr("198.51.100.3")
		m.Unknown = []wire.Object{a, b}
	}))
	s = onlySend(t, es, wire.Resv)
	if !cmp.Equal(s.Msg.Unknown, []wire.Object{a, b}) {
		t.Errorf("%s", dump(es))
	}
}

// The interface handle must be one of ours (RFC 2205 Appendix B).
func TestResvInvalidLIH(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	if es := r.resv(func(m *wire.Message) { m.Hop.LIH = 4711 }); len(es) != 0 || r.n.Counters().Dropped[DropLIH] != 1 {
		t.Errorf("%s", dump(es))
	}
	// Zero is read as the interface of arrival.
	only[Reserve](t, r.resv(func(m *wire.Message) { m.Hop.LIH = 0 }))
}

// The answer of traffic control may be late.
func TestReserveResultLate(t *testing.T) {
	t.Run("torn meanwhile", func(t *testing.T) {
		r := newRig(t, Config{})
		r.path()
		id := only[Reserve](t, r.resv()).ID
		es := r.in(left, srcHost, dstHost, pathTear())
		if only[Release](t, es).ID != id {
			t.Errorf("%s", dump(es))
		}
		if es := r.n.ReserveResult(r.now, id, nil); len(es) != 0 || r.n.Counters().Dropped[DropLateResult] != 1 {
			t.Errorf("%s", dump(es))
		}
	})
	t.Run("changed meanwhile, then granted", func(t *testing.T) {
		r := newRig(t, Config{})
		r.path(rate(90000))
		id := only[Reserve](t, r.resv()).ID
		if es := r.resv(rate(20000)); len(all[Reserve](es)) != 0 {
			t.Errorf("two unanswered: %s", dump(es))
		}
		es := r.checked(r.n.ReserveResult(r.now, id, nil))
		if v := only[Reserve](t, es); v.ID != id || !v.Change || v.FlowSpec.TSpec.Rate != 20000 {
			t.Errorf("%+v", v)
		}
		r.grant(es)
		if v := r.view(); v.State != Reserved || v.FlowSpec.TSpec.Rate != 20000 {
			t.Errorf("%+v", v)
		}
	})
	t.Run("changed meanwhile, then refused", func(t *testing.T) {
		r := newRig(t, Config{})
		r.path(rate(90000))
		id := only[Reserve](t, r.resv(rate(80000))).ID
		r.resv(rate(20000))
		es := r.checked(r.n.ReserveResult(r.now, id, &Refusal{}))
		noSend(t, es, wire.ResvErr) // nobody wants the refused one any more
		if v := only[Reserve](t, es); v.Change || v.FlowSpec.TSpec.Rate != 20000 {
			t.Errorf("%+v", v)
		}
		r.grant(es)
		r.wantState(Reserved)
	})
	t.Run("twice or unknown", func(t *testing.T) {
		r := newRig(t, Config{})
		id := only[Reserve](t, r.reserved()).ID
		if es := append(r.n.ReserveResult(r.now, id, &Refusal{}), r.n.ReserveResult(r.now, 999, nil)...); len(es) != 0 {
			t.Errorf("%s", dump(es))
		}
		r.wantState(Reserved)
	})
}

// RFC 2205 section 3.1.8: the spontaneous end of a reservation.
func TestWithdraw(t *testing.T) {
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	es := r.checked(r.n.Withdraw(r.now, id, Refusal{}))
	if s := onlySend(t, es, wire.ResvErr); s.Msg.ErrorSpec.Code != wire.ErrPreempted || s.Dst != nextHop {
		t.Errorf("%s", dump(es))
	}
	onlySend(t, es, wire.ResvTear)
	if only[Release](t, es).ID != id {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Rejected)
}

// RFC 2205 section 3.10, codes 13, 14 and 6: a RESV that the codec refuses.
func TestBrokenResv(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	for _, m := range []*wire.Message{resvMsg(), func() *wire.Message { m := resvMsg(); m.Flows = nil; return m }()} {
		err := &wire.Error{Kind: wire.KindUnknownCType, Code: wire.ErrUnknownCType, Value: 0x0563, Respond: true}
		es := r.checked(r.n.Handle(r.now, Received{Iface: right, Src: nextHop, Dst: rightAdr, TTL: 60, Msg: m, Err: err}))
		s := onlySend(t, es, wire.ResvErr)
		if s.Msg.ErrorSpec.Code != wire.ErrUnknownCType || s.Msg.ErrorSpec.Value != 0x0563 || s.Dst != nextHop {
			t.Errorf("%s", dump(es))
		}
	}
	r.wantState(PathOnly)
}
