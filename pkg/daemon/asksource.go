package daemon

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// pinger asks hosts for ICMP echoes.
type pinger interface {
	Ask(to netip.Addr, ifindex int, done func(time.Duration))
}

// askSource asks the source of an engine's connection for an echo, and has the
// engine told what it shows. Only sources on the hosts' side are asked, by the
// interface that their packets come in: whoever makes a source address up
// cannot have the box send to somebody else.
func askSource(flows *flowTable, p pinger, h *cheatHandler, q tcpcheat.Echo) {
	f, _, known := flows.get(q.Key)
	if !known || f.role != roleSender || f.in == 0 {
		return
	}
	p.Ask(q.Key.SrcAddr(), f.in, func(rtt time.Duration) {
		h.post(func(now time.Time, e *tcpcheat.Engine) { e.Echoed(now, q, rtt) })
	})
}
