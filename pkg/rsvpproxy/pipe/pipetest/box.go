// Package pipetest is for the tests of tunnels and aggregates: nodes with a table of
// pipes each, joined as the event loop joins them, under virtual time.
package pipetest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Table is a table of tunnels or of aggregates.
type Table interface {
	Incoming(time.Time, *softstate.Received) (consumed bool, out []pipe.Effect)
	Reserve(time.Time, softstate.Reserve) (held bool, out []pipe.Effect)
	Result(now time.Time, id uint64, granted bool) []pipe.Effect
	Release(time.Time, uint64) (unknown bool, out []pipe.Effect)
	Event(time.Time, softstate.Event) []pipe.Effect
	NextDeadline() (time.Time, bool)
	Advance(time.Time) []pipe.Effect
}

// Box is a node and what it has in place. It embeds in what knows its routes, and
// which sets what it does otherwise.
type Box struct {
	T       *testing.T
	Clock   *Clock
	Name    string
	Addrs   map[softstate.IfIndex]netip.Addr
	Node    *softstate.Node
	Granted map[uint64]softstate.Reserve

	Table    func() Table // nil: it has none
	Send     func(softstate.Send)
	Transmit func(softstate.Send)         // what the table sends
	Handle   func(softstate.Received)     // to the machine
	Refuses  func(softstate.Reserve) bool // traffic control
	Check    func()                       // what holds at any time

	queue []softstate.Effect
	busy  bool
}

// NewBox returns one without a node.
func NewBox(t *testing.T, c *Clock, name string, addrs map[softstate.IfIndex]netip.Addr) *Box {
	b := &Box{T: t, Clock: c, Name: name, Addrs: addrs, Granted: map[uint64]softstate.Reserve{}}
	b.Table = func() Table { return nil }
	b.Handle = func(rx softstate.Received) { b.Perform(b.Node.Handle(c.Now, rx)) }
	b.Refuses = func(softstate.Reserve) bool { return false }
	b.Check = func() {}
	c.boxes = append(c.boxes, b)
	return b
}

// Routes is of [softstate.Environment], as are Addr, Addr6, AddrTowards and Local:
// a box has no groups.
func (b *Box) Routes(_, _ netip.Addr, _ softstate.IfIndex) ([]softstate.IfIndex, bool) {
	return nil, false
}

// Addr is an address of IPv4.
func (b *Box) Addr(i softstate.IfIndex) netip.Addr { return b.Addrs[i] }

// Addr6 is none.
func (b *Box) Addr6(softstate.IfIndex) netip.Addr { return netip.Addr{} }

// AddrTowards is the only one that there is.
func (b *Box) AddrTowards(i softstate.IfIndex, _ netip.Addr) netip.Addr { return b.Addrs[i] }

// Local says whether an address is the box's own.
func (b *Box) Local(a netip.Addr) bool {
	for _, o := range b.Addrs {
		if o == a {
			return true
		}
	}
	return false
}

// Perform is what the event loop does: what comes of an effect is done after those
// that were there before.
func (b *Box) Perform(list []softstate.Effect) {
	b.queue = append(b.queue, list...)
	if b.busy {
		return
	}
	b.busy = true
	defer func() { b.busy = false }()
	for len(b.queue) > 0 {
		e := b.queue[0]
		b.queue = b.queue[1:]
		b.do(e)
	}
}

func (b *Box) do(e softstate.Effect) {
	var out []pipe.Effect
	now, table := b.Clock.Now, b.Table()
	switch e := e.(type) {
	case softstate.Send:
		b.Send(e)
	case softstate.Reserve:
		held := false
		if table != nil {
			held, out = table.Reserve(now, e)
		}
		if !held {
			b.reserve(e)
		}
	case softstate.Release:
		never := false
		if table != nil {
			never, out = table.Release(now, e.ID)
		}
		if _, ok := b.Granted[e.ID]; ok == never {
			b.T.Errorf("%s: release of %d: granted %v, the table says that it never was: %v", b.Name, e.ID, ok, never)
		}
		delete(b.Granted, e.ID)
	case softstate.Event:
		if table != nil {
			out = table.Event(now, e)
		}
	}
	b.Effects(out)
}

// reserve is traffic control.
func (b *Box) reserve(r softstate.Reserve) {
	var why *softstate.Refusal
	if b.Refuses(r) {
		why = &softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
	} else {
		b.Granted[r.ID] = r
	}
	if table := b.Table(); table != nil {
		b.Effects(table.Result(b.Clock.Now, r.ID, why == nil))
	}
	b.Perform(b.Node.ReserveResult(b.Clock.Now, r.ID, why))
}

// Effects carries out what the table wants.
func (b *Box) Effects(list []pipe.Effect) {
	now := b.Clock.Now
	for _, e := range list {
		out, mine, err := pipe.Drive(b.Node, now, e)
		if err != nil {
			b.T.Fatal(err)
		}
		if mine {
			b.Perform(out)
			continue
		}
		switch e := e.(type) {
		case pipe.Grant:
			b.reserve(e.Reserve)
		case pipe.Refuse:
			b.Perform(b.Node.ReserveResult(now, e.ID, &e.Why))
		case pipe.Deliver:
			b.Handle(e.Received)
		case pipe.Send:
			b.Transmit(e.Send)
		}
	}
}

// Receive takes a message that is for the box.
func (b *Box) Receive(rx softstate.Received) {
	if table := b.Table(); table != nil {
		consumed, out := table.Incoming(b.Clock.Now, &rx)
		b.Effects(out)
		if consumed {
			return
		}
	}
	b.Handle(rx)
}
