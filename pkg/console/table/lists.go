package table

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Flows prints one line per direction of a flow.
func Flows(w io.Writer, rows []console.FlowRow) error {
	if len(rows) == 0 {
		return empty(w, "flows")
	}
	t := newTable(w, "PROTO", "SOURCE", "DESTINATION", "POLICY", "STATE", "TCP", "PHB", "OUT", "CLASS", "RATE", "BYTES", "RESERVED", "ACKS", "RESENT", "HELD", "AGE", "REASON")
	for _, r := range rows {
		t.row(r.Protocol, source(r.Src, r.Sport, r.SPI, r.FlowLabel), endpoint(r.Dst, r.Dport), text(r.Policy), r.State, r.TCPMode, r.PHB, text(r.Interface), text(r.Class),
			rate(r.RateBPS), size(r.Bytes), rate(r.ReservedBPS), count(r.FakeAcks), count(r.Retransmits), size(r.BufferedBytes), age(r.AgeS), r.Reason)
	}
	return t.end()
}

// Sessions prints one line per RSVP session and sender.
func Sessions(w io.Writer, rows []console.SessionRow) error {
	if len(rows) == 0 {
		return empty(w, "sessions")
	}
	t := newTable(w, "PROTO", "SENDER", "SESSION", "ROLE", "STATE", "STYLE", "SERVICE", "R", "B", "RSPEC", "PHB", "CLASS", "PREVIOUS", "NEXT", "PRIORITY", "WHO", "USER", "AGGREGATE", "AGE", "ERROR")
	for _, r := range rows {
		tr, tb := "-", "-"
		if r.TSpec != nil {
			tr, tb = scaled(r.TSpec.R*8, "bit/s"), scaled(r.TSpec.B, "B")
		}
		rspec := "-"
		if r.FlowSpec != nil && r.FlowSpec.Rate > 0 { // R and S of guaranteed service
			rspec = scaled(r.FlowSpec.Rate*8, "bit/s") + " " + (time.Duration(r.FlowSpec.Slack) * time.Microsecond).String()
		}
		protocol, sender := r.Protocol, source(r.Src, r.Sport, r.SPI, r.FlowLabel)
		if r.Format != "" {
			protocol = r.Format
		}
		t.row(protocol, sender, endpoint(r.Dst, r.Dport), r.Role, r.State, text(r.Style), text(r.Service), tr, tb, rspec,
			r.PHB, text(r.Class), text(r.PrevHop), text(r.NextHop), priority(r.Priority),
			text(strings.Join(r.Identities, ", ")), text(r.User), aggregate(&r), age(r.AgeS), r.Error)
	}
	return t.end()
}

// aggregate is what a session rides in, or what rides in it.
func aggregate(r *console.SessionRow) string {
	switch a, c := r.Aggregate, r.Carries; {
	case a != nil:
		return fmt.Sprintf("in %s > %s %s", a.Src, a.Dst, a.PHB)
	case c != nil:
		out := fmt.Sprintf("%d, %s of %s", c.Reservations, scaled(float64(c.UsedBPS), "bit/s"), scaled(float64(c.ReservedBPS), "bit/s"))
		if c.Waiting > 0 {
			out += fmt.Sprintf(", %d waiting", c.Waiting)
		}
		return out
	default:
		return "-"
	}
}

// source is where a flow comes from. Of IPsec the SPI tells which; an IPv6 flow
// label may stand for the port.
func source(addr string, port uint16, spi, label uint32) string {
	switch {
	case spi != 0:
		return fmt.Sprintf("%s spi %#x", addr, spi)
	case label != 0:
		return fmt.Sprintf("%s label %#x", addr, label)
	default:
		return endpoint(addr, port)
	}
}

func priority(p *console.Priority) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d", p.Setup, p.Hold)
}

