package rsvpproxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// whose says for whom a message of protocol 134 is.
type whose uint8

const (
	others   whose = iota // forwarded as any packet (RFC 3175 section 2.2)
	ours                  // it leaves the aggregation region here (section 2.3)
	intruder              // it comes from outside and would go in
)

// crossing tells whose a message of protocol 134 is. Without an interior interface
// it is never ours: this machine is interior itself, or in no region. Nothing but
// Path, PathTear and ResvConf is ever taken (section 5). Of the levels that
// Router Alert may tell (section 1.4.9) it is the first, or none: that it is written
// is no more than a recommendation.
func (p *Proxy) crossing(now time.Time, v packet.View, msg []byte, iface int) whose {
	set := p.ifaces.Load()
	i, known := set.byIndex[iface]
	if !set.edge || !known || alertLevel(v) > level || v.Dst().Is6() && (!p.cfg.Node.IPv6 || !i.Addr6.IsValid()) {
		return others
	}
	out, ok := p.ways.to(now, v.Dst())
	if !ok {
		return others
	}
	inside := !set.local[v.Dst()] && set.byIndex[out].Interior != nil
	switch {
	case i.Interior == nil && inside:
		return intruder
	case i.Interior == nil || inside || len(msg) < 8:
		return others
	}
	switch wire.MsgType(msg[1]) {
	case wire.Path, wire.PathTear, wire.ResvConf:
		return ours
	default:
		return others
	}
}

// ways are routes for those who capture messages, beside the event loop's own.
type ways struct {
	mu    sync.Mutex
	table *route.Table
	asked func(netip.Addr) (route.Hop, error) // instead of the table, in tests
}

// to is the interface towards dst, 0 if that is this machine.
func (w *ways) to(now time.Time, dst netip.Addr) (out int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ask := func(dst netip.Addr) (route.Hop, error) { return w.table.Lookup(now, dst) }
	if w.asked != nil {
		ask = w.asked
	}
	h, err := ask(dst)
	switch {
	case err != nil:
		return 0, false
	case h.Local:
		return 0, true
	default:
		return h.Index, true
	}
}

func (w *ways) do(f func(*route.Table)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.table)
}
