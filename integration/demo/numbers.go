package demo

import "time"

// The scenario's numbers. The flood enters on the hosts' side of box 1, or its
// HTB could not help; what congests the way of the ACKs enters on the WAN side
// of box 2, or that box's HTB alone would cure it.
const (
	wanForward  = 20_000_000 // bit/s, towards B
	wanBack     = 256_000    // bit/s, towards A
	boxCapacity = "19mbit"   // 95% of the link, so that the queue stands in the box
	// boxBack is box 2's share of the way back. It leaves room for the others
	// there: were the ACKs to take nearly all of it, a drop-tail queue would
	// hardly ever have a place for an RSVP message, which is twice as long.
	boxBack   = "160kbit"
	floodRate = 3 * wanForward / 2
	// floodSources share the flood, from as many ports.
	floodSources = 3
	// bulkRate keeps the queue on the way of the ACKs full.
	bulkRate = 5 * wanBack / 4

	reserved = 8_000_000 // bit/s of IP packets
	// A segment carries mss bytes of payload in mss + overhead bytes of IP: 20
	// for IP, 20 for TCP, 12 for its time stamps.
	mss      = 1448
	overhead = 52
)

// carries is the payload that the reservation can carry, bit/s.
const carries = float64(reserved) * mss / (mss + overhead)

// Times.
const (
	unloadedFor = 3 * time.Second
	arpWarmup   = 500 * time.Millisecond // leaves address resolution out of the baseline
	loadAhead   = time.Second            // the warm-up does the rest
	warmup      = 5 * time.Second        // left out of goodput and voice figures
	window      = 5 * time.Second        // measured after the warm-up
	callBefore  = 2 * (warmup + window)
	// callAfter lasts until about the end of the last of four transfers, each
	// with 2 s to connect and 5 s until the end of its content has arrived.
	callAfter    = 66 * time.Second
	connectFor   = 15 * time.Second // at most, for a connection with boxes to be made
	drainFor     = 12 * time.Second // at most, for the end of a transfer to arrive
	closeFor     = 6 * time.Second  // at most, from then on for A to see the connection closed
	sampleBefore = 400 * time.Millisecond
	loadFor      = 10 * time.Minute // longer than any run: it is ended
)

// Ports: the destination port chooses the policy.
const (
	portRealtime = 5001
	portReliable = 5002
	portVoice    = 5004
	portFlood    = 7001 // and those after it
	portBulk     = 7001
	// Source ports: transfers have those after the first.
	firstSource    = 40000
	sourceUnloaded = 41001
	sourceBefore   = 41002
	sourceAfter    = 41003
)

// Targets.
const (
	goodputShare = 0.95 // of what the reservation carries
	failedShare  = 0.5  // below this a transfer without boxes counts as failed
	voiceExcess  = 10 * time.Millisecond
)
