package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

// waitEvery is how often the daemon is asked what has become of a reservation.
const waitEvery = 100 * time.Millisecond

// reserveOptions are the flags of reserve.
type reserveOptions struct {
	ask     console.ReservationRequest
	conn    string
	reverse bool
	values  map[string]*string // flags that are a console.Value each
	prio    string
	wait    bool
	noWait  bool
	timeout time.Duration
}

const reserveHelp = `Make a reservation by hand, as Cisco's ip rsvp sender and ip rsvp reservation do:
for the packets from SOURCE to DESTINATION, addresses with ports such as
10.1.0.2:4000. Instead of them --conn names a row of flows.

The box speaks for the host that is behind it. PATH goes out without any packet
of the flow; a receiver's side answers as soon as there is a PATH. DESTINATION may
be a multicast group: PATH then goes by each interface that the kernel forwards
the group's packets to, and those of zone hosts are answered for. It stays until
it is released or its time is over, also when the daemon is started again, and
also if it is refused: it is then tried again with every refresh.

Without --no-wait the result is waited for: exit code 0 if it is reserved, 1 if it
is refused, with the error's code and where it was found, or not reserved in time.`

func (a *app) reserveCommand() *cobra.Command {
	o := &reserveOptions{values: map[string]*string{}}
	cmd := &cobra.Command{
		Use: "reserve PROTOCOL SOURCE DESTINATION --bandwidth RATE", Short: "Make a reservation by hand", Long: reserveHelp,
		Example: `  qosproxy reserve udp 10.1.0.2:4000 10.2.0.2:5004 --bandwidth 80kbit --mark ef
  qosproxy reserve tcp 10.1.0.2:4000 10.2.0.2:104 --bandwidth 8mbit --burst 64kB --duration 2h
  qosproxy reserve udp 10.1.0.2:4000 239.1.2.3:5004 --bandwidth 2mbit --side sender
  qosproxy reserve --conn 12 --bandwidth 2mbit --no-wait`,
		Args: func(_ *cobra.Command, args []string) error {
			if o.conn != "" && len(args) == 0 {
				return nil
			}
			if o.conn != "" || len(args) != 3 {
				return errors.New("name the flow: PROTOCOL SOURCE DESTINATION, or --conn")
			}
			return nil
		},
		PreRunE: func(_ *cobra.Command, args []string) error { return o.read(args) },
		RunE:    verb(func(cmd *cobra.Command, _ []string) error { return a.reserve(cmd.Context(), o) }),
	}
	f := cmd.Flags()
	value := func(name, usage string) {
		o.values[name] = f.String(name, "", usage)
	}
	value("bandwidth", "rate r of the token bucket, such as 8mbit")
	value("burst", "its depth b, such as 64kB (default: what the rate brings in 100 ms, at least two packets)")
	value("peak", "peak rate (default: unlimited)")
	value("min-unit", "smaller packets count as this (default 64B)")
	value("max-packet", "larger packets are never within the reservation (default 1500B)")
	value("delay", "queueing delay that guaranteed service keeps, such as 50ms")
	value("mark", "PHB (ef, voice-admit, af31, ...), service class (telephony, ...) or number (default: the service's by mapping)")
	value("duration", "how long, such as 2h (default: until it is released)")
	f.StringVar(&o.ask.Service, "service", "", "controlled-load or guaranteed (default controlled-load)")
	f.StringVar(&o.ask.Side, "side", "", "sender, receiver or both: for whom the box speaks (default both: whoever is behind it)")
	f.StringVar(&o.ask.Style, "style", "", "ff, se, wf or auto: how the receiver's side asks (default ff)")
	f.StringVar(&o.ask.TCP, "tcp", "", "none, realtime or reliable (default none)")
	f.StringVar(&o.ask.Excess, "excess", "", "what becomes of packets above the reservation: best-effort, drop, or the PHB that they are remarked to (default best-effort)")
	f.StringVar(&o.prio, "priority", "", "preemption priority (RFC 3181): SETUP or SETUP:HOLD")
	f.StringVar(&o.ask.Owner, "owner", a.getenv("USER"), "who asks")
	f.StringVar(&o.ask.Comment, "comment", "", "what for")
	f.StringVar(&o.ask.Expires, "expires", "", "until when, such as 2026-12-31T18:00:00Z")
	f.StringVar(&o.conn, "conn", "", "the flow is this CONN of qosproxy flows, the direction with more bytes")
	f.BoolVar(&o.reverse, "reverse", false, "with --conn: the other direction")
	f.BoolVar(&o.wait, "wait", true, "wait for the result")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait for the result")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	return cmd
}

// read makes a request of the flags and the arguments.
func (o *reserveOptions) read(args []string) error {
	r := &o.ask
	for name, to := range map[string]*console.Value{
		"bandwidth": &r.Rate, "burst": &r.Burst, "peak": &r.Peak, "min-unit": &r.MinUnit, "max-packet": &r.MaxPacket,
		"delay": &r.Delay, "mark": &r.Mark, "duration": &r.Duration,
	} {
		*to = console.Text(*o.values[name])
	}
	if r.Rate.IsZero() {
		return errors.New("give the bandwidth, such as --bandwidth 8mbit")
	}
	if o.timeout <= 0 {
		return errors.New("--timeout: give more than 0s, or --no-wait")
	}
	if err := o.priority(); err != nil {
		return err
	}
	if len(args) != 3 {
		return nil
	}
	var err1, err2 error
	r.Protocol = console.Text(args[0])
	r.Src, r.Sport, err1 = endpoint(args[1])
	r.Dst, r.Dport, err2 = endpoint(args[2])
	return errors.Join(err1, err2)
}

