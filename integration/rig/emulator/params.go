package emulator

import (
	"errors"
	"fmt"
	"time"
)

// MaxInFlight bounds the frames that one direction holds, queued or on the
// wire; further ones are dropped as if by the queue.
const MaxInFlight = 1 << 16

// Params describe one direction of a link. The zero value is a perfect wire.
type Params struct {
	// Rate in bits per second of link-layer bytes: Ethernet header, no
	// preamble and no frame check sequence. 0 is unlimited.
	Rate int64
	// Delay one way, added after transmission.
	Delay time.Duration
	// Queue is the most bytes that may wait in front of the transmitter, the
	// frame in transmission included. 0 means no limit but MaxInFlight.
	Queue int
	// QueueFrames is the most frames that may wait there; 0 means no limit of
	// this kind. A queue with a limit in bytes alone favours small frames,
	// which still fit where a large one does not; one in frames does not.
	QueueFrames int
	// Overhead is added to each frame's length when it is queued and sent,
	// bytes (24 for Ethernet's preamble, check sequence and gap).
	Overhead int

	// Loss is the probability that a frame is lost on the wire.
	Loss float64
	// Burst adds losses in bursts, if not nil.
	Burst *GilbertElliott

	// Reorder is the probability that a frame is late by ReorderDelay, so that
	// those sent within that time overtake it.
	Reorder      float64
	ReorderDelay time.Duration

	// Duplicate is the probability that a frame arrives twice.
	Duplicate float64
}

// GilbertElliott is a two-state loss model: frames move between a good and a
// bad state, and in the bad state they are lost with probability Loss.
type GilbertElliott struct {
	ToBad  float64 // probability per frame to go from good to bad
	ToGood float64 // probability per frame to go from bad to good
	Loss   float64 // probability of loss in the bad state
}

// Validate tells the first thing wrong with the parameters.
func (p Params) Validate() error {
	switch {
	case p.Rate < 0:
		return fmt.Errorf("rate %d bit/s is negative", p.Rate)
	case p.Delay < 0 || p.ReorderDelay < 0:
		return errors.New("a delay is negative")
	case p.Queue < 0 || p.QueueFrames < 0 || p.Overhead < 0:
		return errors.New("a size is negative")
	case p.Reorder > 0 && p.ReorderDelay == 0:
		return errors.New("reordering needs a ReorderDelay")
	}
	probabilities := []float64{p.Loss, p.Reorder, p.Duplicate}
	if p.Burst != nil {
		probabilities = append(probabilities, p.Burst.ToBad, p.Burst.ToGood, p.Burst.Loss)
	}
	for _, v := range probabilities {
		if !(v >= 0 && v <= 1) { // written so that NaN fails too
			return fmt.Errorf("probability %v is not within 0 to 1", v)
		}
	}
	return nil
}
