package promise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The file's layout. Numbers are little endian, whatever the machine.
const (
	// Version changes with the layout: a file of another version is not read.
	Version    = 1
	headerSize = 64
	fixedSize  = 64
	stateSize  = 64
	// SlotSize is the fixed part and two copies of the changing one.
	SlotSize = fixedSize + 2*stateSize
	// MaxSlots bounds a file that is read: limits.flows is at most this.
	MaxSlots = 10_000_000
)

var magic = [8]byte{'Q', 'O', 'S', 'P', 'R', 'O', 'M', 0}

// Errors of Open.
var (
	ErrNoFile  = errors.New("it is not a file of promises")
	ErrVersion = errors.New("it has another version's form")
	ErrDamaged = errors.New("its header is damaged")
	ErrSize    = errors.New("its size is not what its header says")
)

// Header says what a file is about.
type Header struct {
	// Boot is that of the machine when the file was made.
	Boot [16]byte
	// Generation counts the processes that have written it.
	Generation uint64
	Slots      int
}

// Size is the length of a file with so many slots.
func Size(slots int) int { return headerSize + slots*SlotSize }

// File is a file's bytes, mapped or read. Different slots may be written at once.
type File struct {
	Header
	b []byte
}

// Format makes an empty file of zeros, which must have the right size.
func Format(b []byte, h Header) (*File, error) {
	if h.Slots < 0 || h.Slots > MaxSlots || len(b) != Size(h.Slots) {
		return nil, ErrSize
	}
	copy(b[0:8], magic[:])
	binary.LittleEndian.PutUint32(b[8:], Version)
	binary.LittleEndian.PutUint32(b[12:], SlotSize)
	binary.LittleEndian.PutUint32(b[16:], uint32(h.Slots))
	binary.LittleEndian.PutUint64(b[24:], h.Generation)
	copy(b[32:48], h.Boot[:])
	binary.LittleEndian.PutUint32(b[60:], sum(b[:60]))
	return &File{h, b}, nil
}

// Open reads a file's header, and refuses what this version cannot read.
func Open(b []byte) (*File, error) {
	if len(b) < headerSize || !bytes.Equal(b[:8], magic[:]) {
		return nil, ErrNoFile
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != Version {
		return nil, fmt.Errorf("%w: %d, and this is %d", ErrVersion, v, Version)
	}
	if binary.LittleEndian.Uint32(b[60:]) != sum(b[:60]) {
		return nil, ErrDamaged
	}
	h := Header{Generation: binary.LittleEndian.Uint64(b[24:])}
	copy(h.Boot[:], b[32:48])
	n := binary.LittleEndian.Uint32(b[16:])
	if n > MaxSlots || binary.LittleEndian.Uint32(b[12:]) != SlotSize || len(b) != Size(int(n)) {
		return nil, ErrSize
	}
	h.Slots = int(n)
	return &File{h, b}, nil
}

// slot is the bytes of one.
func (f *File) slot(i int) []byte {
	at := headerSize + i*SlotSize
	return f.b[at : at+SlotSize : at+SlotSize]
}

// sum is a checksum of a few words: it tells what was written by halves from what
// was written. A piece of zeros has another one than 0.
func sum(b []byte) uint32 {
	h := uint64(0x9e3779b97f4a7c15)
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	for i, c := range b {
		h = (h ^ uint64(c)<<(8*i)) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return uint32(h)
}
