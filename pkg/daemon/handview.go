package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// byHand joins the reservations made by hand to the other rooms.
func (d *Daemon) byHand(c *config.Config) {
	d.signal = ofSender{table: d.flows.hand, rsvp: d.rsvp}
	d.hands = &hands{
		mayMark:   func(code uint8) error { return d.cfg.Load().CheckMark(code) },
		mayRemark: func(e config.Excess) error { return d.cfg.Load().CheckExcess(e) },
		table:     d.flows.hand, file: handFile{dir: c.StateDir}, rsvp: d.rsvp, flows: d.flows, links: d.links.Load,
		watch: func() watchlist {
			if t := d.table.Load(); t != nil {
				return t
			}
			return nil
		},
		moved: d.moved, now: time.Now,
		route: d.placer(), told: d.tellHand, log: d.log,
	}
	d.hands.load(c.Limits.Sessions)
}

// moved brings a flow's row and treatment to what its policy says now.
func (d *Daemon) moved(ctx context.Context, key packet.FlowKey) {
	switch d.flows.repolicy(key) {
	case movedNot:
	case movedInside:
		d.tc.reprogram(ctx, key)
	case movedOff:
		for _, out := range d.flows.unwanted(key) {
			d.forgetOn(ctx, key, out)
		}
		d.tc.reprogram(ctx, key) // the branches that are left
	case movedAnew:
		d.retire(ctx, key)
	}
}

// Reserve makes a reservation by hand.
func (d *Daemon) Reserve(ctx context.Context, ask console.ReservationRequest) (console.ReservationRow, error) {
	r, err := reservationOf(&ask, time.Now())
	if err != nil {
		return console.ReservationRow{}, err
	}
	// Once begun it is not given up half-way, whoever asked for it.
	if r, err = d.hands.add(context.WithoutCancel(ctx), r); err != nil {
		return console.ReservationRow{}, err
	}
	return d.handRow(&r)
}

// Release ends a reservation by hand.
func (d *Daemon) Release(ctx context.Context, id string) (console.ReservationRow, error) {
	n, err := handID(id)
	if err != nil {
		return console.ReservationRow{}, err
	}
	// What it was; an id that is not there is refused by remove.
	row, _ := d.Reservation(id)
	_, err = d.hands.remove(context.WithoutCancel(ctx), n)
	return row, err
}

// Reservations lists the reservations made by hand, the oldest first.
func (d *Daemon) Reservations() ([]console.ReservationRow, error) {
	list := d.hands.list()
	if len(list) == 0 {
		return nil, nil
	}
	v, err := d.rsvp.View()
	if err != nil {
		return nil, err
	}
	byFlow := make(map[packet.FlowKey]*softstate.SessionView, len(v.Sessions))
	for i := range v.Sessions {
		byFlow[flowKey(v.Sessions[i].Session, v.Sessions[i].Sender)] = &v.Sessions[i]
	}
	rows := make([]console.ReservationRow, 0, len(list))
	for i := range list {
		rows = append(rows, d.rowOf(&list[i], byFlow[list[i].Flow]))
	}
	return rows, nil
}

// Reservation finds one of them.
func (d *Daemon) Reservation(id string) (console.ReservationRow, error) {
	n, err := handID(id)
	if err != nil {
		return console.ReservationRow{}, err
	}
	r, err := d.hands.get(n)
	if err != nil {
		return console.ReservationRow{}, err
	}
	return d.handRow(&r)
}

func (d *Daemon) handRow(r *byhand.Reservation) (console.ReservationRow, error) {
	session, filter := sessionOf(r.Flow)
	v, known, err := d.rsvp.Session(session, filter)
	if err != nil {
		return console.ReservationRow{}, err
	}
	if !known {
		return d.rowOf(r, nil), nil
	}
	return d.rowOf(r, &v), nil
}

