package softstate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// What people are shown of the state blocks of RFC 2209 section 1, with their
// lifetimes.
func TestDetail(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	if got := r.n.Requests(r.now); len(got) != 0 {
		t.Errorf("requests before a RESV: %+v", got)
	}
	r.resv()
	r.now = r.now.Add(time.Second)
	paths := r.n.Paths(r.now)
	if len(paths) != 1 {
		t.Fatalf("%+v", paths)
	}
	p := paths[0]
	if p.Session != sess || p.Sender != filter || p.Role != Transit || p.State != Requested || p.PrevHop.Addr != prevHop || p.In != left ||
		len(p.Outs) != 1 || p.Outs[0] != right || p.TSpec != tspec || p.AdSpec == nil || p.Age != time.Second {
		t.Errorf("%+v", p)
	}
	// RFC 2205 section 3.7: L = (K + 0.5) * 1.5 * R, and the next refresh within 1.5 R.
	if want := 157500*time.Millisecond - time.Second; p.Expires != want || p.Refresh <= 0 || p.Refresh > 45*time.Second {
		t.Errorf("expires in %v, want %v; next refresh in %v", p.Expires, want, p.Refresh)
	}
	requests := r.n.Requests(r.now)
	if len(requests) != 1 {
		t.Fatalf("%+v", requests)
	}
	q := requests[0]
	if q.Session != sess || q.Style != wire.FF || len(q.Filters) != 1 || q.Filters[0] != filter || q.Out != right || q.NextHop != nextHop ||
		q.Installed || !q.Pending || q.Expires != 157500*time.Millisecond-time.Second {
		t.Errorf("%+v", q)
	}
	r.checked(r.n.ReserveResult(r.now, q.Reservation, nil))
	if q = r.n.Requests(r.now)[0]; !q.Installed || q.Pending {
		t.Errorf("%+v", q)
	}
	want := []NeighborView{{Iface: left, Addr: prevHop, Senders: 1}, {Iface: right, Addr: nextHop, Requests: 1}}
	if diff := cmp.Diff(want, r.n.Neighbors(), cmp.Comparer(func(a, b NeighborView) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// A proxied sender lives for ever, and the receiver proxy's own request has no
// next hop.
func TestDetailOfProxies(t *testing.T) {
	r := proxyRig(t)
	r.env.proxy = sayYes
	r.grant(r.path())
	q := r.n.Requests(r.now)
	if len(q) != 1 || q[0].NextHop.IsValid() || q[0].Expires != 0 || !q[0].Installed {
		t.Errorf("%+v", q)
	}
	r = newRig(t, Config{})
	r.add(Sender{Session: sess, Filter: filter, TSpec: tspec, In: left})
	p := r.n.Paths(r.now)
	if len(p) != 1 || p[0].Expires != 0 || p[0].PrevHop.Addr.IsValid() || p[0].Role != SenderProxy || p[0].Refresh == 0 {
		t.Errorf("%+v", p)
	}
}
