package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// thinner drops pure ACKs of a receiver that add nothing for who is on the
// other side of a narrow way back (RFC 3449 section 5.2.1).
//
// A filter in a transmit queue looks behind itself: it drops an older ACK when
// a newer one stands behind it. A verdict has to be given at once, so here it
// is the other way round: an ACK that may go is dropped now, and its state is
// owed. The latest owed ACK is kept, byte for byte, and goes out when the rate
// allows one, when the connection falls silent, or when it was kept as long as
// one may be (hold), whichever is first. What carries news goes at once. The
// order of what the receiver said is never changed.
//
// SACK blocks are state as well, of which an ACK holds the latest few only. One
// that is owed is therefore dropped only if the next says all of it; else it
// goes first. And the first three of a loss go at once, since they start the
// source's recovery.
//
// The rate is a bucket of time: an ACK costs the time between two of them, and
// some may follow each other after a pause, so that short exchanges and the
// first round trips of a slow start lose none. A small reserve of it is kept
// for the end of a train of data, whose last ACK is the one that a source with
// a full window waits for.
type thinner struct {
	rate float64       // bytes/s of ACKs; 0: what the round trip allows
	hold time.Duration // the longest that an ACK is kept; 0: none is

	known    bool
	last     packet.Seq // highest acknowledgement of the receiver
	win      int        // window of its latest segment
	unscaled bool       // in units that are not known
	edge     packet.Seq // right edge of its latest segment
	told     packet.Seq // rightmost edge that went to the source
	loss     bool       // the receiver tells of a hole
	tales    int        // how often it has by SACK blocks, in this loss
	active   instant    // latest segment of either side
	credit   time.Duration
	at       instant // of credit
	rtt      time.Duration
	flow     int // bytes of the source in the last round trip
	flowFrom packet.Seq
	flowAt   instant

	dropped uint64 // ACKs that the source never gets
	late    uint64 // ACKs that were kept and sent

	since  instant    // the oldest state that is owed
	owedTo packet.Seq // right edge of the ACK that is owed
	blocks [4]packet.SACKBlock
	nblock int
	n      int // its bytes; 0: nothing is owed
	buf    [maxThin]byte
}

const (
	// maxThin is the longest ACK that can be kept: an IPv6 header, and a TCP
	// header with all its options.
	maxThin = 100
	// thinShare of the round trip is what an ACK may wait where no rate is
	// configured: RACK waits a quarter before it takes a segment for lost (RFC
	// 8985 section 6.2). HyStart takes a delay of an eighth for the sign of a
	// queue (RFC 9406 section 4.2), but looks at the latest segment that is
	// acknowledged, which has not waited.
	thinShare = 5
	// maxAutoHold and minAutoHold bound that. Longer trains of data than those
	// of 20 ms find no queue that takes them in one piece; and a way back on
	// which a millisecond is much is not narrow, so there nothing is dropped.
	maxAutoHold = 20 * time.Millisecond
	minAutoHold = time.Millisecond
	// maxHold bounds the wait at any rate. Linux adds at least 200 ms to the
	// round trip before it sends again, and this must not be near.
	maxHold = 100 * time.Millisecond
	// thinBurst is how many ACKs may follow each other after a pause: those of
	// the ten segments with which a source begins (RFC 6928), of which Linux
	// acknowledges each one, and the reserve. More would crowd a way back of
	// 50 kbit/s for so long that the source ends its slow start.
	thinBurst = 12
	// thinReserve of them are kept for ends of trains.
	thinReserve = 2
	// thinTales is how many ACKs with SACK blocks go at once in a loss: DupThresh
	// of RFC 6675 section 2.
	thinTales = 3
	// thinSteps are those in which a whole window opens at least.
	thinSteps = 8
	// Where the window is what limits the source, an ACK that waits is time
	// that is lost: it waits for a quarter as long, unless the round trip is
	// above its least by more than a quarter. The way back is then crowded,
	// and more ACKs would not make it shorter.
	windowShare = 4
	// quietShare of the hold without a segment of either side is a pause.
	quietShare = 4
	minQuiet   = time.Millisecond
)

// thinSeen is a segment of the receiver, on its way to the source.
type thinSeen struct {
	packet []byte     // the whole of it, with a complete checksum
	head   int        // its bytes without data
	ack    packet.Seq // it is an ACK
	win    int        // bytes
	sent   packet.Seq // end of the source's data that has passed here
	mss    int
	// unscaled says that win is in units that are not known.
	unscaled bool
	bare     bool // no data, no SYN, FIN or RST
	plain    bool // see plain: nothing but an acknowledgement and a window
	dsack    bool // its first SACK block tells of bytes that came twice
	blocks   []packet.SACKBlock
}

