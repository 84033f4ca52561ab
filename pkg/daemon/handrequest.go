package daemon

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Defaults of a request.
const (
	handMinUnit   = 64
	handMaxPacket = 1500
	// handBurst is how much traffic at the rate a burst has room for where none
	// is given, and no less than handPackets packets.
	handBurst   = 100 * time.Millisecond
	handPackets = 2
	// handLongest bounds a duration.
	handLongest = 10 * 365 * 24 * time.Hour
)

// requestErrors collects what is wrong with a request, one sentence each.
type requestErrors []error

func (e *requestErrors) add(key string, err error) {
	if err != nil {
		*e = append(*e, fmt.Errorf("%s: %w", key, err))
	}
}

// reservationOf reads a request. Its error is a *console.Error that names every
// mistake.
func reservationOf(ask *console.ReservationRequest, now time.Time) (byhand.Reservation, error) {
	var errs requestErrors
	r := byhand.Reservation{
		Side: byhand.Side(ask.Side), Style: byhand.Style(ask.Style), TCP: byhand.TCP(ask.TCP), Service: intserv.ControlledLoad,
		Owner: ask.Owner, Comment: ask.Comment, Made: now,
	}
	orElse(&r.Side, byhand.Both)
	orElse(&r.Style, byhand.Fixed)
	orElse(&r.TCP, byhand.TCPNone)
	r.Flow = errs.flow(ask)
	if ask.Service != "" {
		var err error
		r.Service, err = intserv.ParseService(ask.Service)
		errs.add("service", err)
	}
	r.TSpec = errs.tspec(ask)
	if !ask.Delay.IsZero() {
		r.Delay = errs.duration("delay", ask.Delay, time.Hour)
	}
	if !ask.Mark.IsZero() {
		code, err := dscp.Parse(ask.Mark.Text)
		errs.add("mark", err)
		r.Marked, r.DSCP = true, code
	}
	if ask.Excess != "" {
		e, err := config.ParseExcess(ask.Excess)
		errs.add("excess", err)
		if r.Drop = e == config.ExcessDrop; !r.Drop {
			r.Excess = e.DSCP()
		}
	}
	if ask.Priority != nil {
		r.Priority = byhand.Priority{Given: true, Setup: ask.Priority.Setup, Hold: ask.Priority.Hold}
		if r.Hold == 0 {
			r.Hold = r.Setup
		}
	}
	r.Expires = errs.expires(ask, now)
	if len(errs) == 0 {
		if err := r.Check(); err != nil {
			errs = append(errs, sentences(err)...)
		}
	}
	if len(errs) > 0 {
		return r, invalid(errs)
	}
	return r, nil
}

// sentences takes joined errors apart.
func sentences(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, sentences(e)...)
		}
		return out
	}
	return []error{err}
}

func invalid(errs []error) *console.Error {
	e := &console.Error{Status: http.StatusBadRequest, Code: "invalid", Message: errs[0].Error()}
	if len(errs) > 1 {
		e.Message = fmt.Sprintf("%d things are wrong with the request", len(errs))
		for _, err := range errs {
			e.Details = append(e.Details, err.Error())
		}
	}
	return e
}

func orElse[T ~string](v *T, d T) {
	if *v == "" {
		*v = d
	}
}

func (e *requestErrors) flow(ask *console.ReservationRequest) packet.FlowKey {
	proto, err := protocolOf(ask.Protocol)
	e.add("protocol", err)
	src, err := hostOf(ask.Src)
	e.add("src", err)
	dst, err := hostOf(ask.Dst)
	e.add("dst", err)
	return packet.MakeKey(proto, netip.AddrPortFrom(src, ask.Sport), netip.AddrPortFrom(dst, ask.Dport))
}

