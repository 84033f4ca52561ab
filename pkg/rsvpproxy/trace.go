package rsvpproxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// maxTraces bounds the traces that run at the same time: each has a socket.
const maxTraces = 8

// TraceQuery names what is to be traced. Of the fields but Dst those that are
// zero are not known: the session is then looked for in the state of this box.
type TraceQuery struct {
	Dst, Src         netip.Addr
	Protocol         uint8
	DstPort, SrcPort uint16
	// LastHop is where to begin; invalid: at the last hop in front of Dst.
	LastHop  netip.Addr
	MaxHops  uint8
	HopByHop bool          // the reply is to come along the request's way
	Timeout  time.Duration // of one attempt; 0: the default
	Attempts int
}

// TraceResult is what a trace found.
type TraceResult struct {
	diag.Result
	Session   wire.Session
	Sender    wire.Filter
	LastHop   netip.Addr
	Requester netip.AddrPort
	At        time.Time // of the first request
	Took      time.Duration
}

// Errors of Trace.
var (
	ErrNoSession = errors.New("no session to this destination is known here: name it with protocol, source and ports to ask the boxes on its way")
	ErrNoLastHop = errors.New("name the last hop to begin at: this box is not on the session's way, and a group has no one last hop")
	ErrNoWay     = errors.New("there is no route to the last hop, or no address to send from")
	ErrBusy      = errors.New("too many traces are running, try again in a moment")
)

// AmbiguousError tells which sessions a query may mean.
type AmbiguousError struct{ Sessions []softstate.SessionView }

// Error is for people.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d senders and sessions match: name one of them", len(e.Sessions))
}

// tracePlan is a query in full.
type tracePlan struct {
	session wire.Session
	sender  wire.Filter
	starts  []traceStart // to be tried in their order
}

// traceStart is a place to begin at, with our address that is to be answered to.
type traceStart struct {
	lastHop, from netip.Addr
	mtu           int
}

// Trace asks every box on a session's way what it knows of it (RFC 2745). It
// takes seconds where something does not answer.
func (p *Proxy) Trace(ctx context.Context, q TraceQuery) (TraceResult, error) {
	if p.unseen != nil {
		return TraceResult{}, ErrUnseen
	}
	select {
	case p.tracing <- struct{}{}:
		defer func() { <-p.tracing }()
	default:
		return TraceResult{}, ErrBusy
	}
	plan, err := p.planTrace(ctx, q)
	if err != nil {
		return TraceResult{}, err
	}
	r := TraceResult{Session: plan.session, Sender: plan.sender, At: time.Now()}
	sent := 0
	for _, start := range plan.starts {
		r.LastHop = start.lastHop
		if err = p.traceFrom(ctx, q, plan, start, &r); err != nil {
			return r, err
		}
		sent += r.Attempts
		if r.Outcome != diag.NoAnswer || ctx.Err() != nil {
			break
		}
	}
	r.Attempts, r.Took = sent, time.Since(r.At)
	return r, nil
}

// planTrace has the event loop find out what is meant and where to begin.
func (p *Proxy) planTrace(ctx context.Context, q TraceQuery) (tracePlan, error) {
	type reply struct {
		plan tracePlan
		err  error
	}
	answer := make(chan reply, 1)
	if err := p.do(func(now time.Time, n *softstate.Node) []softstate.Effect {
		plan, err := p.resolveTrace(q, n.Sessions(now))
		answer <- reply{plan, err}
		return nil
	}); err != nil {
		return tracePlan{}, err
	}
	select {
	case r := <-answer:
		return r.plan, r.err
	case <-ctx.Done():
		return tracePlan{}, ctx.Err()
	}
}

// resolveTrace runs in the event loop.
func (p *Proxy) resolveTrace(q TraceQuery, sessions []softstate.SessionView) (tracePlan, error) {
	var found []softstate.SessionView
	for _, v := range sessions {
		if q.names(v.Session, v.Sender) {
			found = append(found, v)
		}
	}
	plan := tracePlan{
		session: wire.Session{Dst: q.Dst, Protocol: q.Protocol, DstPort: q.DstPort},
		sender:  wire.Filter{Src: q.Src, SrcPort: q.SrcPort},
	}
	switch {
	case len(found) > 1:
		return plan, &AmbiguousError{found}
	case len(found) == 1:
		plan.session, plan.sender = found[0].Session, found[0].Sender
	case !q.Src.IsValid() || q.Protocol == 0:
		return plan, ErrNoSession
	}
	return p.startTrace(q, plan)
}