// thinAct is what becomes of a segment of the receiver.
type thinAct uint8

const (
	thinPass  thinAct = iota // it goes on; what was owed is in it, or still owed
	thinAfter                // it goes on after what is owed
	thinKeep                 // it goes no further now
	thinSwap                 // nor does it, but what is owed goes, and this is owed instead
)

// set takes a rate, in bytes/s, or 0, and the round trip between this box and
// the source, smoothed and at its least, of which only a rate of 0 takes note.
func (t *thinner) set(rate float64, rtt, least time.Duration) {
	t.rate, t.rtt = rate, rtt
	if rate > 0 {
		// The cost of an ACK of full length, or the whole of maxHold.
		t.hold = min(time.Duration(maxThin/rate*1e9), maxHold)
		return
	}
	t.hold = min(rtt/thinShare, maxAutoHold)
	if t.known && !t.unscaled && 4*t.flow >= 3*t.win && rtt <= least*5/4 {
		t.hold /= windowShare
	}
	if t.hold < minAutoHold {
		t.hold = 0
	}
}

// cost is the time that an ACK of n bytes takes at the rate.
func (t *thinner) cost(n int) time.Duration {
	if t.rate > 0 {
		return min(time.Duration(float64(n)/t.rate*1e9), maxHold)
	}
	return t.hold
}

func (t *thinner) quiet() time.Duration { return max(t.hold/quietShare, minQuiet) }

func (t *thinner) refill(now instant, cost time.Duration) {
	if !t.known {
		t.credit, t.at = thinBurst*cost, now
	}
	t.credit = min(t.credit+now-t.at, thinBurst*cost)
	t.at = now
}

// data notes that a segment of the source went by, which ends there.
func (t *thinner) data(now instant, end packet.Seq) {
	t.active = now
	if d := now - t.flowAt; d >= t.rtt {
		t.flow = int(float64(end.Diff(t.flowFrom)) * t.rtt.Seconds() / max(d, 1).Seconds())
		t.flowFrom, t.flowAt = end, now
	}
}

// offer decides about a segment of the receiver. After thinAfter and thinSwap,
// and before anything else, take gives what goes first; after thinSwap keep
// takes the segment.
func (t *thinner) offer(now instant, s *thinSeen) thinAct {
	cost := t.cost(s.head)
	t.refill(now, cost)
	t.active = now
	if t.known && s.ack.Before(t.last) {
		return thinPass // an old one, overtaken on its way here
	}
	edge := s.ack.Add(s.win)
	sack := len(s.blocks) > 0
	news := t.news(s, edge)
	same := t.known && s.ack == t.last && s.bare && (s.win == t.win || sack)
	switch {
	case sack:
		t.loss, t.tales = true, t.tales+1
	case same:
		t.loss = true
	case s.ack != t.last:
		t.loss, t.tales = false, 0
	}
	if !t.known {
		t.told = edge
	}
	t.known, t.last, t.win, t.edge, t.unscaled = true, s.ack, s.win, edge, s.unscaled
	switch {
	case news || t.credit >= cost*(1+thinReserve):
		t.spend(cost)
		t.tell(edge)
		if t.n > 0 && (same && t.tales <= thinTales || !t.covered(s)) {
			// Repetitions are counted (RFC 5681 section 3.2): the source
			// must have the first to know that they are some.
			return thinAfter
		}
		t.forget()
		return thinPass
	case t.n > 0 && !t.covered(s):
		return thinSwap
	}
	t.keep(now, s)
	return thinKeep
}

// keep has the thinner owe a segment, instead of what it owes.
func (t *thinner) keep(now instant, s *thinSeen) {
	if t.n > 0 {
		t.dropped++
	} else {
		t.since = now
	}
	t.n = copy(t.buf[:], s.packet)
	t.owedTo = s.ack.Add(s.win)
	t.nblock = copy(t.blocks[:], s.blocks)
}

// covered tells whether a segment says everything that is owed.
func (t *thinner) covered(s *thinSeen) bool {
owed:
	for _, b := range t.blocks[:t.nblock] {
		if b.Right.AtMost(s.ack) {
			continue
		}
		for _, c := range s.blocks {
			if b.Left.AtLeast(c.Left) && b.Right.AtMost(c.Right) {
				continue owed
			}
		}
		return false
	}
	return true
}

