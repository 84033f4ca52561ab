package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// A source whose data was acknowledged here does not hear of a path that takes
// only smaller packets: an ICMP message that quotes what it believes delivered
// is not believed, and its own black hole detection sees no loss (tcp.md 2.8).
// So the engine listens to such messages itself (toobig.go), and where there are
// none finds out as RFC 4821 has it, by what arrives: a segment
// that was lost maxWhole times goes in pieces which every path takes, and once
// only pieces arrive, new data goes in pieces too, for the rest of the flow.
const (
	maxWhole = 3 // times that a segment is sent again as it is
	proofs   = 3 // segments in a row that arrived in pieces only, before all go so
	// A segment this little above what every path takes is not cut: no link has
	// such an MTU, and the crumbs would be as many packets again.
	crumbs    = 64
	leastMTU4 = 576
	leastMTU6 = 1280
)

// pieces is the payload of a packet that every path takes (RFC 9293 section
// 3.7.1, RFC 8200 section 5).
func (c *conn) pieces() int {
	least := leastMTU6
	if c.key.Is4() {
		least = leastMTU4
	}
	return min(c.ch.mss, least-c.ch.header)
}

// cut is the payload of a full segment towards the receiver.
func (ch *cheat) cut() int {
	if ch.path > 0 {
		return min(ch.path, ch.mss)
	}
	return ch.mss
}

// piece is the payload of the segments in which a record of n bytes goes now.
func (c *conn) piece(s *sent, n int) (size int, least bool) {
	size = min(n, c.ch.cut())
	if p := c.pieces(); s.rtx >= maxWhole && size > p+crumbs {
		return p, true
	}
	return size, false
}

// arrivedSize draws its conclusion from the size of a segment that arrived.
func (c *conn) arrivedSize(now instant, s *sent, n int) {
	ch := c.ch
	switch {
	case s.flags&sentLeast == 0:
		if n >= ch.cut() {
			ch.inPieces = 0 // a whole one
		}
	case ch.path == 0 || ch.path > c.pieces():
		if ch.inPieces++; ch.inPieces >= proofs {
			c.narrow(now, c.pieces())
		}
	}
}

// narrow notes that the path takes segments of this payload only. More headers
// make what the bucket lets through at once larger.
func (c *conn) narrow(now instant, path int) {
	ch := c.ch
	ch.path, ch.pathAt = path, now
	c.stats.PathMTU = path + ch.header
	ch.bucket.set(now, &ch.Params, float64(ch.cost(ch.quantum())))
	if c.near != nil && c.near.fill != nil {
		c.near.fill.mss = min(c.near.fill.mss, path)
	}
}

// inPiecesNow sends data of the source's in pieces, and with a FIN the last of
// them; false if the path takes it whole.
func (e *Engine) inPiecesNow(c *conn, seq packet.Seq, data []byte, fin bool) bool {
	ch := c.ch
	if ch.path == 0 || len(data) <= ch.path {
		return false
	}
	from := seq
	for len(data) > 0 {
		n := min(len(data), ch.path)
		flags := uint8(packet.FlagACK | packet.FlagPSH)
		if fin && n == len(data) {
			flags |= packet.FlagFIN
		}
		e.speak(c, seq, flags, data[:n])
		seq, data = seq.Add(n), data[n:]
	}
	if fin {
		seq = seq.Add(1)
	}
	c.src.max = packet.MaxSeq(c.src.max, seq)
	e.fillData(c, from, seq, fin)
	return true
}