// names says whether a sender is one that the query may mean.
func (q *TraceQuery) names(s wire.Session, f wire.Filter) bool {
	return s.Dst == q.Dst && (!q.Src.IsValid() || f.Src == q.Src) && (q.Protocol == 0 || s.Protocol == q.Protocol) &&
		(q.DstPort == 0 || s.DstPort == q.DstPort) && (q.SrcPort == 0 || f.SrcPort == q.SrcPort)
}

// startTrace chooses the last hop: the one in front of the receiver, or where
// that does not answer this box, if it is on the way.
func (p *Proxy) startTrace(q TraceQuery, plan tracePlan) (tracePlan, error) {
	v, here := p.node.Inspect(plan.session, plan.sender, 0)
	own := p.env.AddrTowards(v.In, q.Dst)
	if !own.IsValid() && len(v.Outs) > 0 {
		own = p.env.AddrTowards(v.Outs[0], q.Dst)
	}
	self := traceStart{lastHop: own, from: own, mtu: p.env.MTU(v.In)}
	far := func(a netip.Addr) {
		if out, local, ok := p.env.Route(a); ok && local {
			plan.starts = append(plan.starts, traceStart{lastHop: a, from: a})
		} else if from := p.env.AddrTowards(out, a); ok && from.IsValid() {
			plan.starts = append(plan.starts, traceStart{lastHop: a, from: from, mtu: p.env.MTU(out)})
		}
	}
	switch {
	case q.LastHop.IsValid():
		far(q.LastHop)
	case q.Dst.IsMulticast():
		if !here || !own.IsValid() {
			return plan, ErrNoLastHop
		}
		plan.starts = append(plan.starts, self)
	case here && v.End && own.IsValid():
		plan.starts = append(plan.starts, self)
	default:
		far(q.Dst)
		if here && own.IsValid() {
			plan.starts = append(plan.starts, self)
		}
	}
	if len(plan.starts) == 0 {
		return plan, ErrNoWay
	}
	return plan, nil
}

// traceFrom asks from one start on, and puts the answer into r.
func (p *Proxy) traceFrom(ctx context.Context, q TraceQuery, plan tracePlan, start traceStart, r *TraceResult) (err error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(start.from, 0)))
	if err != nil {
		return fmt.Errorf("socket for the answer: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	r.Requester = conn.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // of a UDP socket
	from := wire.Filter{Src: start.from, SrcPort: r.Requester.Port()}
	mtu := uint16(diag.DefaultPathMTU)
	if start.mtu > 0 && start.mtu < int(mtu) {
		mtu = uint16(start.mtu)
	}
	client := diag.NewClient(diag.Query{
		Session: plan.session, Sender: plan.sender, LastHop: start.lastHop, Requester: from, Hop: wire.Hop{Addr: start.from},
		ID: rand.Uint32(), PathMTU: mtu, MaxHops: q.MaxHops, HopByHop: q.HopByHop, Timeout: q.Timeout, Attempts: q.Attempts,
	})
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })() // wakes the reader; a closed socket needs no waking
	if err := p.converse(ctx, conn, client); err != nil {
		return err
	}
	r.Result = client.Result()
	return nil
}

// converse runs the client until it is done.
func (p *Proxy) converse(ctx context.Context, conn *net.UDPConn, client *diag.Client) error {
	buf := make([]byte, wire.MaxMessage)
	for {
		if d := client.Next(time.Now()); d != nil {
			if err := p.do(func(now time.Time, _ *softstate.Node) []softstate.Effect {
				p.sendDiag(p.diag.Ask(now, d))
				return nil
			}); err != nil {
				return err
			}
		}
		if client.Done() {
			return nil
		}
		if err := conn.SetReadDeadline(client.Deadline()); err != nil {
			return err
		}
		switch err := ctx.Err(); {
		case errors.Is(err, context.DeadlineExceeded):
			return nil // what is known by now is told
		case err != nil:
			return err
		}
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("socket for the answer: %w", err)
		}
		if d, err := wire.ParseDiag(buf[:n]); err == nil { // what is no reply is not ours
			client.Handle(time.Now(), d)
		}
	}
}
