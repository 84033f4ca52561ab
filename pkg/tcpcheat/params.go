package tcpcheat

import (
	"errors"
	"math"
	"time"
)

// Mode is what the engine does for the source's data.
type Mode uint8

// The modes. Of none, only what Params says beside the mode is done.
const (
	Realtime Mode = iota + 1 // acknowledge and keep nothing: the paper's mode
	Reliable                 // acknowledge, keep, and send again what was lost
	Pace                     // the receiver's own ACKs clock the source at the reserved rate
)

// cheats tells whether the mode acknowledges on the receiver's behalf.
func (m Mode) cheats() bool { return m == Realtime || m == Reliable }

// String is the mode's name in the configuration.
func (m Mode) String() string {
	switch m {
	case Realtime:
		return "realtime"
	case Reliable:
		return "reliable"
	case Pace:
		return "pace"
	}
	return "none"
}

// Params is the treatment of one flow. Rates are bytes/s, the bucket bytes;
// both count IP bytes, header included, as a TSpec does.
type Params struct {
	Mode Mode
	// Predict assumes that the receiver reads at Rate or faster, so the source
	// may go beyond a right edge that is seconds old. The assumption is given
	// up at the first sign against it. Without it the receiver's own edge is a
	// limit.
	Predict bool
	Rate    float64
	Bucket  float64
	Peak    float64 // bytes/s; +Inf or 0: no peak rate
	// PaceFactor is the window of a paced source, in round trips at Rate; 0 takes
	// DefaultPaceFactor.
	PaceFactor float64
	// PaceLoose leaves room for a box nearer to the receiver that paces too.
	PaceLoose bool
	// Thin drops ACKs that add nothing, on their way to the source, down to
	// ThinRate, in bytes/s of ACKs, IP header included. 0 is as few as a source
	// without a box of its own bears well; see thinner.set.
	Thin     bool
	ThinRate float64
	// Fill fills holes at the receiver, when they have stayed for FillAfter and a
	// quarter of the round trip: with FillPattern over and over, or with zeros.
	// FillForce does so in streams too that a filled byte will end. It is for
	// data of which nobody keeps a copy, so not for Reliable.
	Fill        bool
	FillForce   bool
	FillAfter   time.Duration
	FillPattern []byte
	// Echo allows to ask the source for an ICMP echo where nothing else tells the
	// round trip to it. See TakeEchoes.
	Echo bool
	// MaxUnacked bounds what was acknowledged to the source but not yet by the
	// receiver, in bytes; 0 takes Limits.MaxUnacked.
	MaxUnacked int
	// MaxBuffered bounds the bytes held for this flow; 0 takes
	// Limits.BufferedPerFlow.
	MaxBuffered int
}

// Errors of Params.
var (
	errMode = errors.New("tcpcheat: there is neither a mode nor anything else to do")
	errRate = errors.New("tcpcheat: rate and bucket must be positive numbers")
	errThin = errors.New("tcpcheat: the rate of thinned ACKs must be a number, and not negative")
)

// near tells whether there is something to do that takes no byte in hand.
func (p *Params) near() bool { return p.Mode == Pace || p.Thin || p.Fill }

func (p *Params) check(l *Limits) error {
	if p.Mode > Pace || p.Mode == 0 && !p.near() {
		return errMode
	}
	if p.Mode == Reliable {
		p.Fill = false
	}
	if !(p.ThinRate >= 0) || math.IsInf(p.ThinRate, 0) {
		return errThin
	}
	if !(p.PaceFactor > 0) || math.IsInf(p.PaceFactor, 0) {
		p.PaceFactor = DefaultPaceFactor
	}
	for _, x := range []float64{p.Rate, p.Bucket} {
		if !(x > 0) || math.IsInf(x, 0) {
			return errRate
		}
	}
	if !(p.Peak > 0) {
		p.Peak = math.Inf(1)
	}
	// A peak below the rate contradicts itself (RFC 2210 section 3.1): the
	// rate was promised, so it wins.
	p.Peak = max(p.Peak, p.Rate)
	if p.MaxUnacked <= 0 || p.MaxUnacked > l.MaxUnacked {
		p.MaxUnacked = l.MaxUnacked
	}
	if p.MaxBuffered <= 0 || p.MaxBuffered > l.BufferedPerFlow {
		p.MaxBuffered = l.BufferedPerFlow
	}
	return nil
}

// Limits bound one engine. Zero fields take the defaults.
type Limits struct {
	Flows           int // connections in the table; default 100000
	Buffered        int // bytes held by all flows together; default 256 MiB
	BufferedPerFlow int // bytes held by one flow; default 16 MiB
	MaxUnacked      int // see Params; default 16 MiB
	// NoProgress is how long a receiver may acknowledge nothing new, while
	// bytes that the source believes delivered wait for it, before both ends
	// are reset: R2 of RFC 9293 section 3.8.3. Default 100 s.
	NoProgress time.Duration
	// Idle is how long a connection without packets stays in the table, and
	// Linger how long a closed one does. Defaults 2 h and 5 s.
	Idle, Linger time.Duration
}

func (l *Limits) defaults() {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.Flows, 100_000)
	set(&l.Buffered, 256<<20)
	set(&l.BufferedPerFlow, 16<<20)
	set(&l.MaxUnacked, 16<<20)
	// Sequence arithmetic is right for differences below 2^31; keep far away.
	l.MaxUnacked = min(l.MaxUnacked, 1<<29)
	l.BufferedPerFlow = min(l.BufferedPerFlow, 1<<29)
	setD := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	setD(&l.NoProgress, 100*time.Second)
	setD(&l.Idle, 2*time.Hour)
	setD(&l.Linger, 5*time.Second)
}

// DefaultPaceFactor leaves the source room for the time that its receiver's
// delayed acknowledgements take.
const DefaultPaceFactor = 2

// Bounds that are not configuration. Durations are those of the text in
// tcp.md; each says why it has its value.
const (
	// ackAge is the oldest a fake ACK may become: half of the 200 ms that
	// Linux takes as its least retransmission timeout.
	ackAge = 100 * time.Millisecond
	// windowTime is the time that the offered window lasts at the reserved
	// rate, beside two round trips to the source. It is the delay of a fake ACK
	// when the source keeps its window full, hence well below ackAge, and it
	// must cover a late wake-up of the worker.
	windowTime = 40 * time.Millisecond
	// minWindow in segments: with fewer in flight a single loss on the LAN
	// gives too few duplicate ACKs for fast retransmit (RFC 5827).
	minWindow = 4
	// quantumTime is the rate's share that one fake ACK covers at least.
	quantumTime = time.Millisecond
	maxQuantum  = 64 << 10
	// reackGap limits answers to duplicates and probes (RFC 5961 section 7).
	reackGap = 5 * time.Millisecond

	// doubtFor is the silence after which a reset that did not fit is believed.
	doubtFor = 10 * time.Second

	minRTO     = 200 * time.Millisecond
	maxRTO     = 60 * time.Second
	initialRTO = time.Second // RFC 6298 section 2.1
	maxBurst   = 16          // segments sent again before the rest of the flow gets its turn
)