func protocolOf(v console.Value) (uint8, error) {
	for _, p := range []uint8{
		packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6, packet.ProtoESP,
		packet.ProtoAH, packet.ProtoDCCP, packet.ProtoSCTP, packet.ProtoUDPLite,
	} {
		if packet.ProtoName(p) == v.Text {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(v.Text, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is none: tcp, udp or a number from 1 to 255", v.Text)
	}
	return uint8(n), nil
}

func hostOf(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.IPv4Unspecified(), fmt.Errorf("%q is no address of a host: write one such as 10.1.0.2", s)
	case a.Zone() != "":
		return netip.IPv4Unspecified(), fmt.Errorf("%s: an address with a zone reaches no further than its link", s)
	}
	return a.Unmap(), nil
}

func (e *requestErrors) tspec(ask *console.ReservationRequest) intserv.TSpec {
	t := intserv.TSpec{Peak: math.Inf(1), MinUnit: handMinUnit, MaxPacket: handMaxPacket}
	if ask.Rate.IsZero() {
		e.add("rate", errors.New("give the bandwidth, such as 8mbit"))
		return t
	}
	t.Rate = e.quantity("rate", ask.Rate, config.ParseRate, byhand.MaxRate, "bytes/s")
	if !ask.MaxPacket.IsZero() {
		t.MaxPacket = uint32(e.quantity("max_packet", ask.MaxPacket, config.ParseSize, byhand.MaxPacket, "bytes"))
	}
	t.MinUnit = min(t.MinUnit, t.MaxPacket)
	if !ask.MinUnit.IsZero() {
		t.MinUnit = uint32(e.quantity("min_unit", ask.MinUnit, config.ParseSize, byhand.MaxPacket, "bytes"))
	}
	t.Bucket = math.Ceil(max(t.Rate*handBurst.Seconds(), float64(handPackets*t.MaxPacket)))
	if !ask.Burst.IsZero() {
		t.Bucket = e.quantity("burst", ask.Burst, config.ParseSize, byhand.MaxBurst, "bytes")
	}
	if !ask.Peak.IsZero() {
		t.Peak = e.quantity("peak", ask.Peak, config.ParseRate, byhand.MaxRate, "bytes/s")
	}
	return t
}

// quantity reads text with a unit, or a whole number in the unit of the API.
func (e *requestErrors) quantity(key string, v console.Value, parse func(string) (uint64, error), most float64, unit string) float64 {
	out := 0.0
	if v.Number {
		n, err := strconv.ParseFloat(v.Text, 64)
		if err != nil || n != math.Trunc(n) {
			e.add(key, fmt.Errorf("%s is not a whole number of %s", v.Text, unit))
			return 1
		}
		out = n
	} else {
		n, err := parse(v.Text)
		if err != nil {
			e.add(key, err)
			return 1
		}
		out = float64(n)
	}
	if out < 1 || out > most {
		e.add(key, fmt.Errorf("%s is out of range: from 1 to %.0f %s", v.Text, most, unit))
		return 1
	}
	return out
}

// duration reads text with a unit, or a number of seconds.
func (e *requestErrors) duration(key string, v console.Value, most time.Duration) time.Duration {
	d, err := config.ParseDuration(v.Text)
	if v.Number {
		var s float64
		if s, err = strconv.ParseFloat(v.Text, 64); err == nil {
			d = time.Duration(min(max(s, 0)*float64(time.Second), float64(most)+1e9))
		}
	}
	switch {
	case err != nil:
		e.add(key, err)
	case d <= 0 || d > most:
		e.add(key, fmt.Errorf("%s is out of range: more than 0 and at most %s", v.Text, most))
	default:
		return d
	}
	return 1
}

func (e *requestErrors) expires(ask *console.ReservationRequest, now time.Time) time.Time {
	switch {
	case !ask.Duration.IsZero() && ask.Expires != "":
		e.add("expires", errors.New("duration is given too: one of them says when the end is"))
	case !ask.Duration.IsZero():
		return now.Add(e.duration("duration", ask.Duration, handLongest))
	case ask.Expires != "":
		at, err := time.Parse(time.RFC3339, ask.Expires)
		if err != nil {
			e.add("expires", fmt.Errorf("%q is no time: write it as %s", ask.Expires, now.Add(time.Hour).UTC().Format(time.RFC3339)))
			return time.Time{}
		}
		if at.After(now.Add(handLongest)) {
			e.add("expires", errors.New("more than ten years from now: leave it out"))
		}
		return at
	}
	return time.Time{}
}

// notKept says that a change was not made, since it would not outlive the
// process.
func notKept(err error) *console.Error {
	code := http.StatusInternalServerError
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: make the directory writable, or name another one with state_dir", err)
	}
	return &console.Error{Status: code, Code: "not_kept", Message: "nothing was changed, since it could not be kept: " + err.Error()}
}
