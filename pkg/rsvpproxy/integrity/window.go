package integrity

// after says whether sequence number a is newer than b, modulo 2^64.
func after(a, b uint64) bool { return int64(a-b) > 0 }

// window is the list of the latest sequence numbers received (RFC 2747 section
// 4.2). Sequence numbers have gaps, so that it is a list and no bitmap. It is
// in ascending order; its first is the lower end: nothing below is accepted.
type window struct {
	seen []uint64
}

// start forgets all and makes seq the largest number received.
func (w *window) start(seq uint64) { w.seen = append(w.seen[:0], seq) }

func (w *window) begun() bool { return len(w.seen) > 0 }

// latest is the largest number received.
func (w *window) latest() uint64 { return w.seen[len(w.seen)-1] }

// accept takes in seq if it is new: greater than all, or between the lower end
// and the largest and not in the list. The list has at most size numbers.
func (w *window) accept(seq uint64, size int) bool {
	i := len(w.seen)
	for i > 0 && after(w.seen[i-1], seq) {
		i--
	}
	if i > 0 && w.seen[i-1] == seq || i == 0 && len(w.seen) > 0 {
		return false
	}
	w.seen = append(w.seen, 0)
	copy(w.seen[i+1:], w.seen[i:])
	w.seen[i] = seq
	if drop := len(w.seen) - size; drop > 0 {
		w.seen = append(w.seen[:0], w.seen[drop:]...)
	}
	return true
}
