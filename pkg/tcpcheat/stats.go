package tcpcheat

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Stats is what the engine knows of one flow.
type Stats struct {
	State  State
	Reason string // why it is left alone, draining or closed
	Mode   Mode   // 0 if not cheated
	Active bool   // fake ACKs are being sent

	Packets, Bytes    uint64 // of the source, with data; IP bytes
	FakeAcks          uint64 // made by the engine, window updates included
	WindowUpdates     uint64
	Absorbed          uint64 // real ACKs dropped
	Thinned           uint64 // real ACKs that the source never gets, since others say the same
	Rewritten         uint64 // segments of the receiver that were edited
	Retransmits       uint64 // segments sent again by the engine
	RetransmitBytes   uint64 // their payload
	SourceRetransmits uint64 // segments that the source repeated
	Lost              uint64 // segments found lost towards the receiver
	Timeouts          uint64
	PathMTU           int    // found towards the receiver, if it is less than the source takes it to be
	TooBig            uint64 // ICMP errors about that which were believed
	TooBigRefused     uint64 // and those that fit nothing on its way
	TailProbes        uint64 // RFC 8985 section 7
	DSACKs            uint64
	OutOfOrder        uint64 // segments that arrived behind a hole in front of the box
	Unheld            uint64 // segments that found no memory
	Probes            uint64 // window probes and keep-alives answered for the receiver
	ReceiverProbes    uint64 // the engine's own
	Holes             uint64 // realtime: holes seen at the receiver
	CE, ECE           uint64 // congestion marks seen on data, echoes on ACKs
	BadChecksums      uint64
	OldTimestamps     uint64 // realtime: segments that the receiver will discard by PAWS
	Contradictions    uint64 // ACKs of what was never sent
	Undelivered       uint64 // bytes that were acknowledged but never delivered

	Filled       uint64      // segments made for holes at the receiver
	FilledBytes  uint64      // bytes of the stream that they made up, each once
	FillsAgain   uint64      // of these segments, made once more
	FillsGivenUp uint64      // holes that nothing would fill
	FilledRanges []ByteRange // where
	FilledMore   uint64      // ranges that are not in the list
	FillRefused  string      // why no hole is filled

	Buffered    int    // bytes held now
	Unacked     int    // acknowledged to the source but not by the receiver, bytes
	Predicting  bool   // the window is predicted
	Withdrawals uint64 // times the prediction was given up
	RTTSender   time.Duration
	RTTReceiver time.Duration
}

// sealed keeps the numbers that vanish with the cheating state.
func (s *Stats) sealed(c *conn) {
	s.Mode = c.ch.Mode
	s.Withdrawals += c.ch.predict.withdrawals
}

func (c *conn) snapshot() Stats {
	s := c.stats
	s.State, s.Reason = c.state, c.reason
	s.RTTSender, s.RTTReceiver = c.rttSrc.smooth, c.rttRcv.smooth
	if c.near != nil {
		s.Mode = c.near.Mode
	}
	if f := c.filled; f != nil {
		s.Filled, s.FilledBytes, s.FillsAgain, s.FillsGivenUp = f.segments, f.bytes, f.again, f.givenUp
		s.FilledRanges, s.FilledMore = slices.Clone(f.list), f.more
	}
	if n := c.near; n != nil && n.fill != nil && n.fill.refused != nil {
		s.FillRefused = n.fill.refused.Error()
	}
	if ch := c.ch; ch != nil {
		s.Mode, s.Active, s.Predicting = ch.Mode, ch.active, c.predicting()
		s.Buffered = ch.hold.count * chunkSize
		s.Unacked = max(c.passed.Diff(c.rcv.ack), 0)
		s.Withdrawals += ch.predict.withdrawals
	}
	return s
}

// Totals are the engine's own counters.
type Totals struct {
	Flows       int // in the table
	Buffered    int // bytes of memory held
	FakeAcks    uint64
	Absorbed    uint64
	Thinned     uint64
	Rewritten   uint64
	Retransmits uint64
	Resets      uint64 // RST segments made
	Timeouts    uint64
	TailProbes  uint64
	Withdrawals uint64 // of predictions
	TooBig      uint64 // ICMP errors: packet too big
	// And those that fit nothing on its way.
	TooBigRefused uint64
	Filled        uint64 // segments made for holes at the receiver
	FilledBytes   uint64 // their payload
	// As in Stats.
	FillsAgain, FillsGivenUp uint64
	TableFull                uint64 // Watch refused
}

// Flow is the state of one connection, by the key of either direction.
func (e *Engine) Flow(key packet.FlowKey) (Stats, bool) {
	c := e.find(key)
	if c == nil {
		return Stats{}, false
	}
	return c.snapshot(), true
}

// Each calls fn for every connection, with the key of its data's direction.
func (e *Engine) Each(fn func(packet.FlowKey, Stats)) {
	for _, c := range e.conns {
		fn(c.key, c.snapshot())
	}
}

// Totals are the counters of the whole engine.
func (e *Engine) Totals() Totals {
	t := e.totals
	t.Flows, t.Buffered = len(e.conns), e.pool.used()
	for _, c := range e.conns {
		if c.ch != nil {
			t.Withdrawals += c.ch.predict.withdrawals
		}
	}
	return t
}
