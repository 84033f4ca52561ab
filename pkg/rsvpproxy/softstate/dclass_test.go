package softstate

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func withDClass(objects ...wire.Object) func(*wire.Message) {
	return func(m *wire.Message) { m.Flows[0].Unknown = objects }
}

// sentDClass are the DCLASS objects of the RESV among effects.
func sentDClass(t *testing.T, es []Effect) []wire.Object {
	t.Helper()
	m := onlySend(t, es, wire.Resv).Msg
	return append(ofClass(m.Unknown, wire.ClassDClass), ofClass(m.Flows[0].Unknown, wire.ClassDClass)...)
}

// RFC 2996 section 3: a DCLASS in RESV is told to traffic control and shown, a new
// one at once; it travels on.
func TestDClassRFC2996Section3(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	es := r.grant(r.resv(withDClass(wire.DClass(46, 10, 46))))
	if v := only[Reserve](t, es); !slices.Equal(v.DSCPs, []uint8{46, 10}) || !slices.Equal(r.view().DSCPs, []uint8{46, 10}) {
		t.Errorf("%v, %v", v.DSCPs, r.view().DSCPs)
	}
	if got := sentDClass(t, es); !sameObjects(got, []wire.Object{wire.DClass(46, 10, 46)}) {
		t.Errorf("%v", got)
	}
	es = r.grant(r.resv(withDClass(wire.DClass(12))))
	if v := only[Reserve](t, es); !v.Change || !slices.Equal(v.DSCPs, []uint8{12}) {
		t.Errorf("%+v", v)
	}
	es = r.grant(r.resv())
	if v := only[Reserve](t, es); len(v.DSCPs) != 0 || len(sentDClass(t, es)) != 0 {
		t.Errorf("%s", dump(es))
	}
	es = r.grant(r.resv(from(hopThree), withDClass(wire.DClass(8))))
	if v := only[Reserve](t, es); !slices.Equal(v.DSCPs, []uint8{8}) {
		t.Errorf("%+v", v)
	}
}

// RFC 2996 section 2, RFC 2205 section 3.10 rule 2: the class is known here, so a
// C-Type that is not is an error, which names both; an object without a code point
// is none, and its message is dropped. What is in place stays.
func TestBrokenDClassRFC2996Section2(t *testing.T) {
	for _, place := range []struct {
		name string
		put  func(o wire.Object) func(*wire.Message)
	}{
		{"of the descriptor", func(o wire.Object) func(*wire.Message) { return withDClass(wire.DClass(10), o) }},
		{"of the message", func(o wire.Object) func(*wire.Message) {
			return func(m *wire.Message) { m.Unknown = []wire.Object{o} }
		}},
	} {
		t.Run(place.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.path()
			r.grant(r.resv(withDClass(wire.DClass(10))))
			es := r.resv(place.put(wire.Object{Class: wire.ClassDClass, CType: 7, Body: make([]byte, 4)}))
			e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec
			if e.Code != wire.ErrUnknownCType || e.Value != uint16(wire.ClassDClass)<<8|7 {
				t.Errorf("%+v", e)
			}
			before := r.n.Counters().Dropped[DropMalformed]
			for _, body := range [][]byte{nil, {0, 0}} {
				if es := r.resv(place.put(wire.Object{Class: wire.ClassDClass, CType: 1, Body: body})); len(es) != 0 {
					t.Errorf("%d bytes: %s", len(body), dump(es))
				}
			}
			if n := r.n.Counters().Dropped[DropMalformed] - before; n != 2 {
				t.Errorf("%d dropped", n)
			}
			if n := r.n.Counters().Malformed; n[wire.KindUnknownCType] != 1 || n[wire.KindObjectLength] != 2 {
				t.Errorf("counted as %v", n)
			}
			if v := r.view(); v.State != Reserved || !slices.Equal(v.DSCPs, []uint8{10}) {
				t.Errorf("%+v", v)
			}
		})
	}
	// Who does not know the class forwards it; in other messages nothing is said of it.
	r := newRig(t, Config{})
	odd := wire.Object{Class: wire.ClassDClass, CType: 7, Body: make([]byte, 4)}
	es := r.path(func(m *wire.Message) { m.Unknown = []wire.Object{odd} })
	if m := onlySend(t, es, wire.Path).Msg; !cmp.Equal(m.Unknown, []wire.Object{odd}) {
		t.Errorf("%v", m.Unknown)
	}
}

