package softstate

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func control(t *testing.T, c wire.ProxyControl) func(*wire.Message) {
	o, err := (&wire.PolicyData{Elements: []wire.PolicyElement{c.Element()}}).Object()
	if err != nil {
		t.Fatal(err)
	}
	return func(m *wire.Message) { m.Policy = []wire.Object{o} }
}

// RFC 5946 section 4.2: a PATH whose sender says that its receiver speaks RSVP is
// not answered for it, and reaches it.
func TestProxyControlRFC5946Section4_2(t *testing.T) {
	r := proxyRig(t)
	es := r.path(control(t, wire.ProxyNotNeeded))
	if s := onlySend(t, es, wire.Path); len(s.Msg.Policy) != 1 {
		t.Errorf("%s", dump(es))
	}
	if len(all[Reserve](es)) != 0 || len(sends(es, wire.PathErr)) != 0 {
		t.Errorf("%s", dump(es))
	}
	r.grant(r.hostResv())
	r.wantState(Reserved)
	if v := r.view(); v.Role != Transit {
		t.Error(v.Role)
	}

	r = proxyRig(t)
	es = r.grant(r.path(control(t, wire.ProxyNeeded)))
	noSend(t, es, wire.Path)
	r.wantRole(ReceiverProxy, r.view().Reservation)
	// The sender learns otherwise: what was reserved for the receiver ends.
	es = r.path(control(t, wire.ProxyNotNeeded))
	onlySend(t, es, wire.Path)
	onlySend(t, es, wire.ResvTear)
	only[Release](t, es)
	// And again.
	noSend(t, r.grant(r.path()), wire.Path)
	r.wantState(Reserved)
}
