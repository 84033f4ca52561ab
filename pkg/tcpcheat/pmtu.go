package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// A source whose data was acknowledged here does not hear of a path that takes
// only smaller packets: an ICMP message that quotes what it believes delivered
// is not believed, and its own black hole detection sees no loss (tcp.md 2.8).
// So the engine finds out itself, as RFC 4821 has it, by what arrives: a segment
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

// pieced tells whether a record of n bytes goes in pieces.
func (c *conn) pieced(s *sent, n int) bool {
	return n > c.pieces()+crumbs && (c.ch.path > 0 || s.rtx >= maxWhole)
}

// arrivedSize draws its conclusion from the size of a segment that arrived.
func (c *conn) arrivedSize(s *sent, n int) {
	ch := c.ch
	switch {
	case ch.path > 0:
	case s.flags&sentPieces == 0:
		if n >= ch.mss {
			ch.inPieces = 0 // a whole one
		}
	default:
		if ch.inPieces++; ch.inPieces >= proofs {
			ch.path = c.pieces()
			c.stats.PathMTU = ch.path + ch.header
		}
	}
}

// inPiecesNow sends new data, of which there is a copy, in pieces; false if the
// path takes it whole.
func (e *Engine) inPiecesNow(c *conn, seq packet.Seq, data []byte) bool {
	ch := c.ch
	if ch.path == 0 || len(data) <= ch.path {
		return false
	}
	for len(data) > 0 {
		n := min(len(data), ch.path)
		e.speak(c, seq, packet.FlagACK|packet.FlagPSH, data[:n])
		seq, data = seq.Add(n), data[n:]
	}
	c.src.max = packet.MaxSeq(c.src.max, seq)
	return true
}
