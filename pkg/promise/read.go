package promise

import (
	"encoding/binary"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// Kept is what was found in a slot.
type Kept struct {
	Fixed
	Promise    tcpcheat.Promise
	Generation uint64 // of the process that gave the slot
}

// Read is what the file says of all connections that have a slot. Damaged are the
// slots that cannot be read: of those nothing was promised yet or any more, if it
// was their process's death that damaged them.
func (f *File) Read() (kept []Kept, damaged int) {
	for i := range f.Slots {
		b := f.slot(i)
		if empty(b) {
			continue
		}
		k, ok := read(b)
		if !ok {
			damaged++
			continue
		}
		kept = append(kept, k)
	}
	return kept, damaged
}

func empty(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
	}
	return true
}

func read(b []byte) (k Kept, ok bool) {
	p := b[:fixedSize]
	if binary.LittleEndian.Uint32(p[offCheck:]) != sum(p[:offCheck]) {
		return k, false
	}
	copy(k.Key.Src[:], p[0:16])
	copy(k.Key.Dst[:], p[16:32])
	k.Key.SrcPort, k.Key.DstPort = binary.LittleEndian.Uint16(p[32:]), binary.LittleEndian.Uint16(p[34:])
	k.Key.Proto, k.Mode = p[36], tcpcheat.Mode(p[37])
	k.In, k.Out = binary.LittleEndian.Uint32(p[40:]), binary.LittleEndian.Uint32(p[44:])
	k.Generation = binary.LittleEndian.Uint64(p[48:])
	if k.Key.Proto != packet.ProtoTCP || k.Mode != tcpcheat.Realtime && k.Mode != tcpcheat.Reliable || k.Key.Is4() != k.Key.Reverse().Is4() {
		return k, false
	}
	first, second := b[fixedSize:fixedSize+stateSize], b[fixedSize+stateSize:]
	turn1, ok1 := turnOf(b, first)
	turn2, ok2 := turnOf(b, second)
	switch {
	case ok1 && (!ok2 || int32(turn1-turn2) > 0):
		k.Promise = state(first)
	case ok2:
		k.Promise = state(second)
	default:
		return k, false
	}
	k.Promise.Key, k.Promise.Mode = k.Key, k.Mode
	return k, true
}

// turnOf is the count of a copy; false if it is not whole.
func turnOf(slot, b []byte) (uint32, bool) {
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[offCheck:]) == tied(slot, b)
}

func state(b []byte) tcpcheat.Promise {
	le := binary.LittleEndian
	seq := func(at int) packet.Seq { return packet.Seq(le.Uint32(b[at:])) }
	one, two := le.Uint32(b[40:]), le.Uint32(b[44:])
	flag := func(i int) bool { return one>>(20+i)&1 != 0 }
	return tcpcheat.Promise{
		Passed: seq(4), Had: seq(8), SrcMax: seq(12), SrcAck: seq(16), RcvMax: seq(20),
		RTT: time.Duration(two>>20) * time.Millisecond, Timestamps: flag(0), InHand: flag(1), At: le.Uint32(b[56:]),
		Src: tcpcheat.PromiseEnd{
			TSVal: le.Uint32(b[24:]), TSEcr: le.Uint32(b[28:]), FlowLabel: one & 0xfffff,
			Win: le.Uint16(b[48:]), TTL: b[52], TOS: b[54], DF: flag(2),
		},
		Rcv: tcpcheat.PromiseEnd{
			TSVal: le.Uint32(b[32:]), TSEcr: le.Uint32(b[36:]), FlowLabel: two & 0xfffff,
			Win: le.Uint16(b[50:]), TTL: b[53], TOS: b[55], DF: flag(3),
		},
	}
}
