package daemon

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/inject"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// sender sends packets of our own making.
type sender interface {
	injector
	SendVia(pkt []byte, ifindex int) error
	Counters() inject.Counters
	Close() error
}

// bridged tells whether the box is a bridge.
func bridged(c *config.Config) bool { return c.Mode == config.ModeBridge }

// learn has everybody who needs it know how the frames of flows look; a router has
// nothing to learn.
func (d *Daemon) learn(c *config.Config) {
	if bridged(c) {
		d.flows.frames = frames{learned: d.shape.Frames(), station: d.stations.Port, two: func() bool { return len(c.Interfaces) == 2 && !d.unlisted() }}
		d.cheat.frames = d.flows.frames
	}
}

// rememberFrames is for how long packets may go where a station was.
const rememberFrames = 50 * time.Millisecond

// newSender opens the sockets for our own packets: a router's go where its routes
// lead, those of a bridge look like frames of the flow that they are for.
func newSender(c *config.Config, frames inject.Frames, l *links) (sender, error) {
	if bridged(c) {
		return inject.NewBridge(inject.BridgeConfig{Mark: plan.DefaultMark, Frames: frames, Ports: l.ports(), Remember: rememberFrames})
	}
	return inject.New(inject.Config{Mark: plan.DefaultMark})
}

// useLinks is for another reading of the interfaces: a bridge's sender has other
// ports, and the rows of flows other indexes.
func (d *Daemon) useLinks(l *links) {
	old := d.links.Swap(l)
	if b, ok := d.sender.(interface{ SetPorts([]int) }); ok {
		b.SetPorts(l.allPorts())
	}
	d.flows.renumber(old, l)
}

// unlisted tells whether the bridge has ports that are not in the configuration.
func (d *Daemon) unlisted() bool { return len(d.links.Load().unlisted) > 0 }

// ports are the indexes of the interfaces, of one that is gone the last that it had:
// the kernel refuses to send by it, and none is taken for it.
func (l *links) ports() (list []int) {
	for i := range l.list {
		list = append(list, l.list[i].Index)
	}
	return list
}

// allPorts are those that are not in the configuration, too: while there are any, a port
// has no other one that is opposite of it.
func (l *links) allPorts() []int { return slices.Concat(l.ports(), l.unlisted) }

// port is a number for an interface that it keeps when it goes and comes back with
// another index, by the order of the names; 0 if it is not in the configuration.
func (l *links) port(index int) int {
	if k, ok := l.byIndex[index]; ok {
		return k.number
	}
	return 0
}

// leastFrames is for a box with few rows in its flow table: all that crosses a bridge
// is learned, not only what a policy is for. mostFrames is 150 MB of the kernel's memory.
const (
	leastFrames = 1 << 16
	mostFrames  = 1 << 20
)

// frameRoom is how many directions of connections and pairs of addresses a bridge
// remembers: two of each for every flow.
func frameRoom(c *config.Config) int {
	if !bridged(c) {
		return 0
	}
	return min(max(4*c.Limits.Flows, leastFrames), mostFrames)
}

// Why a connection on a bridge is not cheated, beside what its engine finds.
var (
	errUnseen = errors.New("no frame of it has been learned, so its Ethernet addresses are not known")
	errTags   = errors.New("its frames have VLAN tags with which the kernel sends no packet as long as the MTU (it does with one of 802.1Q)")
	errMoving = errors.New("its frames come in more than one VLAN, or to more than one station, in turn")
)

// frames is what a bridge knows of connections' frames. The zero value is that of a
// router, which needs to know nothing.
type frames struct {
	learned inject.Frames
	// station is the port by which the bridge of a port sends what is for a station, 0:
	// by all others.
	station func(of int, mac [6]byte) (int, error)
	// two tells that the bridge has no more ports: then station is not asked.
	two func() bool
}

