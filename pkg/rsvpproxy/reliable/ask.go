package reliable

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Ask has a neighbour tell again what the process before this one knew of it: a
// Srefresh with our new epoch, which shows that we have restarted (RFC 2961
// section 4.5). What it lists is nothing that the neighbour could know, and is
// answered by a NACK that asks for nothing.
func (l *Layer) Ask(now time.Time, out softstate.IfIndex, addr netip.Addr) []softstate.Send {
	src := l.addr(out, addr)
	nb := l.neighbor(neighborKey{out, addr}, l.guessed)
	if nb == nil || !src.IsValid() {
		return nil
	}
	l.count.Asked++
	l.lastID++
	l.transmit(now, nb, true, softstate.Send{
		Out: out, Src: src, Dst: addr, TTL: l.cfg.TTL,
		Msg: &wire.Message{
			Type: wire.Srefresh, Flags: wire.RefreshReduction, SendTTL: l.cfg.TTL,
			MessageID: &wire.MessageID{Epoch: l.epoch, ID: l.lastID},
			Lists:     []wire.MessageIDList{{Epoch: l.epoch, IDs: []wire.ListedID{{ID: l.lastID}}}},
		},
	})
	return l.takeOut()
}
