package table

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// RSVPCounters prints the messages of each type and what was not taken.
func RSVPCounters(w io.Writer, s console.RSVPStats) error {
	t := newTable(w, "RSVP", "PATH", "RESV", "PATHERR", "RESVERR", "PATHTEAR", "RESVTEAR", "RESVCONF", "OTHER")
	for _, r := range []struct {
		name string
		m    console.RSVPMessages
	}{{"received", s.Received}, {"sent", s.Sent}} {
		m := r.m
		t.row(r.name, count(m.Path), count(m.Resv), count(m.PathErr), count(m.ResvErr), count(m.PathTear), count(m.ResvTear), count(m.ResvConf), count(m.Other))
	}
	if err := t.end(); err != nil {
		return err
	}
	e := s.Errors
	_, err := fmt.Fprintf(w, "\nRSVP errors  %d malformed, %d checksum, %d unknown, %d unexpected, %d over the rate, %d full, %d not sent, %d unreachable, %d timeouts\n",
		e.Malformed, e.Checksum, e.Unknown, e.Unexpected, e.Limited, e.Full, e.SendFailed, e.Unreachable, s.Timeouts)
	if err != nil {
		return err
	}
	if d := s.Diagnostics; d != (console.DiagnosticStats{}) {
		if _, err := fmt.Fprintf(w, "RSVP traces  %d requests, %d forwarded, %d passed on, %d replies sent (%d in parts), %d relayed, %d without path, %d loops, %d routes cut\n",
			d.Requests, d.Forwarded, d.Passed, d.Answered, d.Fragments, d.Replies, d.NoPath, d.Loops, d.RoutesCut); err != nil {
			return err
		}
	}
	if m := s.Multicast; m != (console.MulticastStats{}) {
		if _, err := fmt.Fprintf(w, "RSVP groups  %d messages not sent for the scope of their data, %d forwarding entries without room\n", m.Scoped, m.RoutesFull); err != nil {
			return err
		}
	}
	if v := s.Transparent; v != nil {
		if _, err := fmt.Fprintf(w, "RSVP unseen  %d names (%d without room); went by: %d not understood, %d signed, %d fragments; %d put together; %d tears repeated (%d without room)\n",
			v.Names, v.NamesFull, v.Foreign, v.Signed, v.Fragments, v.Gathered, v.TearsRepeated, v.TearsUnrepeated); err != nil {
			return err
		}
	}
	if u := s.Tunnels; u != nil {
		if _, err := fmt.Fprintf(w, "RSVP tunnels %d, %d reservations over them, %d waited: %d granted, %d refused (%d unanswered), %d errors told, %d over the limit, %d unbound\n",
			u.Tunnels, u.Carried, u.Held, u.Granted, u.Refused, u.TimedOut, u.Failed, u.Full, u.Unbound); err != nil {
			return err
		}
	}
	if a := s.Aggregation; a != nil {
		if _, err := fmt.Fprintf(w, "RSVP aggregates %d begin here with %d reservations, %d end here with %d, %d changes; %d waited: %d granted, %d refused (%d unanswered); %d lost theirs, %d over the limit\n",
			a.Begin, a.Carried, a.End, a.Riding, a.Changes, a.Held, a.Granted, a.Refused, a.TimedOut, a.Withdrawn+a.Failed, a.Full); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "  new aggregate needed: %d sent, %d received, %d of no use; %d PATH without the region's ADSPEC\n", a.Needed, a.Asked, a.Strange, a.Unknown); err != nil {
			return err
		}
	}
	if err := refusedKinds(w, e.Refused); err != nil {
		return err
	}
	return integrity(w, s.Integrity)
}

func refusedKinds(w io.Writer, refused map[string]uint64) error {
	if len(refused) == 0 {
		return nil
	}
	kinds := make([]string, 0, len(refused))
	for kind, n := range refused {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	_, err := fmt.Fprintf(w, "RSVP refused %s\n", strings.Join(kinds, ", "))
	return err
}

func integrity(w io.Writer, i *console.IntegrityStats) error {
	if i == nil {
		return nil
	}
	var kinds []string
	for _, reason := range slices.SortedFunc(maps.Keys(i.Refused), func(a, b string) int {
		return cmp.Or(cmp.Compare(i.Refused[b], i.Refused[a]), cmp.Compare(a, b))
	}) {
		if n := i.Refused[reason]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", reason, n))
		}
	}
	refused := "none"
	if len(kinds) > 0 {
		refused = strings.Join(kinds, ", ")
	}
	_, err := fmt.Fprintf(w, "INTEGRITY    %d signed, %d accepted, %d handshakes (%d challenges, %d given up), %d under an ended key, refused: %s\n",
		i.Signed, i.Accepted, i.Handshakes, i.Challenges, i.GivenUp, i.StaleSigned+i.StaleAccepted, refused)
	return err
}