func (o *reserveOptions) priority() error {
	if o.prio == "" {
		return nil
	}
	setup, hold, both := strings.Cut(o.prio, ":")
	if !both {
		hold = setup
	}
	s, err1 := strconv.ParseUint(setup, 10, 16)
	h, err2 := strconv.ParseUint(hold, 10, 16)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("--priority: %q is not SETUP or SETUP:HOLD, numbers up to 65535", o.prio)
	}
	o.ask.Priority = &console.Priority{Setup: uint16(s), Hold: uint16(h)}
	return nil
}

// endpoint takes ADDRESS or ADDRESS:PORT apart.
func endpoint(s string) (addr string, port uint16, err error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), 0, nil
	}
	p, err := netip.ParseAddrPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address with a port: write it as 10.1.0.2:4000 or [fd00::2]:4000", s)
	}
	return p.Addr().String(), p.Port(), nil
}

func (a *app) reserve(ctx context.Context, o *reserveOptions) error {
	c := console.NewClient(a.socket)
	if o.conn != "" {
		if err := o.ofFlow(ctx, c); err != nil {
			return err
		}
	}
	row, err := c.Reserve(ctx, o.ask)
	if err != nil {
		return err
	}
	if o.noWait || !o.wait {
		return a.reserved(row, nil)
	}
	row, err = waitReserved(ctx, c, row, o.timeout)
	return a.reserved(row, err)
}

// ofFlow fills in the five-tuple of a row of flows.
func (o *reserveOptions) ofFlow(ctx context.Context, c *console.Client) error {
	rows, err := c.Flows(ctx)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r console.FlowRow) bool { return r.Conn != o.conn })
	if len(rows) == 0 {
		return &console.Error{Code: "no_flow", Message: "no flow has conn " + o.conn + ": see qosproxy flows --json"}
	}
	row := rows[0]
	for _, r := range rows[1:] {
		if r.Bytes > row.Bytes {
			row = r
		}
	}
	r := &o.ask
	r.Protocol, r.Src, r.Sport, r.Dst, r.Dport = console.Text(row.Protocol), row.Src, row.Sport, row.Dst, row.Dport
	if o.reverse {
		r.Src, r.Sport, r.Dst, r.Dport = r.Dst, r.Dport, r.Src, r.Sport
	}
	return nil
}

// waitReserved asks until a reservation is in place or refused.
func waitReserved(ctx context.Context, c *console.Client, row console.ReservationRow, most time.Duration) (console.ReservationRow, error) {
	deadline := time.Now().Add(most)
	for {
		switch row.State {
		case console.SessionReserved:
			return row, nil
		case console.SessionRejected, console.SessionBlockaded:
			return row, &console.Error{Code: "refused", Message: "refused: " + row.Error, Details: []string{stays(row)}}
		}
		if time.Now().After(deadline) {
			why := row.Reason
			if why == "" {
				why = row.State
			}
			return row, &console.Error{Code: "not_in_time", Message: fmt.Sprintf("not reserved within %s: %s", most, why), Details: []string{stays(row)}}
		}
		select {
		case <-ctx.Done():
			return row, ctx.Err()
		case <-time.After(waitEvery):
		}
		var err error
		if row, err = c.Reservation(ctx, row.ID); err != nil {
			return row, err
		}
	}
}

func stays(row console.ReservationRow) string {
	return fmt.Sprintf("reservation %s stays asked for: qosproxy release %s ends it", row.ID, row.ID)
}

// reserved tells what has become of a reservation.
func (a *app) reserved(row console.ReservationRow, err error) error {
	if err != nil {
		if e, ok := errors.AsType[*console.Error](err); ok && !a.json {
			for _, d := range e.Details {
				fmt.Fprintln(a.err, d)
			}
		}
		return err
	}
	if a.json {
		return a.printJSON(row)
	}
	text := row.State
	if n, of := row.Places(); of > 1 && n > 0 {
		text += fmt.Sprintf(" on %d of %d interfaces", n, of)
	}
	if row.Class != "" {
		text += ", class " + row.Class
	}
	if row.Reason != "" {
		text += ", " + row.Reason
	}
	_, err = fmt.Fprintf(a.out, "reservation %s: %s, marked %s\n", row.ID, text, row.PHB)
	return err
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "release ID", Short: "End a reservation made by hand", Args: cobra.ExactArgs(1),
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			row, err := console.NewClient(a.socket).Release(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(row)
			}
			_, err = fmt.Fprintf(a.out, "reservation %s is released\n", row.ID)
			return err
		}),
	}
}

func (a *app) reservationsCommand() *cobra.Command {
	return view(a, "reservations", "Reservations made by hand", (*console.Client).Reservations, table.Reservations)
}
