package traffic

import "encoding/binary"

// probeSize is the length of a probe's header, bytes.
const probeSize = 24

// probeMagic keeps foreign packets out of the figures.
const probeMagic = 0x71702d7072626531 // "qp-prbe1"

// probe is the head of every packet of a stream.
type probe struct {
	seq  uint64
	sent int64 // CLOCK_MONOTONIC, ns
}

func (p probe) put(b []byte) {
	binary.BigEndian.PutUint64(b, probeMagic)
	binary.BigEndian.PutUint64(b[8:], p.seq)
	binary.BigEndian.PutUint64(b[16:], uint64(p.sent))
}

func parseProbe(b []byte) (probe, bool) {
	if len(b) < probeSize || binary.BigEndian.Uint64(b) != probeMagic {
		return probe{}, false
	}
	return probe{
		seq:  binary.BigEndian.Uint64(b[8:]),
		sent: int64(binary.BigEndian.Uint64(b[16:])),
	}, true
}
