package packet

// MaxTags is how many VLAN tags a frame may have: one of IEEE 802.1Q, or that of
// a customer behind that of a provider (QinQ, 802.1ad).
const MaxTags = 2

// Tag is a VLAN tag.
type Tag struct {
	TPID uint16 // 0x8100 or 0x88a8
	TCI  uint16 // PCP (3 bits), DEI (1 bit), VLAN identifier (12 bits)
}

// Frame is how the packets of a flow, or those from one address to another, come
// in on a bridge: what a packet of our own between the same two must look like on
// the wire.
type Frame struct {
	Port     int          // index of the interface that the frame came in by
	Moves    uint32       // how often its port, destination or VLAN was another one than before
	Dst, Src [6]byte      // Ethernet addresses
	Tags     [MaxTags]Tag // the outer one first
	NTags    int
}

// PairKey stands for everything that is sent from one address of a flow to the
// other.
func (k FlowKey) PairKey() FlowKey { return FlowKey{Src: k.Src, Dst: k.Dst} }

// Turned is the frame of the other direction, as far as this one tells: to the
// station that has sent it, from the one that it was sent to.
func (f *Frame) Turned() Frame {
	out := *f
	out.Dst, out.Src = f.Src, f.Dst
	return out
}
