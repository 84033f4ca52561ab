package gather

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const (
	header4   = 20
	header6   = 40
	fragment6 = 8 // bytes of the fragment header
	more4     = 0x2000
	maxIP     = 0xffff
)

// piece is a fragment.
type piece struct {
	raw    []byte
	id     uint32
	offset int // of body
	more   bool
	body   []byte
	// head is what stands in front, up to the fragment header in IPv6, and next where
	// the type of the next header is told in it.
	head int
	next int
}

func (p *piece) end() int { return p.offset + len(p.body) }

// read takes a fragment apart; header is its IP header with all that belongs to it.
func read(header, raw []byte) (p piece, ok bool) {
	p.raw, p.body = raw, raw[len(header):]
	if raw[0]>>4 == 4 {
		field := binary.BigEndian.Uint16(raw[6:])
		p.id, p.offset, p.more, p.head = uint32(binary.BigEndian.Uint16(raw[4:])), int(field&0x1fff)*8, field&more4 != 0, len(header)
	} else {
		p.head = len(header) - fragment6
		if p.head < header6 {
			return piece{}, false
		}
		p.next = nextOf(header[:p.head])
		f := raw[p.head:]
		field := binary.BigEndian.Uint16(f[2:])
		p.id, p.offset, p.more = binary.BigEndian.Uint32(f[4:]), int(field&^7), field&1 != 0
	}
	// All but the last have a multiple of eight bytes (RFC 791 section 3.2, RFC 8200
	// section 4.5).
	return p, len(p.body) > 0 && (!p.more || len(p.body)%8 == 0) && p.end() <= maxIP
}

// nextOf finds where the headers in front of the fragment header name that.
func nextOf(header []byte) int {
	at, next := header6, 6
	for at < len(header) { // packet.Parse has walked the same way
		kind := header[next]
		next = at
		if kind == packet.ProtoAH {
			at += (int(header[at+1]) + 2) * 4
		} else {
			at += 8 + int(header[at+1])*8
		}
	}
	return next
}

// has says whether the same piece is there already.
func (t *train) has(p *piece) bool {
	return slices.ContainsFunc(t.pieces, func(o piece) bool { return o.offset == p.offset && o.more == p.more && bytes.Equal(o.raw, p.raw) })
}

// add takes a piece, and says whether it fits to the others. One that overlaps does
// not: RFC 5722 has such datagrams dropped, and no sender makes them.
func (t *train) add(p piece) (ok bool) {
	ok = len(t.pieces) < maxPieces
	for i := range t.pieces {
		if o := &t.pieces[i]; p.offset < o.end() && o.offset < p.end() {
			ok = false
		}
	}
	t.pieces = append(t.pieces, p)
	if !p.more {
		ok = ok && t.length == 0
		t.length = p.end()
	}
	if t.length > 0 {
		for i := range t.pieces {
			ok = ok && t.pieces[i].end() <= t.length
		}
	}
	return ok
}

// whole puts the pieces together, if none is missing.
func (t *train) whole() ([]byte, bool) {
	have := 0
	var first *piece
	for i := range t.pieces {
		have += len(t.pieces[i].body)
		if t.pieces[i].offset == 0 {
			first = &t.pieces[i]
		}
	}
	if t.length == 0 || have != t.length || first == nil || first.head+have > maxIP+header6 {
		return nil, false
	}
	b := make([]byte, first.head+have)
	copy(b, first.raw[:first.head])
	for i := range t.pieces {
		copy(b[first.head+t.pieces[i].offset:], t.pieces[i].body)
	}
	if b[0]>>4 == 4 {
		if len(b) > maxIP {
			return nil, false
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])&0x4000)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:first.head]))
		return b, true
	}
	if len(b)-header6 > maxIP {
		return nil, false
	}
	b[first.next] = first.raw[first.head] // what the fragment header had next
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-header6))
	return b, true
}