// servable tells why packets of our own could not be sent to a connection's ends;
// nil if they can.
func (f frames) servable(key packet.FlowKey) error {
	if f.learned == nil {
		return nil
	}
	switch shorter, ok := inject.Known(f.learned, key); {
	case !ok:
		return errUnseen
	case shorter > 0:
		return errTags
	}
	return nil
}

// moves is how often the frames of a connection were others than before.
func (f frames) moves(key packet.FlowKey) (n uint32) {
	var got packet.Frame
	for _, k := range bothWays(key) {
		if f.learned.Frame(&k, &got) {
			n += got.Moves
		}
	}
	return n
}

// moving remembers how often a connection's frames have moved. A gateway that fails
// over, or a station that is plugged in elsewhere, is a move or two; what goes on and
// on is two connections of the same name in two VLANs, or one that comes by twice.
type moving struct {
	known bool
	moves uint32
	looks int // at which there were more than before, one after the other
}

const (
	movesAtOnce = 8 // between two looks
	movingLooks = 2
)

// look takes another count and tells whether it is too much.
func (m *moving) look(moves uint32) bool {
	was := *m
	*m = moving{known: true, moves: moves}
	if !was.known || moves <= was.moves { // less: the kernel has begun anew
		return false
	}
	m.looks = was.looks + 1
	return moves-was.moves >= movesAtOnce || m.looks >= movingLooks
}

// lookForMoving lets connections alone whose frames keep moving. Nobody is held up by
// the looking.
func (d *Daemon) lookForMoving() {
	if d.flows.frames.learned == nil {
		return
	}
	type engaged struct {
		key   packet.FlowKey
		shard int
	}
	var list []engaged
	d.flows.updateAll(func(c *conn) {
		if c.shard >= 0 {
			list = append(list, engaged{c.data, c.shard})
		}
	})
	for _, e := range list {
		moves := d.flows.frames.moves(e.key)
		tooMuch := false
		d.flows.update(e.key, func(c *conn, _ *flow) {
			if c.shard == e.shard && c.data == e.key {
				tooMuch = c.moving.look(moves)
			}
		})
		if tooMuch {
			d.cheat.leave(e.shard, e.key, errMoving)
		}
	}
}

// leave has the engine let a connection alone; it tells so by an event.
func (w *cheatWorkers) leave(shard int, key packet.FlowKey, why error) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) { e.Leave(now, key, why) })
}

// elsewhere tells that a connection's packets came by other ports of a bridge than
// these; empty if they did not, or the box is a router, whose routes may change. A port
// that is not known may be one of them that has just come back.
func (t *flowTable) elsewhere(f *flow, in, out int) string {
	if t.frames.learned == nil || f.in == in && f.out == out || f.in == 0 || f.out == 0 || !t.home(in, out) {
		return ""
	}
	return fmt.Sprintf("; not cheated: %v", tcpcheat.ErrTwoPorts)
}

// avoid notes why neither direction of a connection is cheated, where one should be.
func (c *conn) avoid(why string) {
	for i := range c.dirs {
		if f := &c.dirs[i]; f.speaks() || f.touches() {
			f.caveat = why
		}
	}
}

// renumber follows interfaces that have gone and come back with another index, so
// that the rows of connections are of those that there are. Branches to groups are
// named by theirs, and made anew.
func (t *flowTable) renumber(old, now *links) {
	index := map[int]int{}
	for i := range now.list {
		if was := old.named(now.list[i].Name); was != nil && was.Index != now.list[i].Index {
			index[was.Index] = now.list[i].Index
		}
	}
	if len(index) == 0 {
		return
	}
	t.updateAll(func(c *conn) {
		for i := range c.dirs {
			f := &c.dirs[i]
			if toGroup(f.key) {
				continue
			}
			if to, ok := index[f.in]; ok {
				f.in = to
			}
			if to, ok := index[f.out]; ok {
				f.out = to
			}
		}
	})
}
