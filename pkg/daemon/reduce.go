package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Reduce takes bandwidth away from a reservation in place (RFC 4495).
func (d *Daemon) Reduce(_ context.Context, ask console.ReductionRequest) (console.Reduction, error) {
	l := d.links.Load()
	q, err := reductionOf(&ask, l)
	if err != nil {
		return console.Reduction{}, err
	}
	r, err := d.rsvp.Reduce(q)
	if err != nil {
		return console.Reduction{}, reduceError(err, l)
	}
	d.log.Info("reservation reduced in place", zap.Stringer("session", r.Session), zap.String("interface", l.name(int(r.Out))),
		zap.Stringer("was", r.Was), zap.Stringer("left", r.Left))
	out := console.Reduction{
		Dst: r.Session.Dst.String(), Protocol: packet.ProtoName(r.Session.Protocol), Dport: r.Session.DstPort,
		Interface: l.name(int(r.Out)), Service: r.Left.Service.String(),
		Before: consoleFlowSpec(&r.Was), FlowSpec: consoleFlowSpec(&r.Left), LastsS: r.Lasts.Seconds(),
	}
	for _, f := range r.Senders {
		out.Senders = append(out.Senders, console.TraceHost{Src: f.Src.String(), Sport: f.SrcPort})
	}
	return out, nil
}

// reductionOf reads a request.
func reductionOf(ask *console.ReductionRequest, l *links) (rsvpproxy.ReduceQuery, error) {
	var errs requestErrors
	q := rsvpproxy.ReduceQuery{DstPort: ask.Dport, SrcPort: ask.Sport}
	address := func(key, s string) netip.Addr {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() {
			errs.add(key, fmt.Errorf("%q is no address: write one such as 10.1.0.2", s))
		}
		return a.Unmap()
	}
	q.Dst = address("dst", ask.Dst)
	if ask.Src != "" {
		q.Src = address("src", ask.Src)
	}
	if !ask.Protocol.IsZero() {
		var err error
		q.Protocol, err = protocolOf(ask.Protocol)
		errs.add("protocol", err)
	}
	if ask.Interface != "" {
		out := l.index(ask.Interface)
		if out == 0 {
			errs.add("interface", fmt.Errorf("%q is not in the config file", ask.Interface))
		}
		q.Out = softstate.IfIndex(out)
	}
	if ask.Rate.IsZero() {
		errs.add("rate", errors.New("say what shall be left, such as 4mbit"))
	} else {
		q.Left.Bandwidth = errs.quantity("rate", ask.Rate, config.ParseRate, byhand.MaxRate, "bytes/s")
	}
	if !ask.Peak.IsZero() {
		q.Left.Peak = errs.quantity("peak", ask.Peak, config.ParseRate, byhand.MaxRate, "bytes/s")
		if q.Left.Peak < q.Left.Bandwidth {
			errs.add("peak", errors.New("no less than rate"))
		}
	}
	if len(errs) > 0 {
		return q, invalid(errs)
	}
	return q, nil
}

func reduceError(err error, l *links) error {
	e := &console.Error{Message: err.Error()}
	if many, ok := errors.AsType[*rsvpproxy.SeveralError](err); ok {
		return ambiguous(err, len(many.Found), func(i int) string { return reducible(&many.Found[i], l) })
	}
	switch {
	case errors.Is(err, rsvpproxy.ErrNotKnown):
		e.Status, e.Code = http.StatusNotFound, "no_session"
	case errors.Is(err, rsvpproxy.ErrNotReserved), errors.Is(err, softstate.ErrNoReservation):
		e.Status, e.Code = http.StatusConflict, "not_reserved"
	case errors.Is(err, softstate.ErrNoReduction):
		e.Status, e.Code = http.StatusConflict, "not_less"
	default:
		return err
	}
	return e
}

// reducible names a reservation as a request does.
func reducible(r *rsvpproxy.Reducible, l *links) string {
	s := fmt.Sprintf("protocol=%s dport=%d", packet.ProtoName(r.Session.Protocol), r.Session.DstPort)
	if r.Session.Format != wire.FormatPorts {
		s = fmt.Sprintf("%v", r.Session)
	}
	if len(r.Senders) == 1 {
		s += fmt.Sprintf(" src=%v sport=%d", r.Senders[0].Src, r.Senders[0].SrcPort)
	}
	return s + " interface=" + l.name(int(r.Out))
}
