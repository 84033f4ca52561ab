package softstate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.1.5: PathTear matches SESSION, SENDER_TEMPLATE and PHOP.
func TestPathTearMatches(t *testing.T) {
	tests := []struct {
		name   string
		change func(*wire.Message)
		drop   Drop
	}{
		{"other session", func(m *wire.Message) { m.Session.DstPort++ }, DropNoState},
		{"other sender", func(m *wire.Message) { m.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: 1} }, DropNoState},
		{"other hop", func(m *wire.Message) { m.Hop.Addr = nextHop }, DropWrongHop},
		{"other LIH", func(m *wire.Message) { m.Hop.LIH++ }, DropWrongHop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.reserved()
			m := pathTear()
			tt.change(m)
			if es := r.in(left, srcHost, m.Session.Dst, m); len(es) != 0 {
				t.Errorf("not dropped: %s", dump(es))
			}
			r.wantState(Reserved)
			if r.n.Counters().Dropped[tt.drop] != 1 {
				t.Errorf("not counted: %+v", r.n.Counters().Dropped)
			}
		})
	}
}

// RFC 2205 sections 2.4 and 3.1.5: PathTear goes on, takes the reservations along, and
// causes neither ResvErr nor ResvTear; TSPEC and ADSPEC in it are ignored.
func TestPathTear(t *testing.T) {
	r := newRig(t, Config{})
	id := only[Reserve](t, r.reserved()).ID
	m := pathTear()
	m.SenderTSpec = pathMsg().SenderTSpec
	m.SenderTSpec.Rate = 99
	m.Unknown = []wire.Object{{Class: 201, CType: 9, Body: []byte{1, 2, 3, 4}}}
	es := r.in(left, srcHost, dstHost, m)
	s := onlySend(t, es, wire.PathTear)
	if s.Src != srcHost || s.Dst != dstHost || s.Msg.SenderTSpec.Rate != tspec.Rate {
		t.Errorf("%s", dump(es))
	}
	if d := cmp.Diff(m.Unknown, s.Msg.Unknown); d != "" { // section 3.10 (1) rule 1
		t.Error(d)
	}
	noSend(t, es, wire.ResvErr, wire.ResvTear, wire.Resv)
	if only[Release](t, es).ID != id {
		t.Errorf("%s", dump(es))
	}
	if c := r.n.Counters(); c.Sessions+c.Senders+c.Reservations+c.Neighbors != 0 {
		t.Errorf("left over: %+v", c)
	}
}

// RFC 2205 section 3.1.7: PathErr goes hop by hop to the previous hop and
// changes no state.
func TestPathErrForwarded(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	before := r.view()
	e := &wire.Message{
		Type: wire.PathErr, Session: sess, SenderTemplate: &filter, SenderTSpec: pathMsg().SenderTSpec,
		ErrorSpec: &wire.ErrorSpec{Node: nextHop, Code: wire.ErrPolicy, Value: 5, Flags: wire.InPlace},
		Unknown:   []wire.Object{{Class: 200, CType: 1, Body: []byte{1, 2, 3, 4}}},
	}
	es := r.in(right, nextHop, rightAdr, e)
	s := onlySend(t, es, wire.PathErr)
	if s.Dst != prevHop || s.Src != leftAddr || s.Out != left || s.RouterAlert || *s.Msg.ErrorSpec != *e.ErrorSpec {
		t.Errorf("%s", dump(es))
	}
	if d := cmp.Diff(e.Unknown, s.Msg.Unknown); d != "" {
		t.Error(d)
	}
	if len(es) != 1 || r.view().State != before.State {
		t.Errorf("state changed: %s", dump(es))
	}
	e.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: 9}
	noSend(t, r.in(right, nextHop, rightAdr, e))
}

// RFC 2205 section 3.6: the branch that a route has left is not torn down, and its
// end does not take the reservation along where both ways join.
func TestBranchThatWasLeftRFC2205Section3_6(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	r.env.routes[dstHost] = other
	r.n.RouteChanged(r.now, dstPrefix)
	noSend(t, r.run(DefaultRepair), wire.PathTear)

	newHop := addr("192.0.2.77")
	newWay := func(m *wire.Message) { m.Hop.Addr = newHop }
	joined := newRig(t, Config{})
	joined.reserved()
	joined.path(newWay)
	noSend(t, joined.in(left, srcHost, dstHost, pathTear())) // of the old way
	joined.wantState(Reserved)

	// The old way refreshes last, and ends: the new one has the reservation.
	joined = newRig(t, Config{})
	joined.reserved()
	joined.path(newWay)
	joined.path()
	es := joined.in(left, srcHost, dstHost, pathTear())
	if len(es) != 0 { // it has had it from the beginning
		t.Errorf("%s", dump(es))
	}
	joined.wantState(Reserved)
	// Now nobody else is known: its tear is the sender's.
	tear := pathTear()
	newWay(tear)
	es = joined.in(left, srcHost, dstHost, tear)
	onlySend(t, es, wire.PathTear)
	if len(all[Release](es)) != 1 {
		t.Errorf("%s", dump(es))
	}

	// A sender that ends on the new way: what the old one left ends with its own
	// lifetime, and no later.
	joined = newRig(t, Config{})
	joined.reserved()
	joined.path(newWay)
	noSend(t, joined.in(left, srcHost, dstHost, tear), wire.PathTear)
	es = joined.run(joined.n.lifetime(timeValues(DefaultRefresh)) + time.Second)
	onlySend(t, es, wire.PathTear)
	if len(all[Release](es)) != 1 {
		t.Errorf("%s", dump(es))
	}
	// One that has ended on the old way before is not fallen back to.
	joined = newRig(t, Config{})
	joined.reserved()
	joined.path(newWay)
	joined.in(left, srcHost, dstHost, pathTear())
	onlySend(t, joined.in(left, srcHost, dstHost, tear), wire.PathTear)
}