// rowOf is the row of a reservation whose session, if there is one, is s.
func (d *Daemon) rowOf(r *byhand.Reservation, s *softstate.SessionView) console.ReservationRow {
	row := console.ReservationRow{
		ID: handNumber(r.ID), Owner: r.Owner, Comment: r.Comment, Protocol: packet.ProtoName(r.Flow.Proto),
		Src: r.Flow.SrcAddr().String(), Sport: r.Flow.SrcPort, Dst: r.Flow.DstAddr().String(), Dport: r.Flow.DstPort,
		Side: string(r.Side), Service: r.Service.String(), Style: string(r.Style), TSpec: consoleTSpec(r.TSpec),
		DelayUS: uint64(r.Delay.Microseconds()),
		DSCP:    d.handMark(r), TCPMode: string(r.TCP), Excess: excessOf(r).String(), State: console.SessionInactive,
		Since: r.Made.UTC().Format(time.RFC3339), AgeS: seconds(time.Since(r.Made)),
	}
	row.PHB = dscp.Name(row.DSCP)
	if r.Given {
		row.Priority = &console.Priority{Setup: r.Setup, Hold: r.Hold}
	}
	if !r.Expires.IsZero() {
		row.Expires = r.Expires.UTC().Format(time.RFC3339)
	}
	f, _ := d.flows.hand.get(r.Flow)
	l := d.links.Load()
	row.Reason = handReason(r, &f, s, l)
	if s == nil {
		return row
	}
	row.Branches = d.handBranches(s, l)
	row.Role, row.State, row.Error = s.Role.String(), s.State.String(), s.Error()
	if s.FlowSpec != nil {
		row.FlowSpec = consoleFlowSpec(s.FlowSpec)
	}
	if e := s.Failure; e != nil {
		row.ErrorCode, row.ErrorValue, row.ErrorFlags = uint8(e.Code), e.Value, errorFlags(e)
		if e.Node.IsValid() {
			row.ErrorNode = e.Node.String()
		}
	}
	if held, ok := d.tc.view(s.Reservation, flowKey(s.Session, s.Sender)); ok {
		row.Class = held.class.String()
	}
	return row
}

// handBranches shows the interfaces by which a session's data leave.
func (d *Daemon) handBranches(s *softstate.SessionView, l *links) []console.Branch {
	key := flowKey(s.Session, s.Sender)
	rows := make([]console.Branch, 0, len(s.Branches))
	for _, b := range s.Branches {
		row := console.Branch{Interface: l.name(int(b.Out)), State: b.State.String()}
		if held, ok := d.tc.view(b.Reservation, key); ok {
			row.Class = held.class.String()
		}
		rows = append(rows, row)
	}
	return rows
}

func (d *Daemon) handMark(r *byhand.Reservation) uint8 {
	m := d.cfg.Load().Mapping
	switch {
	case r.Marked:
		return r.DSCP
	case r.Service == intserv.Guaranteed:
		return m.Guaranteed
	default:
		return m.ControlledLoad
	}
}

// handReason says what a reservation by hand waits for.
func handReason(r *byhand.Reservation, f *handFlow, s *softstate.SessionView, l *links) string {
	switch {
	case f.problem != "":
		return f.problem
	case s == nil && f.sender:
		return "PATH is about to be sent"
	case s == nil:
		return "waiting for PATH from the sender's side"
	case f.sender && (s.Role == softstate.Transit || s.Role == softstate.ReceiverProxy):
		return "the sender speaks RSVP itself: its own PATH is used"
	case toGroup(r.Flow):
		if why := groupReason(f, s, l); why != "" {
			return why
		}
	}
	switch s.State {
	case softstate.Inactive:
		return "there is no route to send PATH"
	case softstate.PathOnly:
		if s.Role == softstate.Transit && r.Side != byhand.Sender {
			return "the receiver speaks RSVP itself: waiting for its RESV"
		}
		return "waiting for RESV from the receiver's side"
	case softstate.Requested:
		return "waiting for traffic control"
	default:
		return ""
	}
}

// groupReason is what only a flow to a group waits for.
func groupReason(f *handFlow, s *softstate.SessionView, l *links) string {
	var open []string // interfaces without a reservation
	hosts := false
	for _, b := range s.Branches {
		if b.State != softstate.Reserved {
			open = append(open, l.name(int(b.Out)))
		}
		k := l.byIndex[int(b.Out)]
		hosts = hosts || k != nil && k.cfg.Zone == config.ZoneHosts
	}
	switch {
	case len(s.Branches) == 0:
		return "the kernel's multicast forwarding cache has no interface for the group's packets from this sender: " +
			"nobody has joined, or no multicast routing daemon runs here"
	case s.State == softstate.PathOnly && !f.sender && !hosts:
		return "nobody behind this box has joined the group: its packets leave by no interface of zone hosts"
	case s.State == softstate.Reserved && len(open) > 0:
		return "waiting for RESV on " + strings.Join(open, ", ")
	}
	return ""
}

func consoleFlowSpec(f *intserv.FlowSpec) *console.FlowSpec {
	return &console.FlowSpec{TSpec: *consoleTSpec(f.TSpec), Rate: f.RSpec.Rate, Slack: f.RSpec.Slack}
}
