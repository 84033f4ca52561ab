package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
)

const (
	// request and response are those of a small HTTP/1.1 exchange on a
	// connection that is kept.
	request  = 300
	response = 1000
	// slot is what each connection has for itself in a turn; turn is one of all.
	slot    = 6 * time.Millisecond
	minTurn = 60 * time.Millisecond

	portAlone    = 5000 // no policy has it
	portRequests = 5001 // and those after it, at B
	portAnswers  = 5101 // and those after it, at A

	modeAbsent = "no box"
	modeAlone  = "no policy"

	smallReserved = "1mbit"

	// What a box may add.
	addedShare = 0.05
	addedTime  = time.Millisecond
)

// latencyReport is one path.
type latencyReport struct {
	RTTms float64      `json:"path_rtt_ms"`
	Rows  []latencyRow `json:"rows"`
}

// latencyRow is one connection.
type latencyRow struct {
	Mode string `json:"mode"` // of tcp, or no box, or no policy
	// Answers tells that what is cheated on are the responses; else it is the
	// requests.
	Answers bool                 `json:"answers"`
	Times   traffic.Distribution `json:"times"`
	// What the box that has to do the mode said at the end.
	State    string `json:"state,omitempty"`
	Reason   string `json:"reason,omitempty"`
	FakeAcks uint64 `json:"fake_acks,omitempty"`
	// Against the connection beside that no policy has.
	AddedP50 time.Duration `json:"added_p50_ns"`
	AddedP99 time.Duration `json:"added_p99_ns"`
	Within   bool          `json:"within"` // of 5% or 1 ms, both
}

// within tells whether a time is no more than 5% or 1 ms above another.
func within(with, without time.Duration) bool {
	return with-without <= max(addedTime, time.Duration(addedShare*float64(without)))
}

func (r *latencyRow) against(without traffic.Distribution) {
	r.AddedP50, r.AddedP99 = r.Times.P50-without.P50, r.Times.P99-without.P99
	r.Within = r.Times.Count > 0 && within(r.Times.P50, without.P50) && within(r.Times.P99, without.P99)
}

