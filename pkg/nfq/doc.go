// Package nfq takes packets from the kernel's NFQUEUE and gives every one of
// them exactly one verdict.
//
// It speaks nfnetlink_queue itself over a plain blocking netlink socket: one
// socket and one locked operating system thread for each queue, many packets
// for each system call in both directions, and no allocation on the way.
// Packets that are let go unchanged are answered in runs, by one batch verdict
// that covers all lower ids; what is changed, marked or sent to another queue
// is answered for itself, in its place, so that the order of packets is kept.
//
// Replay feeds a Handler from a capture file instead.
package nfq

import "time"

// Verdict is what becomes of a packet.
type Verdict uint8

// Verdicts of a Handler.
const (
	Accept         Verdict = iota // goes on as it came
	Drop                          // is gone
	AcceptModified                // goes on with Packet.Data in its place
	Requeue                       // goes to the queue Packet.RequeueTo; goes on if nobody listens there
)

// String is the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case AcceptModified:
		return "modified"
	case Requeue:
		return "requeue"
	}
	return "unknown"
}

// Packet is one packet of a queue. The worker uses it again for the next one:
// nothing of it may be kept after Handle.
type Packet struct {
	ID                uint32 // the kernel's number within the queue
	Queue             uint16
	Hook              uint8 // NF_INET_PRE_ROUTING, ...
	InIndex, OutIndex int   // interfaces, 0 if there is none; on a bridge its ports
	Mark              uint32
	// Data is the IP packet in the worker's buffer. It may be edited and cut
	// to a part of itself before AcceptModified.
	Data []byte
	// CsumNotReady says that the transport checksum is only begun: it was left
	// to a device. A packet that is changed needs a full one then.
	CsumNotReady bool
	// GSO marks a super-packet, which the kernel splits on its way out.
	GSO bool
	// Truncated says that Data is shorter than the packet's OrigLen bytes: the
	// packet cannot be changed then.
	Truncated bool
	OrigLen   int

	RequeueTo  uint16 // for Requeue
	SetMark    uint32 // new packet mark, if HasSetMark; not with Drop
	HasSetMark bool
}

// Handler decides about the packets of one queue. All calls come from one
// goroutine, the queue's worker.
type Handler interface {
	Handle(now time.Time, p *Packet) Verdict
	// NextDeadline is when Advance is to be called, false for never.
	NextDeadline() (time.Time, bool)
	Advance(now time.Time)
	// Wake follows Queue.Wake, called by any other goroutine; several calls
	// may be answered by one.
	Wake(now time.Time)
	// BatchEnd is called after a group of packets was handled and answered,
	// and after Wake and Advance, before the worker sleeps.
	BatchEnd(now time.Time)
}
