package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// instant is a time since the engine's first call.
type instant = time.Duration

const never instant = 1<<63 - 1

// host is what is known of one end from the segments it sent.
type host struct {
	isn       packet.Seq
	max       packet.Seq       // end of the highest sequence number it sent
	ack       packet.Seq       // highest acknowledgement number it sent
	fin       packet.Seq       // sequence number of its FIN
	next      packet.Seq       // what is contiguous of what it sent
	ahead     packet.SACKBlock // seen beyond a hole
	tsval     uint32           // latest, in the order of RFC 7323
	stamp     uint32           // latest of a segment in order
	tsecr     uint32
	flowLabel uint32
	id, made  uint16     // identification of its latest packet; of the latest made in its name without DF
	win       uint16     // the window field of its latest segment
	mss       uint16     // as offered in its SYN
	shift     int8       // of its window field; -1: no option in its SYN
	ttl, tos  uint8      // ECN bits cleared
	port      int32      // of a bridge that it is behind; 0: unknown, or there is no bridge
	claim     packet.Seq // acknowledged by the peer, and not seen from this host
	claimAt   instant    // since then; 0: no such thing
	claimDue  instant    // until then it may show to be true
	syn       bool
	finSeen   bool
	sackOK    bool
	tsOK      bool
	df        bool
}

// conn is one connection. Watching costs only this; what cheating needs is
// behind ch and exists from Start on.
type conn struct {
	key    packet.FlowKey // direction of the data: from source to receiver
	state  State
	scaled bool // both SYNs carried a window scale
	sack   bool // both SYNs permitted SACK
	ts     bool // both SYNs carried timestamps
	opener *host
	left   error // why it is left alone
	reason string
	src    host
	rcv    host

	passed  packet.Seq // highest acknowledgement that the source was given
	offered packet.Seq // rightmost window edge that the source was ever given
	edge    packet.Seq // the receiver's own right edge, latest

	rttSrc, rttRcv rtt
	timed          packet.Seq // one data segment is timed at once (RFC 6298 section 3)
	timedAt        instant
	timing         bool
	synAt          instant
	shownTS        uint32 // receiver's latest TSval that the source was shown
	shownAny       bool
	echoTS         uint32 // receiver's TSval whose echo from the source is awaited
	echoAt         instant
	echoing        bool

	elsewhere  instant // since then the source hears the receiver by another way; 0: no such thing
	unsure     bool    // for so long that nothing more is promised for the receiver
	ask        asking
	serial     uint64  // of the connection, from the first time that its source is asked
	early      []early // sent before the reservation and not acknowledged
	earlyBytes int
	waited     time.Duration // the longest that it took until one of them was
	tooMuch    bool          // more than is kept

	place  int     // of its promises in the record, plus one; 0: none
	recall *recall // of a connection that an earlier process has cheated

	want *Params // what Start asked for before the connection could be treated

	blind   bool    // its source is not seen any more
	handled uint64  // packets
	counted uint64  // as of the last look for the busiest
	last    instant // of any packet
	doubted instant // of the last reset that did not fit
	due     instant // in the heap
	heap    int     // place in the heap; -1: none

	ch     *cheat
	near   *near
	pos    uint64 // offset of rcv.ack in the source's stream
	filled *filled
	// openings are the first bytes of both directions, until fragile is known.
	openings *[2]opening
	fragile  error // why a filled byte would end the stream
	unread   bool  // nobody looks for that
	plain    bool  // it will not be cheated
	midway   bool  // its handshake was not seen: no scale, no options known
	stats    Stats
}

