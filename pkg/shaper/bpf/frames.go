package bpf

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// readers is how many may look for a frame at the same time.
const readers = 8

// Frames reads what the programs have learned of the frames that come in on a
// bridge. It stays the same while tables come and go, is safe for concurrent use, and
// allocates nothing.
type Frames struct {
	idle chan *lookup // one for each reader
}

// lookup is the memory of one reader. The kernel is given its addresses: it may not
// be on a stack.
type lookup struct {
	frames *ebpf.Map // nil: nothing is learned
	key    treatmentFrameKey
	value  treatmentFrame
}

// NewFrames makes a reader of nothing.
func NewFrames() *Frames {
	r := &Frames{idle: make(chan *lookup, readers)}
	for range readers {
		r.idle <- &lookup{}
	}
	return r
}

// Frame tells how the frames of a direction of a TCP connection look, or those of a
// pair of addresses (see [packet.FlowKey.PairKey]); false if none was seen. Priority and
// DEI are those of a packet of the last second in which any came.
func (r *Frames) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	l := <-r.idle
	found := l.read(k, f)
	r.idle <- l
	return found
}

func (l *lookup) read(k *packet.FlowKey, f *packet.Frame) bool {
	if l.frames == nil {
		return false
	}
	l.key = frameKey(k)
	// Whatever the kernel says: a frame that cannot be read was not seen. Nor was one
	// whose entry was given to another key meanwhile.
	if err := l.frames.Lookup(unsafe.Pointer(&l.key), unsafe.Pointer(&l.value)); err != nil || l.value.Check != l.key.check() {
		return false
	}
	v := &l.value
	*f = packet.Frame{Port: int(v.Ifindex), Moves: v.Moves, Dst: v.Dst, Src: v.Src}
	for f.NTags < packet.MaxTags && v.Tag[f.NTags].Tpid != 0 {
		t := &v.Tag[f.NTags]
		f.Tags[f.NTags] = packet.Tag{TPID: swap(t.Tpid), TCI: swap(t.Tci)}
		f.NTags++
	}
	return true
}

func frameKey(k *packet.FlowKey) treatmentFrameKey {
	return treatmentFrameKey{Src: k.Src, Dst: k.Dst, Sport: swap(k.SrcPort), Dport: swap(k.DstPort), Proto: k.Proto}
}

// check is what the program folds the key to.
func (k *treatmentFrameKey) check() (sum uint32) {
	for b := raw(k); len(b) > 0; b = b[4:] {
		sum = bits.RotateLeft32(sum, 5) ^ binary.NativeEndian.Uint32(b)
	}
	return sum
}

// Use has the reader read the table's map from now on. When it returns nobody reads
// another one; nil is none.
func (r *Frames) Use(t *Table) {
	var m *ebpf.Map
	if t != nil {
		m = t.frames
	}
	var all [readers]*lookup
	for i := range all {
		all[i] = <-r.idle
	}
	for _, l := range all {
		l.frames = m
		r.idle <- l
	}
}

func copyFrames(to, from *ebpf.Map) error {
	return copyMap[treatmentFrameKey](to, from, func(*treatmentFrame) {})
}
