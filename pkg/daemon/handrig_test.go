package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// fakeRSVP notes what is asked of it.
type fakeRSVP struct {
	senders  map[packet.FlowKey]softstate.Sender
	answered []packet.FlowKey
	refuse   error
}

func (f *fakeRSVP) AddSender(s softstate.Sender, refused func(error)) error {
	if f.refuse != nil {
		refused(f.refuse)
		return nil
	}
	f.senders[flowKey(s.Session, s.Filter)] = s
	return nil
}

func (f *fakeRSVP) RemoveSender(s wire.Session, w wire.Filter) error {
	delete(f.senders, flowKey(s, w))
	return nil
}

func (f *fakeRSVP) ReceiverChanged(s wire.Session, w wire.Filter) error {
	f.answered = append(f.answered, flowKey(s, w))
	return nil
}

// third is an interface of zone network beside wan.
const third = 3

type fakeWatch map[packet.FlowKey]bool

func (w fakeWatch) Watch(keys ...packet.FlowKey) error {
	for _, k := range keys {
		if w == nil {
			return errors.New("no room in the set")
		}
		w[k] = true
	}
	return nil
}

func (w fakeWatch) Unwatch(keys ...packet.FlowKey) error {
	for _, k := range keys {
		delete(w, k)
	}
	return nil
}

// handRig is a box without a kernel: hosts of 10.1.0.0/16 are behind lan0, the
// rest of the world behind wan0.
type handRig struct {
	rig
	*hands
	rsvp    *fakeRSVP
	watched fakeWatch
	clock   time.Time
	events  []string
	// prepared is how often what cheating needs was wanted.
	prepared int
}

func testHands(t *testing.T, dir string) *handRig {
	t.Helper()
	r := &handRig{
		rig: testControl(t), rsvp: &fakeRSVP{senders: map[packet.FlowKey]softstate.Sender{}}, watched: fakeWatch{},
		clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	r.hands = &hands{
		mayMark:   func(code uint8) error { return r.config().CheckMark(code) },
		mayRemark: func(e config.Excess) error { return r.config().CheckExcess(e) },
		table:     r.trafficControl.flows.hand, file: handFile{dir: dir}, rsvp: r.rsvp, flows: r.trafficControl.flows, links: r.trafficControl.links,
		watch: func() watchlist { return r.watched }, now: func() time.Time { return r.clock }, log: zap.NewNop(),
		cheats: func() { r.prepared++ },
		moved: func(ctx context.Context, key packet.FlowKey) {
			switch r.trafficControl.flows.repolicy(key) {
			case movedInside:
				r.reprogram(ctx, key)
			case movedOff:
				for _, out := range r.trafficControl.flows.unwanted(key) {
					r.trafficControl.flows.removeOn(key, out)
				}
				r.reprogram(ctx, key)
			case movedNot, movedAnew:
			}
		},
		route: func(a, _ netip.Addr) (route.Hop, error) {
			switch {
			case a == netip.MustParseAddr("10.1.0.1"):
				return route.Hop{Index: lan, Local: true}, nil
			case netip.MustParsePrefix("10.1.0.0/16").Contains(a), netip.MustParsePrefix("fd00:1::/32").Contains(a):
				return route.Hop{Index: lan}, nil
			case netip.MustParsePrefix("10.9.0.0/16").Contains(a):
				return route.Hop{}, errors.New("route to " + a.String() + ": network is unreachable")
			}
			return route.Hop{Index: wan}, nil
		},
		told: func(change string, e byhand.Reservation) {
			r.events = append(r.events, fmt.Sprintf("%s %d", change, e.ID))
		},
	}
	// A second interface of zone network, for flows that leave by several.
	l := r.trafficControl.links()
	l.list = append(l.list, link{Link: route.Link{Index: third, Name: "third0", MTU: 1500}, cfg: l.list[1].cfg})
	l.list[2].cfg.Name = "third0"
	*l = *newLinks(l.list)
	r.admit = admission.New(admission.NewMemory(), 100, l.admission(time.Now())...)
	r.trafficControl.flows.zones = l.zones()
	r.load(3)
	t.Cleanup(func() {
		if err := r.file.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ask is a request that nothing is wrong with, for a flow from A.
func ask(sport uint16) console.ReservationRequest {
	return console.ReservationRequest{
		Protocol: console.Text("udp"), Src: "10.1.0.2", Sport: sport, Dst: "10.2.0.2", Dport: 5500,
		Rate: console.Text("1mbit"), Burst: console.Text("8kB"),
	}
}

func handKey(sport uint16) packet.FlowKey {
	return packet.MakeKey(packet.ProtoUDP, netip.MustParseAddrPort(fmt.Sprintf("10.1.0.2:%d", sport)), netip.MustParseAddrPort("10.2.0.2:5500"))
}

func (r *handRig) reserve(a console.ReservationRequest) (byhand.Reservation, error) {
	e, err := reservationOf(&a, r.clock)
	if err != nil {
		return e, err
	}
	return r.add(context.Background(), e)
}

func (r *handRig) must(t *testing.T, a console.ReservationRequest) byhand.Reservation {
	t.Helper()
	e, err := r.reserve(a)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
