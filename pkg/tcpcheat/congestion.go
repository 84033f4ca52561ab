package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// newReno is the congestion control of RFC 5681 and RFC 6582. It governs what
// the box sends of its own while no reservation is in place: the bytes in hand
// when a reservation goes are then best effort like any other, and whoever
// sends them must be as fair as any other. What was in flight was sent at the
// reserved rate and says nothing of the path, so the window begins as that of
// a new connection.
type newReno struct {
	on       bool
	mss      int
	window   int        // cwnd, bytes
	ssthresh int        // bytes
	credit   int        // acknowledged since the last step of congestion avoidance
	reduced  instant    // when the window was last reduced
	recover  packet.Seq // end of what had been sent by then
	bounded  bool       // recover is set
	recovery bool       // until recover is acknowledged
	unproved bool       // the window was reduced by a timeout that has not been answered
	full     bool       // the window has stood in the way since the last acknowledgement
	free     bool       // one segment may go whatever the window is
}

// endless is more than any flight.
const endless = 1 << 30

// begin takes over: RFC 6928 section 2, and RFC 5681 section 3.1 for ssthresh.
func (n *newReno) begin(mss int) {
	*n = newReno{on: true, mss: mss, window: min(10*mss, max(2*mss, 14600)), ssthresh: endless}
}

// acked notes that the receiver has acknowledged so many new bytes, up to ack.
// A window that was not used up proves nothing, and does not grow.
func (n *newReno) acked(bytes int, ack packet.Seq) {
	n.unproved = false
	if n.recovery {
		if ack.Before(n.recover) {
			return // RFC 6582 section 3.2 step 3: a partial ACK opens nothing
		}
		n.recovery = false
		n.window = n.ssthresh // a full ACK
		return
	}
	if !n.full {
		return
	}
	n.full = false
	if n.window < n.ssthresh {
		n.window = min(n.window+min(bytes, n.mss), endless) // RFC 5681 section 3.1 (2)
		return
	}
	// RFC 5681 section 3.1: one segment per window of acknowledged bytes.
	if n.credit += bytes; n.credit >= n.window {
		n.credit -= n.window
		n.window = min(n.window+n.mss, endless)
	}
}

// lost reduces the window for a segment sent at that time and lost. All losses
// of one round trip count once: what was sent before the last reduction was
// sent under the larger window (RFC 6582 section 3.2 step 2). A retransmission
// that is lost in its turn was not, and counts (RFC 8985 section 9.3).
func (n *newReno) lost(now, sentAt instant, flight int, end packet.Seq) {
	if n.bounded && sentAt <= n.reduced {
		return
	}
	n.ssthresh = max(min(flight, n.window)/2, 2*n.mss) // RFC 5681 section 3.1 (4)
	n.window, n.credit = n.ssthresh, 0
	n.note(now, end)
	n.recovery = true
	n.free = true // RFC 6675 section 5 step 4.3: the first goes at once
}

// marked is the answer to a congestion mark: as to a loss, once per window of
// data (RFC 3168 section 6.1.2).
func (n *newReno) marked(now instant, flight int, ack, end packet.Seq) {
	if n.bounded && ack.Before(n.recover) {
		return
	}
	n.ssthresh = max(min(flight, n.window)/2, 2*n.mss)
	n.window, n.credit = n.ssthresh, 0
	n.note(now, end)
	n.recovery = true
}

// timeout is RFC 5681 section 3.1: the loss window of one segment; ssthresh is
// halved by the first timeout of a segment and not by those that follow.
func (n *newReno) timeout(now instant, flight int, end packet.Seq) {
	if !n.unproved {
		n.ssthresh = max(min(flight, n.window)/2, 2*n.mss)
	}
	n.window, n.credit, n.unproved = n.mss, 0, true
	n.note(now, end)
	n.recovery = false // RFC 6582 section 3.2 step 4
	n.free = true
}

func (n *newReno) note(now instant, end packet.Seq) {
	n.reduced, n.recover, n.bounded = now, end, true
}

// allows tells whether a segment may be sent with so many bytes under way.
func (n *newReno) allows(pipe int) bool {
	if !n.on || n.free || pipe+n.mss <= n.window {
		return true
	}
	n.full = true
	return false
}

// pipe estimates what is under way, in full segments (RFC 6675 section 4): what
// was neither acknowledged nor reported, and is not taken for lost. Without
// SACK each duplicate ACK tells of a segment that has left (RFC 6582).
func (c *conn) pipe() int {
	f := &c.ch.flight
	n := int(f.tail-f.head) - f.lost - f.sacked - f.absent
	if !c.sack {
		n -= c.ch.rto.dupAcks
	}
	return max(n, 0) * c.ch.mss
}
