package daemon

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Events is where changes of sessions and reservations are told.
func (d *Daemon) Events() *console.Hub { return d.events }

// tellSession tells the clients of the events of a session, and of the
// reservation by hand that it is for, if there is one.
func (d *Daemon) tellSession(e *softstate.Event) {
	at := time.Now().UTC().Format(time.RFC3339Nano)
	s := console.SessionEvent{
		At: at, Dst: e.Session.Dst.String(), Protocol: packet.ProtoName(e.Session.Protocol), Dport: e.Session.DstPort,
		Src: e.Sender.Src.String(), Sport: e.Sender.SrcPort, Role: e.Role.String(), State: e.State.String(), Previous: e.Previous.String(),
		Gone: e.Gone, Interface: d.links.Load().name(int(e.Out)), Error: e.Failure.String(),
	}
	if f := e.Failure; f != nil {
		s.ErrorCode, s.ErrorValue, s.ErrorNode = uint8(f.Code), f.Value, hostText(f.Node)
		s.ErrorFlags = errorFlags(f)
	}
	d.events.Publish(console.EventSession, s)
	h, ok := d.flows.hand.get(flowKey(e.Session, e.Sender))
	if !ok {
		return
	}
	r := handEvent(at, "state", &h.Reservation)
	r.State, r.Error, r.ErrorCode, r.ErrorValue, r.ErrorNode, r.ErrorFlags = s.State, s.Error, s.ErrorCode, s.ErrorValue, s.ErrorNode, s.ErrorFlags
	d.events.Publish(console.EventReservation, r)
}

// errorFlags are those of RFC 2205 section 3.11.1.
func errorFlags(f *softstate.Failure) console.ErrorFlags {
	if f == nil {
		return console.ErrorFlags{}
	}
	return console.ErrorFlags{InPlace: f.Flags&wire.InPlace != 0, NotGuilty: f.Flags&wire.NotGuilty != 0}
}

// tellHand tells them of the beginning and the end of a reservation by hand.
func (d *Daemon) tellHand(change string, r byhand.Reservation) {
	d.events.Publish(console.EventReservation, handEvent(time.Now().UTC().Format(time.RFC3339Nano), change, &r))
}

func handEvent(at, change string, r *byhand.Reservation) console.ReservationEvent {
	return console.ReservationEvent{
		At: at, Change: change, ID: handNumber(r.ID), Owner: r.Owner, Protocol: packet.ProtoName(r.Flow.Proto),
		Src: r.Flow.SrcAddr().String(), Sport: r.Flow.SrcPort, Dst: r.Flow.DstAddr().String(), Dport: r.Flow.DstPort,
		State: console.SessionInactive,
	}
}