// Links prints one line per interface and, below it, one per service, per service
// level and per class.
func Links(w io.Writer, rows []console.LinkRow) error {
	if len(rows) == 0 {
		return empty(w, "links")
	}
	t := newTable(w, "LINK", "ZONE", "TRUST", "STATE", "MTU", "CAPACITY", "RESERVABLE", "RESERVED", "FREE", "RESERVATIONS")
	for _, r := range rows {
		state := "down"
		if r.Up {
			state = "up"
		}
		t.row(r.Name, r.Zone, r.Trust, state, count(r.MTU), rate(r.CapacityBPS), rate(r.ReservableBPS), rate(r.ReservedBPS), rate(r.FreeBPS), count(r.Reservations))
	}
	if err := t.end(); err != nil {
		return err
	}
	for _, part := range []func(io.Writer, console.LinkRow) error{linkServices, linkLevels, linkShared, linkDSCPs, linkClasses} {
		for _, r := range rows {
			if err := part(w, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// below begins a table below another one.
func below(w io.Writer, columns ...string) (*table, error) {
	_, err := fmt.Fprintln(w)
	return newTable(w, columns...), err
}

// linkServices prints what the services of a link have, where it limits them.
func linkServices(w io.Writer, r console.LinkRow) error {
	if len(r.Services) == 0 || r.CapacityBPS == 0 {
		return nil
	}
	t, err := below(w, "LINK", "SERVICE", "GRANTED", "LIMIT", "FREE", "OVERBOOKING")
	if err != nil {
		return err
	}
	for _, s := range r.Services {
		over := "-"
		if s.Overbooking > 1 {
			over = fmt.Sprintf("%.0f%%", s.Overbooking*100)
		}
		t.row(r.Name, s.Service, rate(s.GrantedBPS), rate(s.LimitBPS), rate(s.FreeBPS), over)
	}
	return t.end()
}

func linkLevels(w io.Writer, r console.LinkRow) error {
	if len(r.Levels) == 0 {
		return nil
	}
	t, err := below(w, "LINK", "LEVEL", "STATE", "TIMES", "GRANTED", "LIMIT", "FREE", "BURST", "BURST-LIMIT", "BURST-FREE")
	if err != nil {
		return err
	}
	for _, l := range r.Levels {
		t.row(r.Name, l.PHB, l.State, text(strings.Join(l.Times, " ")), rate(l.GrantedBPS), rate(l.LimitBPS), rate(l.FreeBPS),
			size(l.GrantedBurst), size(l.LimitBurst), size(l.FreeBurst))
	}
	return t.end()
}

// linkShared prints what all boxes hold of what they share, and who holds it.
func linkShared(w io.Writer, r console.LinkRow) error {
	if len(r.Shared) == 0 {
		return nil
	}
	t, err := below(w, "LINK", "SHARED", "OF", "HELD", "LIMIT", "HERE", "BURST", "BURST-LIMIT", "BURST-HERE", "BOXES")
	if err != nil {
		return err
	}
	for _, s := range r.Shared {
		of := "link"
		if s.Level != "" {
			of = s.Level
		}
		boxes := make([]string, 0, len(s.Boxes))
		for _, b := range s.Boxes {
			boxes = append(boxes, b.Box+" "+rate(b.HeldBPS))
		}
		t.row(r.Name, s.Name, of, rate(s.HeldBPS), rate(s.LimitBPS), rate(s.OwnBPS), size(s.HeldBurst), size(s.LimitBurst), size(s.OwnBurst), text(strings.Join(boxes, ", ")))
	}
	return t.end()
}

func linkDSCPs(w io.Writer, r console.LinkRow) error {
	if len(r.DSCPs) == 0 {
		return nil
	}
	t, err := below(w, "LINK", "DSCP", "DIRECTION", "CLASS", "RATE", "BURST", "EXCESS", "CONFORM", "BYTES", "EXCEED", "BYTES", "DROPPED")
	if err != nil {
		return err
	}
	for _, d := range r.DSCPs {
		bits, burst, excess := "any", "-", "-"
		if d.Policed {
			bits, burst, excess = rate(d.RateBPS), size(d.Burst), d.Excess
		}
		t.row(r.Name, d.PHB, d.Direction, text(d.Class), bits, burst, excess,
			count(d.ConformPackets), size(d.ConformBytes), count(d.ExceedPackets), size(d.ExceedBytes), count(d.DroppedPackets))
	}
	return t.end()
}

func linkClasses(w io.Writer, r console.LinkRow) error {
	if len(r.Classes) == 0 {
		return nil
	}
	c, err := below(w, "LINK", "CLASS", "KIND", "RATE", "CEIL", "BYTES", "PACKETS", "DROPS", "OVERLIMITS", "BACKLOG")
	if err != nil {
		return err
	}
	for _, k := range r.Classes {
		c.row(r.Name, k.Class, k.Kind, rate(k.RateBPS), rate(k.CeilBPS), size(k.Bytes), count(k.Packets), count(k.Drops), count(k.Overlimits), size(k.Backlog))
	}
	return c.end()
}

// Policies prints one line per policy, in the order in which they are tried.
func Policies(w io.Writer, rows []console.PolicyRow) error {
	if len(rows) == 0 {
		return empty(w, "policies")
	}
	t := newTable(w, "LINE", "POLICY", "PROTO", "FROM", "TO", "ROLE", "RATE", "BURST", "DELAY", "MARK", "TCP", "EXCESS", "FLOWS", "RESERVED", "MATCHED")
	for _, r := range rows {
		tr, tb := "-", "-"
		if r.TSpec != nil {
			tr, tb = scaled(r.TSpec.R*8, "bit/s"), scaled(r.TSpec.B, "B")
		}
		delay := "-"
		if r.DelayUS > 0 {
			delay = (time.Duration(r.DelayUS) * time.Microsecond).String()
		}
		t.row(strconv.Itoa(r.Line), r.Name, text(r.Protocol), side(r.From, r.FromPort), side(r.To, r.ToPort), text(r.Role), tr, tb, delay,
			text(r.PHB), r.TCPMode, r.Excess, count(r.Flows), count(r.Reservations), count(r.Matched))
	}
	return t.end()
}

// Users prints one line per user whose reservations are counted together.
func Users(w io.Writer, rows []console.UserRow) error {
	if len(rows) == 0 {
		return empty(w, "users")
	}
	t := newTable(w, "LINE", "USER", "IDENTITIES", "FROM", "RESERVED", "LIMIT", "RESERVATIONS")
	for _, r := range rows {
		limit := "-"
		if r.LimitBPS > 0 {
			limit = rate(r.LimitBPS)
		}
		t.row(strconv.Itoa(r.Line), r.Name, text(strings.Join(r.Identities, "; ")), text(strings.Join(r.From, ",")), rate(r.ReservedBPS), limit, count(r.Reservations))
	}
	return t.end()
}

func side(addrs, ports []string) string {
	s := "any"
	if len(addrs) > 0 {
		s = strings.Join(addrs, ",")
	}
	if len(ports) > 0 {
		s += " port " + strings.Join(ports, ",")
	}
	return s
}