// cheat is the state of a flow with a reservation.
type cheat struct {
	Params
	mss      int        // payload of a full segment
	header   int        // IP and TCP header of a full segment
	base     packet.Seq // what was sent before Start belongs to the two ends
	active   bool       // everything below base was acknowledged
	next     packet.Seq // contiguous end of the source's data: ours to acknowledge
	ooo      ranges     // what is beyond a hole in front of the box
	released packet.Seq // what the bucket has let through
	pend     pending
	bucket   bucket
	stop     packet.Seq // while draining: acknowledge no further
	blind    bool       // while draining: the receiver is not heard any more
	proven   bool       // and lacks nothing of what was acknowledged for it
	rounds   int        // of sending again what it may lack
	roundAt  instant    // the next, or the end
	why      string     // while draining: reason for the state afterwards

	ackNow    bool // an acknowledgement is owed without delay
	reack     bool // an answer to a duplicate is owed
	reackAt   instant
	lastWin   uint16 // window field of the last segment to the source
	fakes     uint64
	recentTS  uint32 // TSval of the latest in-order segment
	ece       bool   // echo congestion until CWR (RFC 3168 section 6.1.3)
	eceUntil  packet.Seq
	eceMuted  bool
	heard     bool // reliable: marks are answered again from heardTo on
	heardTo   packet.Seq
	cwr       bool // reliable: an answer to the receiver's echo is due
	predict   prediction
	hole      bool
	holeSince instant
	holeSeen  bool
	dupAcks   int

	progress instant // the receiver last acknowledged something new
	waiting  instant // since then something waits for its acknowledgement; 0: nothing does
	alive    instant // the receiver last sent anything
	owed     instant // since then the source believes more delivered than is; 0: no
	probed   instant // it was last asked to
	probes   uint    // unanswered ones

	hold   hold
	flight flight
	rto    retransmit
	tail   tail
	reno   newReno
	early  handover

	path     int     // payload that the path takes, where it was found to take less than the source sends
	pathAt   instant // since when
	inPieces int     // segments that arrived in the smallest pieces only
}

// treated tells whether anything is done with the connection.
func (c *conn) treated() bool { return c.ch != nil || c.near != nil }

func (c *conn) shiftRcv() int8 {
	if c.scaled {
		return c.rcv.shift
	}
	return 0
}

// from notes what every segment of a host tells.
func (h *host) from(v packet.View, t packet.TCP, o *packet.TCPOptions) {
	h.ttl, h.tos, h.df = v.TTL(), v.TOS()&^3, v.DF()
	h.flowLabel, h.id = v.FlowLabel(), v.ID()
	if t.Has(packet.FlagACK) {
		h.win = t.Window()
	}
	if o.HasTimestamps && int32(o.TSVal-h.tsval) >= 0 {
		h.tsval, h.tsecr = o.TSVal, o.TSEcr
	}
}

// inOrder notes the TSval of a segment that its other end, which has
// acknowledged acked, takes for the next one or an older one. Only from such a
// segment does it take TS.Recent (RFC 7323 section 4.3); a fake ACK with a
// later TSval would have it discard, by PAWS, what is still on its way.
func (h *host) inOrder(seq, end, acked packet.Seq, tsval uint32) {
	h.next = packet.MaxSeq(h.next, acked)
	if seq.After(h.next) {
		if h.ahead.Right.Before(seq) || h.ahead.Left.AtMost(h.next) {
			h.ahead.Left = seq
		}
		h.ahead.Right = packet.MaxSeq(h.ahead.Right, end)
		return
	}
	h.next = packet.MaxSeq(h.next, end)
	if h.ahead.Left.AtMost(h.next) && h.ahead.Right.After(h.next) {
		h.next = h.ahead.Right
	}
	if int32(tsval-h.stamp) >= 0 {
		h.stamp = tsval
	}
}

// rtt is the estimator of RFC 6298 section 2.
type rtt struct {
	smooth, dev, min time.Duration
	now, before      time.Duration // lowest of this span of time, and of the one before
	turn             instant       // of the spans
	borrowed         bool          // from ICMP: the first sample of TCP's own takes its place
}

// rttSpan is how long a round trip counts as one without congestion.
const rttSpan = 10 * time.Second

// lowest is the least round trip of late.
func (r *rtt) lowest(now instant) time.Duration {
	if now-r.turn >= rttSpan && r.now > 0 {
		r.before, r.now, r.turn = r.now, 0, now
	}
	switch {
	case r.now == 0:
		return r.before
	case r.before == 0:
		return r.now
	}
	return min(r.now, r.before)
}

func (r *rtt) sample(d time.Duration) {
	if d < 0 {
		return
	}
	if r.borrowed {
		*r = rtt{}
	}
	d = max(d, time.Microsecond)
	if r.now == 0 || d < r.now {
		r.now = d
	}
	if r.smooth == 0 {
		r.smooth, r.dev, r.min = d, d/2, d
		return
	}
	r.min = min(r.min, d)
	r.dev += ((r.smooth - d).Abs() - r.dev) / 4
	r.smooth += (d - r.smooth) / 8
}

// timeout is RFC 6298 section 2.3 with the bounds of this engine.
func (r *rtt) timeout() time.Duration {
	if r.smooth == 0 {
		return initialRTO
	}
	return min(max(minRTO, r.smooth+max(4*r.dev, minRTO/4)), maxRTO)
}
