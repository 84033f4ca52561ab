package softstate

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// bySender is a sender proxy whose host has begun to speak.
func bySender(t *testing.T) (r *rig, id uint64) {
	t.Helper()
	r = newRig(t, Config{})
	r.add(host)
	r.grant(r.resv())
	id = r.view().Reservation
	r.wantRole(SenderProxy, id)
	es := uninterrupted(t, r.grant(r.path()))
	if s := onlySend(t, es, wire.Path); s.Msg.Hop.Addr != rightAdr || s.Src != srcHost {
		t.Errorf("%s", dump(es))
	}
	// The host learns at once what there is (RFC 2205 section 3.6).
	if s := onlySend(t, es, wire.Resv); s.Dst != prevHop {
		t.Errorf("%s", dump(es))
	}
	r.wantRole(Transit, id)
	return r, id
}

func (r *rig) answered(d time.Duration, also ...func() []Effect) (es []Effect) {
	r.t.Helper()
	for ; d > 0; d -= 25 * time.Second {
		es = append(es, r.grant(r.resv())...)
		for _, f := range also {
			es = append(es, r.grant(f())...)
		}
		es = append(es, r.grant(r.run(min(d, 25*time.Second)))...)
	}
	return es
}

// RFC 5945 section 2.2: a sender that begins to speak takes over, and when its
// PATH times out the proxy speaks again; downstream nothing ends.
func TestSenderFallsSilentRFC5945(t *testing.T) {
	r, id := bySender(t)
	es := uninterrupted(t, r.answered(5*time.Minute))
	r.wantRole(SenderProxy, id)
	r.wantState(Reserved)
	if len(sends(es, wire.Path)) < 5 || r.n.Counters().PathTimeouts != 1 {
		t.Errorf("%s", dump(es))
	}
	if v := r.view(); v.PrevHop.IsValid() || v.TSpec != host.TSpec {
		t.Errorf("%+v", v)
	}
	noSend(t, r.answered(time.Minute), wire.Resv)
	// Once more, and then for good.
	uninterrupted(t, r.grant(r.path(rate(9000))))
	r.wantRole(Transit, id)
	uninterrupted(t, r.checked(r.n.RemoveSender(r.now, sess, filter))) // its PATH is not ours to end
	r.wantRole(Transit, id)
	es = r.answered(5 * time.Minute)
	if len(sends(es, wire.PathTear)) != 1 || len(all[Release](es)) != 1 {
		t.Errorf("%s", dump(es))
	}
}

// The same for a PathTear: the proxy's PATH goes out in its place.
func TestSenderTearsRFC5945(t *testing.T) {
	r, id := bySender(t)
	es := uninterrupted(t, r.grant(r.in(left, srcHost, dstHost, pathTear())))
	if s := onlySend(t, es, wire.Path); s.TTL != DefaultTTL || s.Src != srcHost || *s.Msg.SenderTSpec != tspec {
		t.Errorf("%s", dump(es))
	}
	noSend(t, es, wire.Resv)
	r.wantRole(SenderProxy, id)
	es = r.checked(r.n.RemoveSender(r.now, sess, filter))
	onlySend(t, es, wire.PathTear)
	only[Release](t, es)
}

// A sender that spoke first is remembered, and spoken for when it stops.
func TestSenderSpokeFirst(t *testing.T) {
	r := newRig(t, Config{})
	r.path()
	r.grant(r.resv())
	id := r.view().Reservation
	if _, err := r.n.AddSender(r.now, host); !errors.Is(err, ErrSpeaksRSVP) {
		t.Fatal(err)
	}
	uninterrupted(t, r.grant(r.in(left, srcHost, dstHost, pathTear())))
	r.wantRole(SenderProxy, id)
}

// In a shared style the other senders behind the hop keep what they have.
func TestSenderFallsSilentSharedRFC5945(t *testing.T) {
	r := newRig(t, Config{})
	second := func(m *wire.Message) { m.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: 4001} }
	r.path()
	r.path(second)
	wf := func(m *wire.Message) { m.Style, m.Flows[0].Filters = wire.WF, nil }
	r.grant(r.resv(wf))
	id := r.view().Reservation
	if _, err := r.n.AddSender(r.now, host); !errors.Is(err, ErrSpeaksRSVP) {
		t.Fatal(err)
	}
	es := uninterrupted(t, r.grant(r.in(left, srcHost, dstHost, pathTear())))
	r.wantRole(SenderProxy, id)
	onlySend(t, es, wire.Path)
	noSend(t, es, wire.Resv)
	es = r.run(45 * time.Second)
	if s := sends(es, wire.Resv); len(s) == 0 || s[0].Dst != prevHop {
		t.Errorf("%s", dump(es))
	}
}

// A sender whose interface is not known is no loop when its PATH comes from
// where its data do not go.
func TestSenderSpeaksInterfaceUnknown(t *testing.T) {
	r := newRig(t, Config{})
	h := host
	h.In = 0
	r.add(h)
	m := pathMsg()
	m.Hop.Addr = nextHop
	if es := r.in(right, srcHost, dstHost, m); len(es) != 0 || r.n.Counters().Dropped[DropLoop] != 1 {
		t.Errorf("%s", dump(es))
	}
	r.path()
	if r.view().Role != Transit {
		t.Error(r.view().Role)
	}
}
