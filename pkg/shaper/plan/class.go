package plan

import (
	"fmt"
	"time"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// ClassID is the handle of an HTB class, major<<16 | minor.
type ClassID uint32

// The fixed handles. Pooled classes of reserved flows count up from FirstPooled,
// those of service levels have their DSCP on top of FirstLevel.
const (
	RootQdisc   ClassID = 0x10000
	RootClass   ClassID = 0x10001 // the capacity, shared by all below
	Control     ClassID = 0x10002 // ARP, neighbour discovery, RSVP
	BestEffort  ClassID = 0x10003 // everything that nobody named
	FirstPooled ClassID = 0x10010
	FirstLevel  ClassID = 0x1ff00
)

// String is the handle as tc writes it, in hexadecimal: "1:10". No class is "".
func (id ClassID) String() string {
	if id == 0 {
		return ""
	}
	if id&0xffff == 0 {
		return fmt.Sprintf("%x:", uint32(id)>>16)
	}
	return fmt.Sprintf("%x:%x", uint32(id)>>16, uint32(id)&0xffff)
}

// Leaf is the handle of the queue below a class: its minor as major.
func (id ClassID) Leaf() ClassID { return id << 16 }

// Pooled tells whether the class is one of those for reserved flows.
func (id ClassID) Pooled() bool { return id >= FirstPooled && id < FirstShared }

// LevelClass is the class of a service level.
func LevelClass(code uint8) ClassID { return FirstLevel | ClassID(code) }

// Level tells the DSCP of a service level's class.
func (id ClassID) Level() (code uint8, ok bool) {
	return uint8(id & dscp.Max), id >= FirstLevel && id <= FirstLevel|dscp.Max
}

// Class is one HTB class with the queue in it. Rates are in bytes/s as HTB
// counts them, see HTBRate; bursts are the time they take at their rate, in
// the kernel's units of 64 ns.
type Class struct {
	ID, Parent    ClassID
	Prio          uint32 // whose turn it is to borrow: lowest first
	Rate, Ceil    uint64
	Burst, Cburst time.Duration
	Quantum       uint32 // bytes
	Leaf          Leaf
}

// Leaf is the queue in a class. The zero Leaf is none (inner classes).
type Leaf struct {
	// Kind is "tbf", whose use here is that it splits super-packets, so that
	// no class waits for 64 kB of another one; or "bfifo", where the link is
	// so fast that it does not matter.
	Kind  string
	Limit uint32 // bytes
	Rate  uint64 // bytes/s; tbf only, and faster than the class will ever be
	Burst uint32 // bytes; tbf only: what is longer is split
	Inner string // "fq_codel" inside, or "": first in, first out
}

// tick is the kernel's unit of bursts: PSCHED_SHIFT is 6.
const tick = 64 * time.Nanosecond

// burst is the time in which rate sends bytes, rounded up to the kernel's
// ticks and bounded by what they can hold.
func burst(rate uint64, bytes float64) time.Duration {
	ns := bytes / float64(rate) * float64(time.Second)
	return time.Duration(min(ns, 200e9)+float64(tick)-1) / tick * tick
}
