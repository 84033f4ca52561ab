package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.6, for addresses: both neighbours learn of the new one, and
// nothing ends.
func TestAddressChangesRFC2205Section3_6(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	r.run(time.Second)
	r.env.addrs[right], r.env.addrs[left] = addr("198.51.100.9"), addr("192.0.2.9")
	r.n.InterfacesChanged(r.now, left, right)
	es := uninterrupted(t, r.run(DefaultRepair))
	if s := onlySend(t, es, wire.Path); s.Msg.Hop.Addr != addr("198.51.100.9") {
		t.Errorf("%s", dump(es))
	}
	if s := onlySend(t, es, wire.Resv); s.Src != addr("192.0.2.9") || s.Msg.Hop.Addr != s.Src {
		t.Errorf("%s", dump(es))
	}
	// The next hop answers to the new address.
	m := resvMsg()
	uninterrupted(t, r.in(right, nextHop, addr("198.51.100.9"), m))
	r.n.InterfacesChanged(r.now, other)
	noSend(t, r.run(DefaultRepair))
}

// An interface that has lost its address is no way any more, and is again when
// it has one.
func TestAddressGoesAndComesRFC2205Section3_6(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	r.run(time.Second)
	was := r.env.addrs[right]
	delete(r.env.addrs, right)
	r.n.InterfacesChanged(r.now, right)
	es := r.run(DefaultRepair)
	only[Release](t, es)
	r.wantState(Inactive)
	r.path()
	r.env.addrs[right] = was
	r.n.InterfacesChanged(r.now, right)
	onlySend(t, r.run(DefaultRepair), wire.Path)
	r.grant(r.resv())
	r.wantState(Reserved)
}

// In a shared style the previous hops learn of it too.
func TestAddressChangesShared(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	r.grant(r.resv(func(m *wire.Message) { m.Style, m.Flows[0].Filters = wire.WF, nil }))
	r.run(time.Second)
	r.env.addrs[left] = addr("192.0.2.9")
	r.n.InterfacesChanged(r.now, left)
	if s := onlySend(t, r.run(DefaultRepair), wire.Resv); s.Src != addr("192.0.2.9") {
		t.Errorf("%+v", s)
	}
}
