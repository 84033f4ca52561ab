package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// traceWithin bounds a trace: its client gives up after half a minute. What is
// known by then is told.
const traceWithin = 25 * time.Second

// Trace asks the boxes on a session's way (RFC 2745).
func (d *Daemon) Trace(ctx context.Context, q console.TraceQuery) (console.Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, traceWithin)
	defer cancel()
	r, err := d.rsvp.Trace(ctx, rsvpproxy.TraceQuery{
		Dst: q.Dst, Src: q.Src, Protocol: q.Protocol, DstPort: q.Dport, SrcPort: q.Sport, LastHop: q.LastHop,
		MaxHops: q.MaxHops, HopByHop: q.HopByHop, Timeout: q.Timeout, Attempts: q.Attempts,
	})
	if err != nil {
		return console.Trace{}, traceError(err)
	}
	return traceRow(&r), nil
}

func traceError(err error) error {
	e := &console.Error{Message: err.Error()}
	if many, ok := errors.AsType[*rsvpproxy.AmbiguousError](err); ok {
		return ambiguous(err, len(many.Sessions), func(i int) string {
			v := &many.Sessions[i]
			return fmt.Sprintf("protocol=%s dport=%d src=%v sport=%d",
				packet.ProtoName(v.Session.Protocol), v.Session.DstPort, v.Sender.Src, v.Sender.SrcPort)
		})
	}
	switch {
	case errors.Is(err, rsvpproxy.ErrNoSession), errors.Is(err, rsvpproxy.ErrNoLastHop):
		e.Status, e.Code = http.StatusNotFound, "no_session"
	case errors.Is(err, rsvpproxy.ErrNoWay):
		e.Status, e.Code = http.StatusUnprocessableEntity, "no_route"
	case errors.Is(err, rsvpproxy.ErrUnseen):
		e.Status, e.Code = http.StatusUnprocessableEntity, "transparent"
	case errors.Is(err, rsvpproxy.ErrBusy):
		e.Status, e.Code = http.StatusTooManyRequests, "busy"
	default:
		return err
	}
	return e
}

// maxNamed bounds the sessions that an error names.
const maxNamed = 20

// ambiguous is the error of a request that fits several things, which it names.
func ambiguous(err error, n int, name func(i int) string) error {
	e := &console.Error{Message: err.Error(), Status: http.StatusConflict, Code: "ambiguous"}
	for i := range min(n, maxNamed) {
		e.Details = append(e.Details, name(i))
	}
	if n > maxNamed {
		e.Details = append(e.Details, fmt.Sprintf("and %d more", n-maxNamed))
	}
	e.Message += ": " + strings.Join(e.Details, "; ")
	return e
}

func traceRow(r *rsvpproxy.TraceResult) console.Trace {
	t := console.Trace{
		Dst: r.Session.Dst.String(), Protocol: packet.ProtoName(r.Session.Protocol), Dport: r.Session.DstPort,
		Src: r.Sender.Src.String(), Sport: r.Sender.SrcPort, LastHop: r.LastHop.String(), Requester: r.Requester.String(),
		Outcome: r.Outcome.String(), Complete: r.Outcome == diag.ReachedEnd || r.Outcome == diag.ReachedLimit,
		Message: traceMessage(r), Attempts: r.Attempts, TookUS: uint64(r.Took.Microseconds()),
	}
	switch {
	case r.Outcome == diag.NoAnswer:
	case r.HopByHop:
		t.Reply = "hop-by-hop"
	default:
		t.Reply = "direct"
	}
	for i := range r.Hops {
		t.Hops = append(t.Hops, hopRow(i+1, &r.Hops[i], r.At, r.Took))
	}
	return t
}

// traceMessage says why a trace is not complete.
func traceMessage(r *rsvpproxy.TraceResult) string {
	next, last := "", ""
	if n := len(r.Hops); n > 0 {
		h := &r.Hops[n-1]
		next, last = address(h.Previous), address(h.Out)
	}
	switch r.Outcome {
	case diag.NoAnswer:
		return "nobody answered: the last hop may not be reachable, not speak RSVP, or not know diagnostic messages"
	case diag.NoPath:
		return fmt.Sprintf("the box at %s has no path state for this sender", last)
	case diag.Looped:
		return fmt.Sprintf("path state points in a circle: the request came to the box at %s twice", last)
	case diag.Silent:
		return fmt.Sprintf("the next hop, %s, does not answer: it may be down, or not know diagnostic messages", next)
	case diag.Partial:
		return "parts of the reply were lost"
	default:
		return ""
	}
}

// address is "" for the zero address, which means that it is not known.
func address(a netip.Addr) string {
	if !a.IsValid() || a.IsUnspecified() {
		return ""
	}
	return a.String()
}

func hopRow(n int, h *wire.DiagResponse, began time.Time, took time.Duration) console.TraceHop {
	// The stamp says which of many times is meant by what it is near to.
	at := wire.NTP32Time(h.Arrival, began.Add(took/2))
	row := console.TraceHop{
		Hop: n, In: address(h.In), Out: address(h.Out), PrevHop: address(h.Previous), DTTL: h.TTL,
		Arrival: at.UTC().Format("2006-01-02T15:04:05.0000Z07:00"), OffsetUS: at.Sub(began).Microseconds(),
		Merged: h.Merged, K: h.K, RefreshS: h.Timer,
	}
	for _, e := range []struct {
		bit  uint8
		name string
	}{{wire.DiagNoPath, "no-path"}, {wire.DiagTooBig, "packet-too-big"}, {wire.DiagRouteTooLong, "route-too-big"}} {
		if h.Error&e.bit != 0 {
			row.Errors = append(row.Errors, e.name)
		}
	}
	s := h.Report()
	if s.Style != 0 {
		row.Style = strings.ToLower(s.Style.String())
	}
	if s.SenderTSpec != nil {
		row.TSpec = consoleTSpec(*s.SenderTSpec)
	}
	if f := s.FlowSpec; f != nil {
		row.Service = f.Service.String()
		row.FlowSpec = &console.FlowSpec{TSpec: *consoleTSpec(f.TSpec), Rate: f.RSpec.Rate, Slack: f.RSpec.Slack}
	}
	for _, f := range s.Filters {
		row.Filters = append(row.Filters, console.TraceHost{Src: f.Src.String(), Sport: f.SrcPort})
	}
	return row
}
