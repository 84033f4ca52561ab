package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// maxFlight bounds the records of one flow: 24 bytes each. A flow of very
// small segments reaches it before its memory; what has no record is not held.
const maxFlight = 32 << 10

// Flags of a record.
const (
	sentSACKed  = 1 << iota
	sentLost    // to be sent again
	sentAbsent  // never passed the box: a hole in front of it, or no room
	sentTimeout // to be sent again because of a timeout
	sentLeast   // its last copy went in pieces that every path takes
	sentNewTS   // its last copy has another TSval than the one before
)

// sent is one segment on its way to the receiver. Its start is the end of the
// record before it.
type sent struct {
	at    instant // last transmission
	end   packet.Seq
	ts    uint32 // TSval of the last transmission
	rtx   uint16 // times sent again
	flags uint8
}

// flight is what was sent to the receiver and not acknowledged by it, in order
// and without gaps: a ring of records, oldest first.
type flight struct {
	ring       []sent
	head, tail uint64
	start      packet.Seq // of the oldest record
	lost       int        // records marked so
	sacked     int
	absent     int
	hint       uint64 // no lost record is before it
}

func (f *flight) at(i uint64) *sent { return &f.ring[i&uint64(len(f.ring)-1)] }

func (f *flight) empty() bool { return f.head == f.tail }

// from is the first sequence number of record i.
func (f *flight) from(i uint64) packet.Seq {
	if i == f.head {
		return f.start
	}
	return f.at(i - 1).end
}

// end is the end of the newest record.
func (f *flight) end() packet.Seq {
	if f.empty() {
		return f.start
	}
	return f.at(f.tail - 1).end
}

// room tells whether n more records may be had.
func (f *flight) room(n int) bool { return int(f.tail-f.head)+n <= maxFlight }

func (f *flight) push(s sent) {
	if n := int(f.tail - f.head); n == len(f.ring) {
		size := max(64, 2*n)
		ring := make([]sent, size)
		for i := f.head; i != f.tail; i++ {
			ring[i&uint64(size-1)] = *f.at(i)
		}
		f.ring = ring
	}
	*f.at(f.tail) = s
	f.tail++
	if s.flags&sentAbsent != 0 {
		f.absent++
	}
}

// extend records the bytes up to end in segments of at most mss.
func (f *flight) extend(end packet.Seq, mss int, s sent) {
	for at := f.end(); at.Before(end); {
		at = packet.MinSeq(at.Add(mss), end)
		s.end = at
		f.push(s)
	}
}

// pop removes what lies below ack and calls each with the removed records.
func (f *flight) pop(ack packet.Seq, each func(*sent)) {
	for f.head != f.tail && f.at(f.head).end.AtMost(ack) {
		s := f.at(f.head)
		each(s)
		f.forget(s)
		f.start = s.end
		f.head++
	}
	if f.start.Before(ack) {
		f.start = ack // in the middle of a record, or beyond the last one
	}
	f.hint = max(f.hint, f.head)
}

func (f *flight) forget(s *sent) {
	if s.flags&sentLost != 0 {
		f.lost--
	}
	if s.flags&sentSACKed != 0 {
		f.sacked--
	}
	if s.flags&sentAbsent != 0 {
		f.absent--
	}
}

// find is the first record that ends after seq.
func (f *flight) find(seq packet.Seq) uint64 {
	lo, hi := f.head, f.tail
	for lo < hi {
		mid := lo + (hi-lo)/2
		if f.at(mid).end.After(seq) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// setLost marks record i to be sent again.
func (f *flight) setLost(i uint64) {
	s := f.at(i)
	if s.flags&(sentLost|sentSACKed|sentAbsent) != 0 {
		return
	}
	s.flags |= sentLost
	if f.lost == 0 || i < f.hint {
		f.hint = i
	}
	f.lost++
}

// nextLost is the first record to be sent again; false if there is none.
func (f *flight) nextLost() (uint64, bool) {
	if f.lost == 0 {
		return 0, false
	}
	f.hint = max(f.hint, f.head)
	for ; f.hint != f.tail; f.hint++ {
		if f.at(f.hint).flags&sentLost != 0 {
			return f.hint, true
		}
	}
	return 0, false
}

// present notes that absent records below end have been forwarded after all. One
// that was so in part becomes two: the rest may never come, if the box takes
// nothing new any more, and what is held must be sent all the same.
func (f *flight) present(end packet.Seq, now instant, ts uint32) {
	if f.absent == 0 {
		return
	}
	if i := f.find(end); i != f.tail && f.at(i).flags&sentAbsent != 0 && f.from(i).Before(end) && f.room(1) {
		f.split(i, end)
	}
	for i := f.head; i != f.tail && f.at(i).end.AtMost(end); i++ {
		if s := f.at(i); s.flags&sentAbsent != 0 {
			s.flags &^= sentAbsent
			s.at, s.ts = now, ts
			f.absent--
		}
	}
}

// split makes two records of record i, which is neither lost nor reported.
func (f *flight) split(i uint64, at packet.Seq) {
	f.push(*f.at(f.tail - 1))
	if f.at(f.tail-1).flags&sentAbsent != 0 {
		f.absent-- // only moved
	}
	for k := f.tail - 1; k > i; k-- {
		*f.at(k) = *f.at(k - 1)
	}
	f.at(i).end = at
	f.absent++
	if f.hint > i {
		f.hint++
	}
}