// What several next hops name goes on as one object with all of it; another's
// unknown objects are left alone. RFC 2205 section 3.10: what is known is merged.
func TestMergedDClassRFC2996Section2(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	r.grant(r.resv(withDClass(wire.DClass(46, 10))))
	es := r.grant(r.resv(from(hopThree), withDClass(wire.DClass(10, 12), wire.Object{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}})))
	if got := sentDClass(t, es); !sameObjects(got, []wire.Object{wire.DClass(46, 10, 12)}) {
		t.Errorf("%v", got)
	}
	if m := onlySend(t, es, wire.Resv).Msg; len(ofClass(m.Flows[0].Unknown, 200)) != 1 {
		t.Errorf("%v", m.Flows[0].Unknown)
	}
	// The same from two is one, as it came, unused bits and all.
	o := wire.DClass(10)
	o.Body[0] = 9
	r = newRig(t, Config{})
	r.path()
	r.grant(r.resv(withDClass(o)))
	if got := sentDClass(t, r.grant(r.resv(from(hopThree), rate(5000), withDClass(o)))); !sameObjects(got, []wire.Object{o}) {
		t.Errorf("%v", got)
	}
}

// RFC 2996 section 1.1: a node that decides how packets are to be marked that leave
// by an interface says so upstream, in the place of what came; of several outgoing
// interfaces each for itself. What it decides may change.
func TestDecidedDClassRFC2996Section1_1(t *testing.T) {
	r := newRig(t, Config{})
	var asked []Marking
	code := uint8(26)
	r.env.marks = func(m Marking) ([]uint8, bool) {
		asked = append(asked, m)
		return []uint8{code}, true
	}
	r.path()
	es := r.grant(r.resv(withDClass(wire.DClass(46))))
	if got := sentDClass(t, es); !sameObjects(got, []wire.Object{wire.DClass(26)}) {
		t.Errorf("%v", got)
	}
	if m := asked[len(asked)-1]; m.Out != right || m.Session != sess || !slices.Equal(m.Filters, []wire.Filter{filter}) || m.Service != flow.Service || !slices.Equal(m.Heard, []uint8{46}) {
		t.Errorf("asked about %+v", m)
	}
	code = 28
	var last []wire.Object
	for _, s := range sends(r.run(61*time.Second), wire.Resv) {
		last = ofClass(s.Msg.Flows[0].Unknown, wire.ClassDClass)
	}
	if !sameObjects(last, []wire.Object{wire.DClass(28)}) {
		t.Errorf("a refresh after the change has %v", last)
	}
	// To say nothing is a decision, too.
	r.env.marks = func(Marking) ([]uint8, bool) { return nil, true }
	if got := sentDClass(t, r.grant(r.resv(withDClass(wire.DClass(44))))); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// The receiver proxy has heard nothing from downstream, and decides all the same.
func TestDecidedDClassOfTheReceiverProxy(t *testing.T) {
	r := newRig(t, Config{})
	r.env.proxy = func(PathInfo) (ReserveSpec, bool) { return ReserveSpec{FlowSpec: flow}, true }
	r.env.unaware[dstHost] = true
	r.env.marks = func(m Marking) ([]uint8, bool) { return []uint8{18}, len(m.Heard) == 0 && m.Out == right }
	if got := sentDClass(t, r.grant(r.path())); !sameObjects(got, []wire.Object{wire.DClass(18)}) {
		t.Errorf("%v", got)
	}
}

// A sender by two interfaces: one of them decided here, the other downstream.
func TestDClassOfTwoBranches(t *testing.T) {
	for _, decided := range []bool{false, true} {
		t.Run(fmt.Sprint(decided), func(t *testing.T) {
			r := newRig(t, Config{})
			group := addr("239.1.2.3")
			r.env.groups = func(_, _ netip.Addr, _ IfIndex) []IfIndex { return []IfIndex{right, other} }
			r.env.marks = func(m Marking) ([]uint8, bool) { return []uint8{26}, decided && m.Out == other }
			to := func(m *wire.Message) { m.Session.Dst = group }
			r.path(to)
			r.grant(r.resv(to, withDClass(wire.DClass(46))))
			third := resvMsg()
			to(third)
			third.Hop = &wire.Hop{Addr: addr("203.0.113.2"), LIH: uint32(other)}
			third.Flows[0].Unknown = []wire.Object{wire.DClass(44)}
			f := flow
			f.TSpec.Rate = 9000 // so that there is something to say
			third.Flows[0].FlowSpec = &f
			es := r.grant(r.in(other, addr("203.0.113.2"), otherAdr, third))
			want := wire.DClass(46, 44)
			if decided {
				want = wire.DClass(46, 26)
			}
			m := sends(append(es, r.run(61*time.Second)...), wire.Resv)
			got := ofClass(m[len(m)-1].Msg.Flows[0].Unknown, wire.ClassDClass)
			if !sameObjects(got, []wire.Object{want}) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