// news tells whether a segment says more than a later one of its kind would.
func (t *thinner) news(s *thinSeen, edge packet.Seq) bool {
	sack := len(s.blocks) > 0
	switch {
	case t.hold == 0, !t.known, !s.plain, len(s.packet) > maxThin:
		return true
	case s.dsack, sack && t.tales < thinTales:
		return true
	case s.ack == t.last && !sack:
		return true // a duplicate ACK, a window update, the answer to a probe
	case t.loss && !sack:
		return true // the hole is filled (RFC 6582 section 3.2)
	case s.win == 0, t.win == 0:
		return true // closed, or open again
	case s.unscaled:
		// Nothing else can be said about windows.
	case s.win < 2*s.mss, t.win < 2*s.mss:
		return true // all but closed, or open again
	case edge.Before(t.edge):
		return true // shrunk (RFC 9293 section 3.8.6)
	case t.told.Diff(s.sent) < 2*s.mss && thinSteps*edge.Diff(t.told) >= s.win:
		// The source has come to its edge, and this moves it well. To pass
		// less at once would have a crowded way back keep itself crowded: what
		// makes it long makes the source wait at its edge.
		return true
	}
	return false
}

// spend pays for an ACK. Debt is bounded: news never waits for it.
func (t *thinner) spend(cost time.Duration) { t.credit = max(t.credit-cost, -cost) }

func (t *thinner) tell(edge packet.Seq) { t.told = packet.MaxSeq(t.told, edge) }

// forget drops what is owed, because a later segment says it too.
func (t *thinner) forget() {
	if t.n > 0 {
		t.dropped++
		t.n = 0
	}
}

// due is when what is owed wants to go.
func (t *thinner) due() instant {
	if t.n == 0 {
		return never
	}
	cost := t.cost(t.n)
	end := max(t.active+t.quiet(), t.at+cost-t.credit)
	return min(t.since+t.hold, t.at+cost*(1+thinReserve)-t.credit, end)
}

// take gives what is owed, for the source. It is valid until the next offer.
func (t *thinner) take(now instant) []byte {
	if t.n == 0 {
		return nil
	}
	cost := t.cost(t.n)
	t.refill(now, cost)
	t.spend(cost)
	t.tell(t.owedTo)
	t.late++
	p := t.buf[:t.n]
	t.n = 0
	return p
}

// look makes a thinSeen of a segment with an acknowledgement. The checksum of
// a plain one is completed, if it is half of one: its copy goes out by itself.
func look(v packet.View, o *packet.TCPOptions, meta Meta, win int, sent packet.Seq, mss int) thinSeen {
	t := v.TCP()
	s := thinSeen{
		packet: v.Bytes(), head: v.Len() - len(t.Payload()), ack: t.Ack(), win: win, sent: sent, mss: mss,
		bare:   len(t.Payload()) == 0 && t.Flags()&(packet.FlagSYN|packet.FlagFIN|packet.FlagRST) == 0,
		plain:  plain(v, meta),
		blocks: o.SACK[:o.NSACK],
	}
	s.dsack = o.NSACK > 0 && isDSACK(s.ack, o)
	if s.plain && meta.CsumNotReady {
		v.SetTCPChecksum()
	}
	return s
}

// plain tells whether a segment is nothing but an acknowledgement and a
// window: no data, no flag but ACK, no options but timestamps and SACK, and nothing
// special in its IP header. It may be dropped if another follows.
func plain(v packet.View, meta Meta) bool {
	t := v.TCP()
	switch {
	case meta.GSO, v.Fragment(), v.ECN() != 0, v.Len() > maxThin:
		return false
	case v.Is4() && len(v.Header()) != 20, !v.Is4() && len(v.Header()) != 40:
		return false // options or extension headers
	case len(t.Payload()) > 0, t.Flags() != packet.FlagACK, t[12]&15 != 0, t.Urgent() != 0:
		return false
	}
	return onlyState(t.Options())
}

// onlyState tells whether options are timestamps and SACK blocks, each once or
// not at all, and padding.
func onlyState(b []byte) bool {
	stamps, sack := false, false
	for i := 0; i < len(b); {
		switch b[i] {
		case packet.OptEnd:
			return true
		case packet.OptNop:
			i++
		case packet.OptTimestamps:
			if stamps || i+10 > len(b) || b[i+1] != 10 {
				return false
			}
			stamps = true
			i += 10
		case packet.OptSACK:
			if sack || i+2 > len(b) || b[i+1] < 10 || b[i+1]&7 != 2 || i+int(b[i+1]) > len(b) {
				return false
			}
			sack = true
			i += int(b[i+1])
		default:
			return false
		}
	}
	return true
}
