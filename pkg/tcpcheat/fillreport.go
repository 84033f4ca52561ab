package tcpcheat

import "slices"

// ByteRange is a range of a stream: From up to but not including To, counted
// from 0, the first byte that the source sent.
type ByteRange struct{ From, To uint64 }

// maxReported bounds the list of filled ranges of one flow.
const maxReported = 256

// filled is what a flow was filled with: what its receiver may have instead of
// the source's bytes. Nothing is ever taken from it: whether a fake byte or a
// late real one came first only the receiver knows.
type filled struct {
	list  []ByteRange // in order, apart from each other
	more  uint64      // ranges that the list had no room for
	bytes uint64      // in all, each byte once
	last  uint64      // end of the latest range beyond the list

	segments uint64
	again    uint64 // of these, for a hole that had been filled before
	givenUp  uint64 // holes
}

// add writes [from, to) down.
func (f *filled) add(from, to uint64) {
	s := f.list
	i := len(s)
	for i > 0 && s[i-1].To >= from {
		i--
	}
	j, had := i, uint64(0)
	for j < len(s) && s[j].From <= to {
		had += s[j].To - s[j].From
		j++
	}
	switch {
	case i < j:
		s[i].From = min(s[i].From, from)
		s[i].To = max(s[j-1].To, to)
		f.bytes += s[i].To - s[i].From - had
		f.list = slices.Delete(s, i+1, j)
	case len(s) < maxReported:
		f.bytes += to - from
		f.list = slices.Insert(s, i, ByteRange{from, to})
	default:
		// A second round of the same hole counts no byte twice: holes are
		// filled in order, but for those that are filled again.
		if from > f.last || f.more == 0 {
			f.more++
		}
		if to > f.last {
			f.bytes += to - max(from, f.last)
			f.last = to
		}
	}
}
