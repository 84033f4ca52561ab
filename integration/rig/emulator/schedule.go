package emulator

import "time"

// delivery is a frame on its way to the other end.
type delivery struct {
	at        time.Time
	seq       uint64 // keeps the order of frames with the same time
	frame     []byte
	duplicate bool
}

func (d delivery) before(other delivery) bool {
	if d.at.Equal(other.at) {
		return d.seq < other.seq
	}
	return d.at.Before(other.at)
}

// deliveries is a binary heap, the earliest first. It is written out because
// container/heap would allocate for every frame.
type deliveries []delivery

func (h *deliveries) push(d delivery) {
	*h = append(*h, d)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s[i].before(s[parent]) {
			break
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *deliveries) pop() delivery {
	s := *h
	first, last := s[0], len(s)-1
	s[0], s[last] = s[last], delivery{}
	s = s[:last]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if right := child + 1; right < last && s[right].before(s[child]) {
			child = right
		}
		if !s[child].before(s[i]) {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	return first
}

// departure is a frame that waits for the transmitter.
type departure struct {
	at   time.Time
	size int
}

// ring is a first-in first-out queue that grows by doubling.
type ring struct {
	buf   []departure
	head  int
	count int
}

func (r *ring) len() int          { return r.count }
func (r *ring) first() *departure { return &r.buf[r.head] }

func (r *ring) push(d departure) {
	if r.count == len(r.buf) {
		grown := make([]departure, max(64, 2*len(r.buf)))
		n := copy(grown, r.buf[r.head:])
		copy(grown[n:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.count)%len(r.buf)] = d
	r.count++
}

func (r *ring) pop() departure {
	d := r.buf[r.head]
	r.head = (r.head + 1) % len(r.buf)
	r.count--
	return d
}
