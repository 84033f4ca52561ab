package tcpcheat

import (
	"bytes"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// hold keeps the bytes of a stream from base on, addressed by sequence number.
// It may have holes; who uses it knows where. The position in the stream is
// counted in 64 bits, so a chunk's number does not wrap with the sequence
// number.
type hold struct {
	base  packet.Seq
	pos   uint64   // stream position of base
	ring  []*chunk // chunk number n is at n % len(ring); a power of two
	count int      // chunks in hand
}

// write stores data at seq; false if it does not fit under limit (bytes from
// base on) or no memory is left. Bytes below base are skipped.
func (h *hold) write(p *pool, seq packet.Seq, data []byte, limit int) bool {
	if d := h.base.Diff(seq); d > 0 {
		if d >= len(data) {
			return true
		}
		data, seq = data[d:], h.base
	}
	off := seq.Diff(h.base)
	if off+len(data) > limit {
		return false
	}
	if len(data) == 0 {
		return true
	}
	at := h.pos + uint64(off)
	if !h.reserve(p, at/chunkSize, (at+uint64(len(data))-1)/chunkSize) {
		return false
	}
	for len(data) > 0 {
		n := copy(h.ring[h.slot(at/chunkSize)][at%chunkSize:], data)
		data, at = data[n:], at+uint64(n)
	}
	return true
}

func (h *hold) slot(n uint64) int { return int(n & uint64(len(h.ring)-1)) }

// reserve makes sure that the chunks from number a to b exist.
func (h *hold) reserve(p *pool, a, b uint64) bool {
	first := h.pos / chunkSize
	if need := int(b-first) + 1; need > len(h.ring) {
		h.grow(first, need)
	}
	for n := a; n <= b; n++ {
		if s := h.slot(n); h.ring[s] == nil {
			c := p.get()
			if c == nil {
				return false
			}
			h.ring[s] = c
			h.count++
		}
	}
	return true
}

func (h *hold) grow(first uint64, need int) {
	size := max(8, len(h.ring))
	for size < need {
		size *= 2
	}
	old := h.ring
	h.ring = make([]*chunk, size)
	for i := range uint64(len(old)) {
		n := first + i
		h.ring[h.slot(n)] = old[n&uint64(len(old)-1)]
	}
}

// release forgets the bytes below to.
func (h *hold) release(p *pool, to packet.Seq) {
	d := to.Diff(h.base)
	if d <= 0 {
		return
	}
	first := h.pos / chunkSize
	h.base, h.pos = to, h.pos+uint64(d)
	for n := first; n < h.pos/chunkSize && h.count > 0 && n < first+uint64(len(h.ring)); n++ {
		if s := h.slot(n); h.ring[s] != nil {
			p.put(h.ring[s])
			h.ring[s] = nil
			h.count--
		}
	}
}

// read copies the bytes from seq on into dst.
func (h *hold) read(dst []byte, seq packet.Seq) {
	at := h.pos + uint64(seq.Diff(h.base))
	for len(dst) > 0 {
		n := copy(dst, h.ring[h.slot(at/chunkSize)][at%chunkSize:])
		dst, at = dst[n:], at+uint64(n)
	}
}

// same tells whether data at seq is what is held there already. The bytes that
// it shares with [from, to) count; all of these are held.
func (h *hold) same(seq packet.Seq, data []byte, from, to packet.Seq) bool {
	from = packet.MaxSeq(from, h.base)
	if d := from.Diff(seq); d > 0 {
		data, seq = data[min(d, len(data)):], from
	}
	if d := seq.Add(len(data)).Diff(to); d > 0 {
		data = data[:max(len(data)-d, 0)]
	}
	at := h.pos + uint64(max(seq.Diff(h.base), 0))
	for len(data) > 0 {
		c := h.ring[h.slot(at/chunkSize)]
		n := min(len(data), int(chunkSize-at%chunkSize))
		if !bytes.Equal(data[:n], c[at%chunkSize:][:n]) {
			return false
		}
		data, at = data[n:], at+uint64(n)
	}
	return true
}

// drop gives all memory back.
func (h *hold) drop(p *pool) {
	for i, c := range h.ring {
		if c != nil {
			p.put(c)
			h.ring[i] = nil
		}
	}
	h.count = 0
}
