package tcpcheat

import (
	"bytes"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// simSeg is a segment in flight at the source.
type simSeg struct {
	from, to packet.Seq
	at       time.Duration
	sacked   bool
	lost     bool
	rtx      int
}

// simSource is a sender: slow start and AIMD, SACK recovery, RFC 6298 timer,
// window probes, timestamps.
type simSource struct {
	s          *sim
	mss, gso   int // payload of a segment; segments in a super-packet
	shift      int
	noTS       bool
	noSACK     bool
	total      int // bytes to send
	pause      func(sent int) time.Duration
	blocked    time.Duration
	isn        packet.Seq
	una, nxt   packet.Seq
	max        packet.Seq
	rnext      packet.Seq // next of the receiver's data
	edge       packet.Seq
	wl         packet.Seq
	cwnd       float64
	ssthresh   float64
	flight     []simSeg
	dups       int
	recover    packet.Seq
	inRec      bool
	rtt        rtt
	backoff    uint
	timer      int
	open, fin  bool
	finSeq     packet.Seq
	finAcked   bool
	tsRecent   uint32
	rtos, retx int
	reset      bool
	gotReverse int
	done       time.Duration
	cc         simCC         // nil: Reno
	sendAt     time.Duration // of the next packet, where the control paces
	waking     bool
	sentFirst  bool
	handshake  time.Duration // round trip that the SYN is said to have taken
}

func (c *simSource) tsval() uint32 { return uint32(c.s.now/time.Millisecond) + 0xfffffff0 }

func (c *simSource) opts() []byte {
	if c.noTS {
		return nil
	}
	return packet.AppendTimestamps(nil, c.tsval(), c.tsRecent)
}

func (c *simSource) start(isn packet.Seq) {
	c.isn, c.una, c.nxt, c.max = isn, isn, isn.Add(1), isn.Add(1)
	c.cwnd, c.ssthresh = float64(10*c.mss), 1e12
	c.syn()
}

func (c *simSource) syn() {
	o := []byte{2, 4, byte((c.mss + c.tsLen()) >> 8), byte(c.mss + c.tsLen()), 3, 3, byte(c.shift), 1}
	if !c.noSACK {
		o = append(o, 1, 1, 4, 2)
	}
	if !c.noTS {
		o = append(o, packet.AppendTimestamps(nil, c.tsval(), 0)...)
	}
	c.xmit(c.isn, packet.FlagSYN, nil, o)
	c.s.after(time.Second, func() {
		if !c.open {
			c.syn()
		}
	})
}

func (c *simSource) tsLen() int {
	if c.noTS {
		return 0
	}
	return 12
}

func (c *simSource) xmit(seq packet.Seq, flags uint8, pay, opts []byte) {
	c.s.up.send(packet.AppendTCP(nil, &packet.Segment{
		Key: c.s.key, TTL: 64, DF: true, Seq: seq, Ack: c.rnext, Flags: flags,
		Window: 0x7fff, Options: opts, Payload: pay,
	}))
}

func (c *simSource) receive(p []byte) {
	v, err := packet.Parse(p)
	if err != nil || !v.TCPChecksumOK() {
		c.s.fail("the source received a broken packet")
		return
	}
	t := v.TCP()
	o, _ := packet.ParseOptions(t.Options())
	if t.Has(packet.FlagRST) {
		c.reset = true
		return
	}
	if t.Has(packet.FlagSYN) {
		if !c.open {
			c.open = true
			c.rnext = t.Seq().Add(1)
			c.una = t.Ack()
			c.edge = c.una.Add(int(t.Window()))
			c.tsRecent = o.TSVal
			c.rtt.sample(max(time.Millisecond, c.handshake))
		}
		c.xmit(c.nxt, packet.FlagACK, nil, c.opts())
		c.output()
		return
	}
	if o.HasTimestamps {
		if int32(o.TSVal-c.tsRecent) < 0 {
			return // PAWS
		}
		if t.Seq().AtMost(c.rnext) {
			c.tsRecent = o.TSVal
		}
	} else if !c.noTS && c.open {
		c.s.fail("segment without timestamps to the source")
	}
	if n := len(t.Payload()); n > 0 || t.Has(packet.FlagFIN) {
		if t.Seq() == c.rnext {
			if !bytes.Equal(t.Payload(), contents(7000+c.gotReverse, n)) {
				c.s.fail("the receiver's data was changed")
			}
			c.gotReverse += n
			c.rnext = c.rnext.Add(t.SegLen())
		}
		c.ack(t, &o)
		c.xmit(c.nxt, packet.FlagACK, nil, c.opts())
		c.output()
		return
	}
	c.ack(t, &o)
	c.output()
}

func (c *simSource) ack(t packet.TCP, o *packet.TCPOptions) {
	ack := t.Ack()
	if ack.After(c.max) {
		c.s.fail("ACK of unsent data")
		return
	}
	if ack.Before(c.una) {
		return
	}
	edge := ack.Add(int(t.Window()) << c.s.rcv.shift)
	opened := edge.After(c.edge)
	// Linux's tcp_may_update_window.
	if ack.After(c.una) || t.Seq().After(c.wl) || t.Seq() == c.wl && opened {
		c.edge, c.wl = edge, t.Seq()
	}
	for _, b := range o.SACK[:o.NSACK] {
		if b.Right.AtMost(ack) {
			continue
		}
		for i := range c.flight {
			if f := &c.flight[i]; f.from.AtLeast(b.Left) && f.to.AtMost(b.Right) {
				f.sacked, f.lost = true, false
			}
		}
	}
	now := c.s.now
	if ack.After(c.una) {
		bytes := ack.Diff(c.una)
		c.una, c.dups, c.backoff = ack, 0, 0
		k := 0
		for k < len(c.flight) && c.flight[k].to.AtMost(ack) {
			if c.flight[k].rtx == 0 && !c.flight[k].sacked {
				c.rtt.sample(now - c.flight[k].at)
			}
			k++
		}
		c.flight = c.flight[k:]
		if len(c.flight) > 0 && c.flight[0].from.Before(ack) {
			c.flight[0].from = ack
		}
		if c.inRec && ack.AtLeast(c.recover) {
			c.inRec = false
		}
		switch {
		case c.cc != nil:
			c.cc.acked(c, bytes)
			if c.inRec && len(c.flight) > 0 && c.flight[0].rtx == 0 {
				c.flight[0].lost = true
			}
		case c.inRec:
			if len(c.flight) > 0 && c.flight[0].rtx == 0 {
				c.flight[0].lost = true
			}
		case c.cwnd < c.ssthresh:
			c.cwnd += float64(bytes)
		default:
			c.cwnd += float64(c.mss) * float64(bytes) / c.cwnd
		}
		c.arm()
	} else if len(c.flight) > 0 && !opened {
		c.dups++
	}
	above := 0
	for i := len(c.flight) - 1; i >= 0; i-- {
		f := &c.flight[i]
		if f.sacked {
			above += f.to.Diff(f.from)
		} else if above >= 3*c.mss && f.rtx == 0 {
			f.lost = true
		}
	}
	if !c.inRec && len(c.flight) > 0 && (above >= 3*c.mss || c.dups >= 3) {
		c.inRec, c.recover = true, c.max
		if c.cc != nil {
			c.cc.lost(c)
		} else {
			c.ssthresh = max(c.cwnd/2, float64(2*c.mss))
			c.cwnd = c.ssthresh
		}
		c.flight[0].lost = true
	}
	if c.fin && ack.After(c.finSeq) && !c.finAcked {
		c.finAcked = true
		c.done = now
	}
}

func (c *simSource) inflight() int {
	n := 0
	for _, f := range c.flight {
		if !f.sacked && !f.lost {
			n += f.to.Diff(f.from)
		}
	}
	return n
}

func (c *simSource) output() {
	if !c.open || c.reset {
		return
	}
	if !c.sentFirst {
		c.sentFirst, c.nxt = true, c.una
	}
	for i := range c.flight {
		if f := &c.flight[i]; f.lost && c.inflight() < int(c.cwnd) {
			f.lost = false
			c.sendSeg(f)
		}
	}
	start := c.isn.Add(1)
	for {
		sent := c.nxt.Diff(start)
		left := c.total - sent
		if left <= 0 {
			break
		}
		if c.pause != nil && c.blocked <= c.s.now {
			if d := c.pause(sent); d > 0 {
				c.blocked = c.s.now + d
				c.s.after(d, c.output)
			}
		}
		if c.blocked > c.s.now {
			return
		}
		if c.cc != nil && c.cc.rate(c) > 0 && c.s.now < c.sendAt {
			if !c.waking {
				c.waking = true
				c.s.after(c.sendAt-c.s.now, func() { c.waking = false; c.output() })
			}
			return
		}
		n := min(left, c.gso*c.mss, int(c.cwnd)-c.inflight(), c.edge.Diff(c.nxt))
		if n < min(left, c.mss) {
			break
		}
		if n > c.mss {
			n -= n % c.mss
		}
		c.flight = append(c.flight, simSeg{from: c.nxt, to: c.nxt.Add(n)})
		c.nxt = c.nxt.Add(n)
		c.max = packet.MaxSeq(c.max, c.nxt)
		if c.cc != nil {
			if r := c.cc.rate(c); r > 0 {
				c.sendAt = max(c.sendAt, c.s.now) + time.Duration(float64(n)/r*1e9)
			}
		}
		c.sendSeg(&c.flight[len(c.flight)-1])
	}
	if c.nxt.Diff(start) == c.total && !c.fin {
		c.fin, c.finSeq = true, c.nxt
		c.flight = append(c.flight, simSeg{from: c.nxt, to: c.nxt.Add(1)})
		c.nxt = c.nxt.Add(1)
		c.max = c.nxt
		c.sendSeg(&c.flight[len(c.flight)-1])
	}
	if len(c.flight) == 0 && !c.finAcked {
		c.arm()
	}
}

func (c *simSource) sendSeg(f *simSeg) {
	if f.at > 0 {
		f.rtx++
		c.retx++
	}
	f.at = c.s.now
	n, flags := f.to.Diff(f.from), uint8(packet.FlagACK)
	if c.fin && f.to == c.finSeq.Add(1) {
		n, flags = n-1, flags|packet.FlagFIN
	}
	off := f.from.Diff(c.isn.Add(1))
	c.xmit(f.from, flags, contents(off, n), c.opts())
	if len(c.flight) > 0 && f == &c.flight[0] {
		c.arm()
	}
}

func (c *simSource) arm() {
	c.timer++
	if c.finAcked || c.reset {
		return
	}
	id := c.timer
	c.s.after(min(c.rtt.timeout()<<c.backoff, 30*time.Second), func() {
		if id != c.timer || c.finAcked || c.reset {
			return
		}
		c.backoff = min(c.backoff+1, 8)
		if len(c.flight) == 0 {
			if c.nxt.Diff(c.isn.Add(1)) < c.total && c.edge.Diff(c.nxt) < c.mss {
				c.xmit(c.una.Add(-1), packet.FlagACK, nil, c.opts()) // window probe
			}
			c.arm()
			return
		}
		c.rtos++
		c.ssthresh = max(c.cwnd/2, float64(2*c.mss))
		c.cwnd = float64(c.mss)
		c.inRec, c.recover = true, c.max
		for i := range c.flight {
			c.flight[i].lost = !c.flight[i].sacked
		}
		c.flight[0].lost, c.flight[0].sacked = false, false
		c.sendSeg(&c.flight[0])
		c.output()
	})
}