// RSVPNeighbors prints one line per neighbour.
func RSVPNeighbors(w io.Writer, rows []console.RSVPNeighborRow) error {
	if len(rows) == 0 {
		return empty(w, "neighbours")
	}
	t := newTable(w, "NEIGHBOUR", "INTERFACE", "HEARD", "REDUCTION", "RTT", "UNACKED", "SUMMARY", "SECURED", "SENDERS", "REQUESTS", "RECEIVED", "SENT")
	for _, r := range rows {
		t.row(r.Address, r.Interface, ago(r.HeardS), r.Reduction, micros(r.RTTUS), count(r.Unacked), count(r.Summary), yes(r.Secured),
			count(r.Senders), count(r.Requests), count(all(r.Received)), count(all(r.Sent)))
	}
	return t.end()
}

// RSVPSenders prints one line per path state.
func RSVPSenders(w io.Writer, rows []console.RSVPSenderRow) error {
	if len(rows) == 0 {
		return empty(w, "senders")
	}
	t := newTable(w, "PROTO", "SENDER", "SESSION", "ROLE", "STATE", "PREVIOUS", "IN", "OUT", "R", "B", "HOPS", "MTU", "BREAK", "REFRESH", "EXPIRES", "AGE", "ERROR")
	for _, r := range rows {
		tr, tb := "-", "-"
		if r.TSpec != nil {
			tr, tb = scaled(r.TSpec.R*8, "bit/s"), scaled(r.TSpec.B, "B")
		}
		t.row(r.Protocol, endpoint(r.Src, r.Sport), endpoint(r.Dst, r.Dport), r.Role, r.State, text(r.PrevHop), text(r.InterfaceIn),
			text(strings.Join(r.Interfaces, ",")), tr, tb, count(uint64(r.Hops)), count(uint64(r.MTU)), yes(r.Break), within(r.RefreshS), within(r.ExpiresS), age(r.AgeS), r.Error)
	}
	return t.end()
}

// RSVPReservations prints one line per request of a next hop.
func RSVPReservations(w io.Writer, rows []console.RSVPReservationRow) error {
	if len(rows) == 0 {
		return empty(w, "reservations")
	}
	t := newTable(w, "PROTO", "SESSION", "STYLE", "SENDERS", "NEXT", "INTERFACE", "SERVICE", "R", "B", "STATE", "CLASS", "EXPIRES")
	for _, r := range rows {
		var senders []string
		for _, f := range r.Filters {
			senders = append(senders, endpoint(f.Src, f.Sport))
		}
		tr, tb := "-", "-"
		if r.FlowSpec != nil {
			tr, tb = scaled(max(r.FlowSpec.R, r.FlowSpec.Rate)*8, "bit/s"), scaled(r.FlowSpec.B, "B")
		}
		state := "installed"
		switch {
		case r.Installed && r.Pending:
			state = "changing"
		case r.Pending, !r.Installed:
			state = "pending"
		}
		t.row(r.Protocol, endpoint(r.Dst, r.Dport), r.Style, text(strings.Join(senders, ",")), text(r.NextHop), r.Interface, r.Service, tr, tb,
			state, text(r.Class), within(r.ExpiresS))
	}
	return t.end()
}

// RSVPInterfaces prints one line per interface.
func RSVPInterfaces(w io.Writer, rows []console.RSVPInterfaceRow) error {
	if len(rows) == 0 {
		return empty(w, "interfaces")
	}
	t := newTable(w, "INTERFACE", "ZONE", "ADDRESS", "MTU", "RESERVABLE", "RESERVED", "RESERVATIONS", "REQUESTS", "SENDERS IN", "OUT", "NEIGHBOURS", "REFRESH", "REDUCTION", "SECURED", "HEARD", "RECEIVED", "SENT")
	for _, r := range rows {
		t.row(r.Name, r.Zone, text(strings.TrimSpace(r.Address+" "+r.Address6)), count(r.MTU), rate(r.ReservableBPS), rate(r.ReservedBPS), count(r.Reservations),
			count(r.Requests), count(r.SendersIn), count(r.SendersOut), count(r.Neighbors), within(r.RefreshS), yes(r.Reduction), yes(r.Secured),
			ago(r.HeardS), count(all(r.Received)), count(all(r.Sent)))
	}
	return t.end()
}

func all(m console.RSVPMessages) uint64 {
	return m.Path + m.Resv + m.PathErr + m.ResvErr + m.PathTear + m.ResvTear + m.ResvConf + m.Other
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

// ago writes seconds since something; never if there was nothing.
func ago(s *uint64) string {
	if s == nil {
		return "never"
	}
	return age(*s)
}

// within writes seconds until something.
func within(s float64) string {
	if s == 0 {
		return "-"
	}
	return digits(s) + "s"
}
