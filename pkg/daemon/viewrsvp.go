package daemon

import (
	"net/netip"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RSVPNeighbors lists the neighbours that state depends on.
func (d *Daemon) RSVPNeighbors() ([]console.RSVPNeighborRow, error) {
	list, err := d.rsvp.Neighbors()
	if err != nil {
		return nil, err
	}
	l, now := d.links.Load(), time.Now()
	rows := make([]console.RSVPNeighborRow, 0, len(list))
	for i := range list {
		n := &list[i]
		row := console.RSVPNeighborRow{
			Address: n.Addr.String(), Interface: l.name(int(n.Iface)), Senders: n.Senders, Requests: n.Requests,
			HeardS: heard(now, n.Heard), Reduction: console.ReductionOff, Secured: l.secured(int(n.Iface)),
			Received: onWire(&n.In), Sent: onWire(&n.Out),
		}
		if r := n.Reduction; r != nil {
			row.RTTUS, row.Unacked, row.Summary = uint64(r.RTT.Microseconds()), r.Flying, r.Kept
			switch {
			case r.Capable:
				row.Reduction = console.ReductionYes
			case r.Heard || r.Refused:
				row.Reduction = console.ReductionNo
			default:
				row.Reduction = console.ReductionUnknown
			}
		} else if d.cfg.Load().RSVP.Reliable {
			row.Reduction = console.ReductionUnknown
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func heard(now, at time.Time) *uint64 {
	if at.IsZero() {
		return nil
	}
	s := seconds(now.Sub(at))
	return &s
}

// secured says whether messages on an interface must be signed.
func (l *links) secured(index int) bool {
	k := l.byIndex[index]
	return k != nil && len(k.cfg.Integrity) > 0
}

func onWire(m *rsvpproxy.Messages) console.RSVPMessages {
	out := console.RSVPMessages{
		Path: m.Of(wire.Path), Resv: m.Of(wire.Resv), PathErr: m.Of(wire.PathErr), ResvErr: m.Of(wire.ResvErr),
		PathTear: m.Of(wire.PathTear), ResvTear: m.Of(wire.ResvTear), ResvConf: m.Of(wire.ResvConf),
	}
	out.Other = m.Total() - out.Path - out.Resv - out.PathErr - out.ResvErr - out.PathTear - out.ResvTear - out.ResvConf
	return out
}

// RSVPSenders lists the path state.
func (d *Daemon) RSVPSenders() ([]console.RSVPSenderRow, error) {
	list, err := d.rsvp.Paths()
	if err != nil {
		return nil, err
	}
	l := d.links.Load()
	rows := make([]console.RSVPSenderRow, 0, len(list))
	for i := range list {
		rows = append(rows, senderRow(l, &list[i]))
	}
	return rows, nil
}

func senderRow(l *links, p *softstate.PathView) console.RSVPSenderRow {
	row := console.RSVPSenderRow{
		Dst: p.Session.Dst.String(), Protocol: packet.ProtoName(p.Session.Protocol), Dport: p.Session.DstPort,
		Src: p.Sender.Src.String(), Sport: p.Sender.SrcPort, Role: p.Role.String(), State: p.State.String(),
		PrevHop: hostText(p.PrevHop.Addr), InterfaceIn: l.name(int(p.In)), TSpec: consoleTSpec(p.TSpec), Break: p.Break,
		RefreshS: p.Refresh.Seconds(), ExpiresS: p.Expires.Seconds(), AgeS: seconds(p.Age), Error: p.Failure.String(),
	}
	for _, o := range p.Outs {
		row.Interfaces = append(row.Interfaces, l.name(int(o)))
	}
	if a := p.AdSpec; a != nil {
		row.Hops, row.BandwidthBPS, row.MTU = a.General.Hops, uint64(a.General.Bandwidth*8), a.General.MTU
		if v := uint64(a.General.Latency); v != intserv.IndeterminateLatency {
			row.LatencyUS = &v
		}
	}
	return row
}

// hostText is empty where there is no address.
func hostText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// RSVPReservations lists the reservation state.
func (d *Daemon) RSVPReservations() ([]console.RSVPReservationRow, error) {
	list, err := d.rsvp.Requests()
	if err != nil {
		return nil, err
	}
	l := d.links.Load()
	rows := make([]console.RSVPReservationRow, 0, len(list))
	for i := range list {
		row := requestRow(l, &list[i])
		row.Class = d.tc.classOf(list[i].Reservation).String()
		rows = append(rows, row)
	}
	return rows, nil
}

func requestRow(l *links, r *softstate.RequestView) console.RSVPReservationRow {
	row := console.RSVPReservationRow{
		Dst: r.Session.Dst.String(), Protocol: packet.ProtoName(r.Session.Protocol), Dport: r.Session.DstPort,
		Style: strings.ToLower(r.Style.String()), NextHop: hostText(r.NextHop), Interface: l.name(int(r.Out)),
		Service: r.FlowSpec.Service.String(), FlowSpec: consoleFlowSpec(&r.FlowSpec),
		Installed: r.Installed, Pending: r.Pending, Confirm: r.Confirm, ExpiresS: r.Expires.Seconds(),
	}
	for _, f := range r.Filters {
		row.Filters = append(row.Filters, console.RSVPFilter{Src: f.Src.String(), Sport: f.SrcPort})
	}
	return row
}

// RSVPInterfaces lists what RSVP does on each interface, in the configuration's
// order.
func (d *Daemon) RSVPInterfaces() ([]console.RSVPInterfaceRow, error) {
	views, err := d.rsvp.Interfaces()
	if err != nil {
		return nil, err
	}
	l, c, now := d.links.Load(), d.cfg.Load(), time.Now()
	rows := make([]console.RSVPInterfaceRow, 0, len(l.list))
	for i := range l.list {
		k := &l.list[i]
		v := views[k.Index]
		row := console.RSVPInterfaceRow{
			Name: k.Name, Zone: k.cfg.Zone.String(), Address: hostText(k.Addr4), Address6: hostText(k.Addr6), MTU: k.MTU,
			ReservableBPS: k.cfg.Reservable * 8, Requests: v.Requests, SendersIn: v.PathsIn, SendersOut: v.PathsOut, Neighbors: v.Neighbors,
			RefreshS: c.RSVP.Refresh.Seconds(), Reduction: c.RSVP.Reliable, Secured: l.secured(k.Index), HeardS: heard(now, v.Heard),
			Received: onWire(&v.In), Sent: onWire(&v.Out),
		}
		if u, ok, err := d.admit.Usage(k.Name); err == nil && ok {
			row.ReservedBPS, row.Reservations = uint64(u.Bandwidth)*8, u.Reservations
		}
		rows = append(rows, row)
	}
	return rows, nil
}
