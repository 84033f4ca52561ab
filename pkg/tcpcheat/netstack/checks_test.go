package netstack

import (
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// checks holds the engine's promises at each packet. It sees what the two
// stacks send, and what the source gets from the box at its side.
type checks struct {
	w      *world
	speaks bool // a box acknowledges on the receiver's behalf
	steady bool // acknowledgements are not reordered, and the treatment stays
	resets bool // an end may reset the connection
	// helpless: there was a reset, and a stack was stuck.
	helpless bool

	a, b  saying
	shown bool
	ack   packet.Seq // highest that the source was shown
	edge  packet.Seq
}

// saying is what a stack itself has said.
type saying struct {
	any   bool
	max   packet.Seq // end of what it sent
	fin   packet.Seq
	ended bool
	left  bool       // it has moved its own edge left
	ack   packet.Seq // highest acknowledgement
	edge  packet.Seq // rightmost edge
	shift int8
}

func (c *checks) says(s *saying, f frame) {
	v, err := packet.Parse(f.b)
	if err != nil {
		c.w.fail("a stack sent what does not parse: %v", err)
		return
	}
	t := v.TCP()
	c.trace(s, v)
	if t.Has(packet.FlagSYN) {
		o, _ := packet.ParseOptions(t.Options())
		s.shift = o.WindowScale
	}
	end := t.Seq().Add(t.SegLen())
	if !s.any || end.After(s.max) {
		s.max = end
	}
	if t.Has(packet.FlagFIN) {
		s.ended, s.fin = true, end.Add(-1)
	}
	if t.Has(packet.FlagACK) && !t.Has(packet.FlagRST) {
		edge := t.Ack().Add(int(t.Window()) << c.shift(t))
		if s != &c.b {
			edge = t.Ack()
		}
		if !s.any || s.ack == 0 {
			s.ack, s.edge = t.Ack(), edge
		}
		if !edge.AtLeast(s.edge) {
			s.left = true
		}
		s.ack, s.edge = packet.MaxSeq(s.ack, t.Ack()), packet.MaxSeq(s.edge, edge)
	}
	s.any = true
}

// shift is of the window field of b's segments.
func (c *checks) shift(t packet.TCP) int8 {
	if t.Has(packet.FlagSYN) || c.a.shift < 0 || c.b.shift < 0 {
		return 0
	}
	return c.b.shift
}

// toSource sees what the source gets.
func (c *checks) toSource(f frame) {
	v, err := packet.Parse(f.b)
	if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
		c.w.fail("a broken packet to the source: %v", err)
		return
	}
	t := v.TCP()
	if t.Has(packet.FlagRST) {
		if !c.mayReset() {
			c.w.fail("a reset to the source")
		}
		return
	}
	if t.Has(packet.FlagSYN) || !t.Has(packet.FlagACK) {
		return
	}
	ack, unit := t.Ack(), 1<<c.shift(t)
	edge := ack.Add(int(t.Window()) * unit)
	if ack.After(c.a.max) {
		c.w.fail("the source is acknowledged %d bytes more than it sent", ack.Diff(c.a.max))
	}
	if c.a.ended && ack.After(c.a.fin) && !c.b.ack.After(c.a.fin) {
		c.w.fail("the source's FIN is acknowledged for the receiver")
	}
	if !c.speaks {
		if ack.After(c.b.ack) {
			c.w.fail("the source is acknowledged %d bytes more than the receiver acknowledged", ack.Diff(c.b.ack))
		}
		if edge.After(c.b.edge) {
			c.w.fail("the source is offered %d bytes more than the receiver offers", edge.Diff(c.b.edge))
		}
	}
	if t.SegLen() > 0 && t.Seq().Add(t.SegLen()).After(c.b.max) {
		c.w.fail("the source gets data that the receiver never sent")
	}
	// RFC 9293 section 3.8.6 (SHLD-14); RFC 7323 section 2.4 allows for less than
	// a unit of the window field.
	if c.steady && !c.b.left && c.shown && !ack.Before(c.ack) && c.edge.Diff(edge) >= unit {
		c.w.fail("the right edge moved left by %d", c.edge.Diff(edge))
	}
	if !c.shown {
		c.shown, c.ack, c.edge = true, ack, edge
	}
	c.ack, c.edge = packet.MaxSeq(c.ack, ack), packet.MaxSeq(c.edge, edge)
}

// mayReset: late copies at an end whose connection is gone are answered so
// (RFC 9293 section 3.5.2). And a box ends a connection whose receiver takes
// nothing any more, be it that the source does not say it again: see host.stuck.
func (c *checks) mayReset() bool {
	c.helpless = c.helpless || c.w.a.stuck() || c.w.b.stuck()
	return c.resets || c.helpless || c.w.a.app.gone() || c.w.b.app.gone()
}

// toReceiver sees what the receiver gets.
func (c *checks) toReceiver(f frame) {
	v, err := packet.Parse(f.b)
	if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
		c.w.fail("a broken packet to the receiver: %v", err)
		return
	}
	t := v.TCP()
	if t.Has(packet.FlagRST) && !c.mayReset() {
		c.w.fail("a reset to the receiver")
	}
	if t.Seq().Add(t.SegLen()).After(c.a.max) {
		c.w.fail("the receiver gets more than the source sent")
	}
}

func (c *checks) trace(s *saying, v packet.View) {
	if !*traced {
		return
	}
	who := "A sends"
	if s == &c.b {
		who = "B sends"
	}
	c.w.trace(who, v)
}

// trace writes a packet down, with numbers relative to the two ends' first.
func (w *world) trace(who string, v packet.View) {
	t := v.TCP()
	o, _ := packet.ParseOptions(t.Options())
	if t.Has(packet.FlagSYN) {
		if v.Src() == w.a.addr {
			w.isnA = t.Seq()
		} else {
			w.isnB = t.Seq()
		}
	}
	mine, his := w.isnA, w.isnB
	if v.Src() != w.a.addr {
		mine, his = his, mine
	}
	var flags string
	for i, c := range "FSRPAUEC" {
		if t.Flags()>>i&1 != 0 {
			flags += string(c)
		}
	}
	sack := ""
	for _, b := range o.SACK[:o.NSACK] {
		sack += fmt.Sprintf(" [%d %d)", b.Left.Diff(his), b.Right.Diff(his))
	}
	w.t.Logf("%12v %-16s %-3s seq %d+%d ack %d win %d ts %d %d%s", w.now, who, flags, t.Seq().Diff(mine), t.SegLen(), t.Ack().Diff(his), t.Window(), o.TSVal, o.TSEcr, sack)
}
