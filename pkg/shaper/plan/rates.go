package plan

import "math"

// The shares of an interface's capacity that are not for reservations, and
// sizes of queues. Reservations can have what remains: 93 %.
const (
	controlShare     = 0.02
	controlCeil      = 0.25  // a flood of RSVP must not take the link
	bestEffortShare  = 0.05  // reservations must not starve the others; where an interface says nothing
	minCapacity      = 8000  // bytes/s
	minRate          = 500   // bytes/s: one frame in 3 s; HTB cannot do with 0
	burstTime        = 4e-3  // s: how late the kernel's timer may be before a class loses rate
	rootBurstTime    = 2e-3  // s: the link behind sees this much at once after an idle time
	splitUpTo        = 125e6 // bytes/s: at 1 Gbit/s a super-packet takes half a millisecond
	slowSplit        = 125e6 // 8 ns per byte, and
	fastSplit        = 1e9   // 1 ns per byte: the kernel's fixed-point arithmetic has no rounding there
	splitUnit        = 64    // bytes: whole ticks at both rates
	bestEffortDelay  = 0.1   // s
	minBestEffort    = 16 << 10
	maxBestEffort    = 8 << 20
	controlLimit     = 64 << 10
	reservedLimit    = 64 << 10
	cheatedLimit     = 512 << 10
	maxLimit         = 64 << 20
	realTimeHeadroom = 16 << 10
	burstsTime       = 4e-3    // s: what bursts of reserved flows may delay a guaranteed one by
	superPacket      = 1 << 16 // bytes: what offloads make of packets, where no leaf splits it
	leastBurst       = 1500    // bytes: a packet
	leastUnit        = 28      // bytes: IP and UDP headers; no m is smaller in truth
	// Inner classes do not use theirs, and HTB refuses to change it.
	innerQuantum = 10000
)

// MostQueued is what the queue of a reserved flow's class can always be made to
// hold, in bytes with headers: less what may stand in it beyond a bucket.
const MostQueued = maxLimit - superPacket

// The bounds of what can be kept for best effort.
const (
	minBestEffortShare = 0.001
	maxBestEffortShare = 0.9
)

// Priorities of HTB.
const (
	prioControl  = 0
	prioRealTime = 1
	// Provisioned traffic goes behind reserved traffic of its kind.
	prioProvisionedRealTime = 2
	prioUnadmitted          = 3 // telephony that nobody admitted, if it has a queue of its own
	prioReserved            = 4
	prioProvisioned         = 5
	prioBestEffort          = 7
)

// DefaultMTU stands in for the MTU of an interface that is not there.
const DefaultMTU = 1500

// EthernetHeader is what HTB counts of each packet in addition to the IP
// packet on an Ethernet interface, in bytes.
const EthernetHeader = 14

// Facts are what the kernel says of an interface.
type Facts struct {
	MTU      uint32 // bytes, IP packet
	Header   uint32 // bytes of link-layer header that HTB counts with each packet
	Index    int
	FQCodel  bool // the kernel has fq_codel
	Ethernet bool // frames may carry VLAN tags
}

// DefaultFacts are those of an Ethernet interface, for a plan without a kernel.
var DefaultFacts = Facts{MTU: DefaultMTU, Header: EthernetHeader, Ethernet: true}

// HTBRate is the one place where the link layer's overhead is added: a rate
// of IP bytes becomes the rate that HTB needs for it, which counts header bytes
// more per packet, for packets of size bytes.
//
// A TSpec's packets may be as small as m; a class is yet made for packets of
// M. What smaller ones need more is borrowed, and reserved classes borrow before
// best effort does; so the flow gets its rate in any case, while a class made
// for packets of m would shape a cheated flow (rate = ceil) too high.
//
// The size is min(M, MTU), or the MTU when M is not stated. A capacity is
// taken at the MTU: a link's rate is one of frames, whatever is in them.
func (f Facts) HTBRate(rate float64, size uint32) uint64 {
	if size == 0 || size > f.MTU {
		size = f.MTU
	}
	r := math.Ceil(rate * float64(size+f.Header) / float64(size))
	return uint64(max(r, minRate))
}

func (f Facts) frame() float64 { return float64(f.MTU + f.Header) }

// quantum is what a class sends in its turn among others of its priority: one
// frame on slow links, enough not to waste turns on fast ones. Given always, as
// the kernel warns about those it would compute.
func (f Facts) quantum(rate uint64) uint32 {
	return uint32(min(max(f.frame(), float64(rate)*burstTime), 60000))
}
