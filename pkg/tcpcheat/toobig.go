package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// plateaus are the MTUs that links have (RFC 1191 section 7.1), for routers that
// do not tell theirs.
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006}

// tooBig handles an ICMP error that says that a packet did not fit. It goes on to
// the source whatever is in it; but of data that the source was told is
// delivered it believes nothing (RFC 5927 section 4.1), and would not
// send it again in smaller segments. That is then the engine's to do.
func (e *Engine) tooBig(v packet.View) {
	q, ok := v.TooBig()
	if !ok {
		return
	}
	c := e.find(q.Key)
	if c == nil || c.ch == nil || q.Key != c.key {
		return // the two ends' own matter
	}
	path, ok := c.believe(&q)
	if !ok {
		c.stats.TooBigRefused++
		e.totals.TooBigRefused++
		return
	}
	ch := c.ch
	c.stats.TooBig++
	e.totals.TooBig++
	narrower := path < ch.cut()
	if narrower {
		c.narrow(e.now, path)
	}
	switch {
	case ch.Mode == Reliable:
		c.tooLong(q.Seq)
	case narrower && ch.early.due != 0: // others are about copies of the same
		e.rescue(c)
	}
	if ch.active {
		e.pump(c)
	}
}

// believe checks an error against what was sent, and gives the payload that the
// path takes. The quoted segment must be one of those on their way (RFC 5927
// section 4.1), and the claimed MTU less than its packet, which is the error's
// whole meaning (RFC 8201 section 4: an estimate does not grow by it).
func (c *conn) believe(q *packet.TooBig) (path int, ok bool) {
	if q.Seq.Before(c.rcv.ack) || !q.Seq.Before(c.src.max) {
		return 0, false
	}
	mtu, least := q.MTU, leastMTU6
	if c.key.Is4() {
		least = leastMTU4
		if mtu == 0 { // RFC 1191 section 5
			mtu = plateau(q.Len)
		}
		mtu = max(mtu, least)
	}
	// RFC 8201 section 4: less than that must be discarded.
	return mtu - c.ch.header, mtu >= least && mtu < q.Len
}

// plateau is the largest usual MTU below a packet's length (RFC 1191 section 7).
func plateau(length int) int {
	for _, p := range plateaus {
		if p < length {
			return p
		}
	}
	return leastMTU4
}

// tooLong marks what is lost when the segment at seq did not fit: it, and what
// was sent after it and is too long as well. What was sent since the path's MTU is
// known did fit; the error is about an earlier copy of it then.
func (c *conn) tooLong(seq packet.Seq) {
	ch := c.ch
	f := &ch.flight
	i := f.find(seq)
	if i == f.tail || !c.exceeds(i) {
		return
	}
	since := f.at(i).at
	for ; i != f.tail; i++ {
		if f.at(i).at >= since && c.exceeds(i) {
			was := f.lost
			f.setLost(i)
			c.stats.Lost += uint64(f.lost - was)
		}
	}
}

// exceeds tells whether the last copy of record i went in segments that the path
// does not take.
func (c *conn) exceeds(i uint64) bool {
	f := &c.ch.flight
	s := f.at(i)
	return s.at < c.ch.pathAt && s.flags&sentLeast == 0 && s.end.Diff(f.from(i)) > c.ch.path
}