// latencies measures on a short and on a longer path.
func latencies(ctx context.Context, o options) ([]latencyReport, error) {
	var list []latencyReport
	for _, rtt := range []time.Duration{2 * time.Millisecond, 40 * time.Millisecond} {
		r, err := latencyOn(ctx, o, rtt)
		if err != nil {
			return list, fmt.Errorf("path of %s: %w", rtt, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// latencyOn measures without boxes, with them, and without again, for half the
// time each as with them.
func latencyOn(ctx context.Context, o options, rtt time.Duration) (r latencyReport, err error) {
	r.RTTms = rtt.Seconds() * 1e3
	l, err := newLab(o, smallReserved, path{delay: rtt / 2, back: forward})
	if err != nil {
		return r, err
	}
	defer func() {
		if closeErr := l.close(); err == nil {
			err = closeErr
		}
	}()
	absent := []policy{{Name: modeAbsent, Port: portAlone}, {Name: modeAbsent, Port: portAlone, Down: true}}
	var list []policy
	for i, mode := range o.modes {
		list = append(list,
			policy{Name: mode + "-requests", Mode: mode, Port: portRequests + uint16(i)},
			policy{Name: mode + "-answers", Mode: mode, Port: portAnswers + uint16(i), Down: true})
	}
	with := append([]policy{{Name: modeAlone, Port: portAlone}, {Name: modeAlone, Port: portAlone, Down: true}}, list...)
	o.say("%s: without boxes, %s", rtt, o.window/2)
	before, err := l.exchange(ctx, o, absent, o.window/2)
	if err != nil {
		return r, err
	}
	if err := l.start(ctx, list); err != nil {
		return r, err
	}
	o.say("%s: with boxes, %s", rtt, o.window)
	during, err := l.exchange(ctx, o, with, o.window)
	if err != nil {
		return r, err
	}
	if err := l.stop(); err != nil {
		return r, err
	}
	o.say("%s: without boxes again, %s", rtt, o.window/2)
	after, err := l.exchange(ctx, o, absent, o.window/2)
	if err != nil {
		return r, err
	}
	r.Rows = append(append(during, before...), after...)
	for i := range r.Rows {
		base := &r.Rows[0]
		if r.Rows[i].Answers {
			base = &r.Rows[1]
		}
		r.Rows[i].against(base.Times)
	}
	return r, nil
}

// exchange has one connection for each policy, which take turns.
func (l *lab) exchange(ctx context.Context, o options, list []policy, window time.Duration) ([]latencyRow, error) {
	rows := make([]latencyRow, len(list))
	begin := time.Now().Add(100 * time.Millisecond)
	turn := max(minTurn, slot*time.Duration(len(list)))
	results := make(chan error, len(list))
	for i, p := range list {
		rows[i] = latencyRow{Mode: p.Mode, Answers: p.Down}
		if p.Mode == "" {
			rows[i].Mode = p.Name
		}
		cfg := traffic.LatencyConfig{
			From: l.net.A, To: l.net.B, Remote: netip.AddrPortFrom(rig.AddrB, p.Port),
			CongestionControl: o.cc, Duration: o.warmup + window + time.Second, Warmup: o.warmup,
			Period: turn, Begin: begin.Add(time.Duration(i) * turn / time.Duration(len(list))),
			Request: request, Response: response,
		}
		if p.Down {
			cfg.From, cfg.To, cfg.Remote = l.net.B, l.net.A, netip.AddrPortFrom(rig.AddrA, p.Port)
		}
		go func() {
			r, err := traffic.Latency(ctx, cfg)
			rows[i].Times = r.Times
			if err != nil {
				err = fmt.Errorf("%s: %w", p.Name, err)
			}
			results <- err
		}()
	}
	asked := l.askAll(ctx, list, rows, o.warmup+window)
	errs := []error{asked}
	for range list {
		errs = append(errs, <-results)
	}
	errs = append(errs, ctx.Err())
	return rows, errors.Join(errs...)
}

// askAll notes what the boxes say of each connection shortly before they end.
func (l *lab) askAll(ctx context.Context, list []policy, rows []latencyRow, after time.Duration) error {
	if len(l.boxes) == 0 || !rig.Pause(ctx, after) {
		return nil
	}
	for i, p := range list {
		if p.Mode == "" {
			continue
		}
		// Pacing is done by the receiver's box.
		b := l.boxes[0]
		if p.Mode == modePace {
			b = l.boxes[1]
		}
		f, err := flow(ctx, b, p.Name)
		if err != nil {
			return err
		}
		rows[i].State, rows[i].Reason, rows[i].FakeAcks = f.State, f.Reason, f.FakeAcks
	}
	return nil
}

// treated tells whether the mode was really at work.
func (r *latencyRow) treated() bool {
	switch r.Mode {
	case modeNone:
		return r.State == console.FlowManaged
	case modePace:
		return r.State == console.FlowCheated
	case modeRealtime, modeReliable:
		return r.State == console.FlowCheated && r.FakeAcks > 0
	default:
		return true
	}
}

func (r *report) latencyTable(b *strings.Builder) {
	if len(r.Latencies) == 0 {
		return
	}
	var m markdown
	m.line("path", "data from A", "tcp", "exchanges", "p50, ms", "p99, ms", "p50 more", "p99 more", "")
	for _, path := range r.Latencies {
		for i := range path.Rows {
			row := &path.Rows[i]
			what := "requests"
			if row.Answers {
				what = "responses"
			}
			verdict := "within"
			switch {
			case !row.treated():
				verdict = strings.TrimSpace("NOT TREATED: " + row.State + " " + row.Reason)
			case !row.Within:
				verdict = "MORE"
			}
			m.line(fmt.Sprintf("%g ms", path.RTTms), what, row.Mode, fmt.Sprint(row.Times.Count), millis(row.Times.P50), millis(row.Times.P99),
				fmt.Sprintf("%+.2f", float64(row.AddedP50)/1e6), fmt.Sprintf("%+.2f", float64(row.AddedP99)/1e6), verdict)
		}
	}
	fmt.Fprintf(b, "%s\nWithin: p50 and p99 are at most 5%% or 1 ms above those of the connection without a policy.\n%d processors, load %.1f at the start and %.1f at the end.\n",
		&m, r.Processors, r.LoadBefore, r.LoadAfter)
}
