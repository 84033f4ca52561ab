package rsvpproxy

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/fair"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Messages counts messages by type, as they were on the wire: what a bundle or a
// summary carries or stands for is not counted again.
// The last place has those of types beyond.
type Messages [32]uint64

// tally counts messages by interface and by neighbour. It belongs to the event
// loop.
type tally struct {
	ifaces    map[int]*flowing
	neighbors map[fair.Key]*flowing // those that state has depended on
	most      int
}

// flowing is the messages of one side.
type flowing struct {
	in, out Messages
	heard   time.Time // last
}

func newTally(neighbors int) tally {
	return tally{ifaces: map[int]*flowing{}, neighbors: map[fair.Key]*flowing{}, most: neighbors}
}

func (m *Messages) add(b []byte) {
	if len(b) > 1 {
		m[min(int(b[1]), len(m)-1)]++
	}
}

// received counts a message.
func (t *tally) received(c *captured) {
	i := t.iface(c.iface)
	i.in.add(c.message)
	i.heard = c.at
	if n := t.neighbors[c.from]; n != nil {
		n.in.add(c.message)
		n.heard = c.at
	}
}

// sent counts a message. A PATH is addressed to its session: it counts for its
// interface alone.
func (t *tally) sent(iface int, dst netip.Addr, msg []byte) {
	t.iface(iface).out.add(msg)
	if n := t.neighbors[fair.Key{Iface: iface, Addr: dst}]; n != nil {
		n.out.add(msg)
	}
}

// iface finds or makes an interface's; there are as many as the configuration
// has ever had.
func (t *tally) iface(index int) *flowing {
	f := t.ifaces[index]
	if f == nil {
		f = &flowing{}
		t.ifaces[index] = f
	}
	return f
}

// know begins to count for a neighbour. Where there is no room, one goes that no
// state depends on any more.
func (t *tally) know(c *captured, depends func(softstate.IfIndex, netip.Addr) bool) {
	if t.neighbors[c.from] != nil {
		return
	}
	if len(t.neighbors) >= t.most {
		for k := range t.neighbors {
			if !depends(softstate.IfIndex(k.Iface), k.Addr) {
				delete(t.neighbors, k)
			}
		}
		if len(t.neighbors) >= t.most {
			return
		}
	}
	f := &flowing{heard: c.at}
	f.in.add(c.message)
	t.neighbors[c.from] = f
}

// Of returns how many there were of a type.
func (m *Messages) Of(t wire.MsgType) uint64 { return m[min(int(t), len(m)-1)] }

// Total returns how many there were.
func (m *Messages) Total() (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
