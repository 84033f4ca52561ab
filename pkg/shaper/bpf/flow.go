package bpf

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Flags of a spec. Those below bit 8 mean something to the program, see
// treatment.c; the others are kept for the process that adopts the table.
const (
	flagPolice = 1 << iota
	flagDrop
	flagMark

	flagReserve  = 1 << 8
	flagCheated  = 1 << 9
	flagRealTime = 1 << 10
	flagPolicing = 1 << 11 // the wish, which flagPolice is not for cheated flows

	shareShift = 12 // the bits from here on: the class's rate, see shareOf
)

// The class's rate is kept as its ratio to the policer's, in steps of 1/65536
// octave (0.001 %), one more than the steps; up to 2^15 times the rate.
const (
	sharesPerOctave = 1 << 16
	mostShare       = 1<<(32-shareShift) - 1
)

// shareOf notes a class's rate, rounded up. No queue is noted: while the process
// that adopts the table waits for the reservation to be asked for again, that of
// the bucket has to do.
func shareOf(share float64, rate uint64) uint32 {
	if share <= 0 || rate == 0 {
		return 0
	}
	// What came out of share goes in again unchanged, rounding errors or not.
	steps := math.Ceil(math.Log2(max(share/float64(rate), 1))*sharesPerOctave - 1e-6)
	return uint32(min(steps+1, mostShare)) << shareShift
}

// share is the reverse of shareOf.
func (s treatmentSpec) share() float64 {
	steps := s.Flags >> shareShift
	if steps == 0 {
		return 0
	}
	return float64(s.Rate) * math.Exp2(float64(steps-1)/sharesPerOctave)
}

// nsec scales bytes to bucket levels.
const nsec = 1_000_000_000

// mergedMost is more than any super-packet has, in bytes: as far as a bucket
// can be in debt.
const mergedMost = 1 << 20

// keyOf is the kernel's key of a flow on an interface.
func keyOf(ifindex int, k packet.FlowKey) treatmentFlowKey {
	return treatmentFlowKey{
		Src: k.Src, Dst: k.Dst, Proto: k.Proto, Ifindex: uint32(ifindex),
		Sport: swap(k.SrcPort), Dport: swap(k.DstPort),
		Label: [3]uint8{uint8(k.Label >> 16), uint8(k.Label >> 8), uint8(k.Label)},
	}
}

// flowKey is the reverse of keyOf.
func (k treatmentFlowKey) flowKey() packet.FlowKey {
	return packet.FlowKey{
		Src: k.Src, Dst: k.Dst, Proto: k.Proto,
		SrcPort: swap(k.Sport), DstPort: swap(k.Dport),
		Label: uint32(k.Label[0])<<16 | uint32(k.Label[1])<<8 | uint32(k.Label[2]),
	}
}

// swap goes between a number and its network byte order in memory.
func swap(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// specOf is what the program needs to know of a treatment. Rates are rounded
// up to whole bytes/s, so that what conforms is never punished for the
// rounding.
func specOf(t plan.Treatment, class, excess plan.ClassID, group uint32) treatmentSpec {
	s := treatmentSpec{
		MinUnit: t.MinUnit, MaxPacket: t.MaxPacket,
		Class: uint32(class), Excess: uint32(excess), Dscp: uint32(t.DSCP) | uint32(t.Excess)<<8, Group: group,
	}
	s.Rate, s.Depth, s.Idle = bucket(t.Rate, t.Bucket)
	if t.HasPeak() {
		// RFC 2215 section 3.6: over any time T no more than M + pT. Where M
		// is not stated nothing larger than b conforms anyway.
		depth := float64(t.MaxPacket)
		if t.MaxPacket == 0 {
			depth = t.Bucket
		}
		s.Peak, s.PeakDepth, s.PeakIdle = bucket(t.Peak, depth)
	}
	for flag, set := range map[uint32]bool{
		flagPolice: t.Policed(), flagDrop: t.Drop, flagMark: t.Mark, flagReserve: t.Reserve,
		flagCheated: t.Cheated, flagRealTime: t.RealTime, flagPolicing: t.Police,
	} {
		if set {
			s.Flags |= flag
		}
	}
	s.Flags |= shareOf(t.Share, s.Rate)
	return s
}

func bucket(rate, bytes float64) (perSecond, depth, idle uint64) {
	perSecond = uint64(math.Ceil(rate))
	depth = uint64(math.Floor(bytes)) * nsec
	if perSecond > 0 {
		idle = (depth+mergedMost*nsec)/perSecond + 1
	}
	return perSecond, depth, idle
}

// treatment is the reverse of specOf.
func (s treatmentSpec) treatment(k packet.FlowKey) plan.Treatment {
	peak := math.Inf(1)
	if s.Peak != 0 {
		peak = float64(s.Peak)
	}
	return plan.Treatment{
		Key: k, Rate: float64(s.Rate), Bucket: float64(s.Depth / nsec), Peak: peak,
		MinUnit: s.MinUnit, MaxPacket: s.MaxPacket, Share: s.share(), DSCP: uint8(s.Dscp), Excess: uint8(s.Dscp >> 8),
		Police: s.Flags&flagPolicing != 0, Drop: s.Flags&flagDrop != 0, Mark: s.Flags&flagMark != 0,
		Reserve: s.Flags&flagReserve != 0, Cheated: s.Flags&flagCheated != 0, RealTime: s.Flags&flagRealTime != 0,
	}
}

// Counters are what a treatment has seen: packets as they are on the wire
// (a super-packet counts as those it becomes) and their IP bytes.
// Packets = Conform + Exceed; Dropped is a part of Exceed.
type Counters struct {
	Packets, Bytes        uint64
	Conform, ConformBytes uint64
	Exceed, ExceedBytes   uint64
	Dropped, DroppedBytes uint64
}

// Add adds another's.
func (c *Counters) Add(o Counters) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
	c.Conform += o.Conform
	c.ConformBytes += o.ConformBytes
	c.Exceed += o.Exceed
	c.ExceedBytes += o.ExceedBytes
	c.Dropped += o.Dropped
	c.DroppedBytes += o.DroppedBytes
}

func (f *treatmentFlow) counters() Counters {
	return Counters{
		Packets: f.Packets, Bytes: f.Bytes,
		Conform: f.ConformPackets, ConformBytes: f.ConformBytes,
		Exceed: f.ExceedPackets, ExceedBytes: f.ExceedBytes,
		Dropped: f.DroppedPackets, DroppedBytes: f.DroppedBytes,
	}
}

// raw gives the kernel the value's own memory: it has no padding, which a
// test holds, and no reflection is needed.
func raw[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
