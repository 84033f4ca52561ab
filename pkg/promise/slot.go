package promise

import (
	"encoding/binary"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// Fixed is what does not change while a connection has its slot.
type Fixed struct {
	Key     packet.FlowKey // direction of the data
	Mode    tcpcheat.Mode
	In, Out uint32 // interfaces of the data, by index; 0: not known
}

const offCheck = 60 // of the checksum, in each part

// Take gives a slot to a connection. Put has to follow before it is read.
func (f *File) Take(i int, x *Fixed) {
	b := f.slot(i)
	clear(b[fixedSize:]) // first: what is left there is another connection's
	p := b[:fixedSize]
	copy(p[0:16], x.Key.Src[:])
	copy(p[16:32], x.Key.Dst[:])
	binary.LittleEndian.PutUint16(p[32:], x.Key.SrcPort)
	binary.LittleEndian.PutUint16(p[34:], x.Key.DstPort)
	p[36], p[37] = x.Key.Proto, uint8(x.Mode)
	binary.LittleEndian.PutUint16(p[38:], 0)
	binary.LittleEndian.PutUint32(p[40:], x.In)
	binary.LittleEndian.PutUint32(p[44:], x.Out)
	binary.LittleEndian.PutUint64(p[48:], f.Generation)
	binary.LittleEndian.PutUint32(p[56:], 0)
	binary.LittleEndian.PutUint32(p[offCheck:], sum(p[:offCheck]))
}

// Free makes a slot an empty one.
func (f *File) Free(i int) { clear(f.slot(i)) }

// Put notes how the connection of a slot stands. It allocates nothing.
func (f *File) Put(i int, p *tcpcheat.Promise) {
	b := f.slot(i)
	first, second := b[fixedSize:fixedSize+stateSize], b[fixedSize+stateSize:]
	turn := binary.LittleEndian.Uint32(first)
	to := second
	if next := binary.LittleEndian.Uint32(second); int32(next-turn) >= 0 {
		turn, to = next, first
	}
	putState(to, turn+1, p)
	binary.LittleEndian.PutUint32(to[offCheck:], tied(b, to))
}

func putState(b []byte, turn uint32, p *tcpcheat.Promise) {
	_ = b[stateSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], turn)
	le.PutUint32(b[4:], uint32(p.Passed))
	le.PutUint32(b[8:], uint32(p.Had))
	le.PutUint32(b[12:], uint32(p.SrcMax))
	le.PutUint32(b[16:], uint32(p.SrcAck))
	le.PutUint32(b[20:], uint32(p.RcvMax))
	le.PutUint32(b[24:], p.Src.TSVal)
	le.PutUint32(b[28:], p.Src.TSEcr)
	le.PutUint32(b[32:], p.Rcv.TSVal)
	le.PutUint32(b[36:], p.Rcv.TSEcr)
	var flags uint32
	for i, on := range [...]bool{p.Timestamps, p.InHand, p.Src.DF, p.Rcv.DF} {
		if on {
			flags |= 1 << i
		}
	}
	// A flow label has 20 bits; the flags have the rest of one word, and the round
	// trip, in units of 1 ms and at most 4 s, that of the other.
	rtt := uint32(min(max(p.RTT, 0)/time.Millisecond, 4095))
	le.PutUint32(b[40:], p.Src.FlowLabel&0xfffff|flags<<20)
	le.PutUint32(b[44:], p.Rcv.FlowLabel&0xfffff|rtt<<20)
	le.PutUint16(b[48:], p.Src.Win)
	le.PutUint16(b[50:], p.Rcv.Win)
	b[52], b[53], b[54], b[55] = p.Src.TTL, p.Rcv.TTL, p.Src.TOS, p.Rcv.TOS
	le.PutUint32(b[56:], p.At)
}

// tied is the checksum of a slot's copy, which holds for that slot's connection
// alone.
func tied(slot, b []byte) uint32 {
	return sum(b[:offCheck]) ^ binary.LittleEndian.Uint32(slot[offCheck:])
}
