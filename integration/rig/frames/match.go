package frames

import (
	"bytes"
	"fmt"
	mathbits "math/bits"
	"slices"
	"strings"
)

// Sent is a frame that was sent, with a name for messages.
type Sent struct {
	Name string
	Data []byte
	// Dropped says why a bridge does not pass it on; empty: it does.
	Dropped string
}

// Report is what became of the frames that were sent.
type Report struct {
	Passed  int      // as they were sent, but for padding
	Lost    []string // names
	Passing []string // names of frames that should have been dropped, and were not
	Changed []Altered
	Late    []string // came after one of their stream that was sent after them
	Doubled []string
	Foreign []string // sent by nobody
	Padding []Padded
}

// Padded is a frame that arrived with other padding.
type Padded struct {
	Name string
	Padding
}

// Altered is a frame that arrived with other fields.
type Altered struct {
	Name    string
	Changes []Change
}

func (a Altered) String() string {
	var words []string
	for _, c := range a.Changes {
		words = append(words, c.String())
	}
	return a.Name + ": " + strings.Join(words, "; ")
}

// farthest is the part of a frame's bits that may differ, as one in so many, if it is
// still taken for the one that was sent. Of unlike content half of them do.
const farthest = 4

// Match compares what was sent with what arrived, in the order of both. Frames
// that are equal but for padding belong together; each of the others belongs to
// the missing one that it differs least from. Frames keep their order
// within a stream; nil: all are one.
func Match(sent []Sent, got [][]byte, stream func(frame []byte) string) *Report {
	r := &Report{}
	m := matcher{sent: sent, taken: make([]int, len(sent)), of: make([]int, len(got)), byKey: map[string]int{}}
	for i := range sent {
		m.byKey[key(sent[i].Data)] = i
	}
	if len(m.byKey) != len(sent) {
		// Nothing could be said about order and loss of equal ones.
		r.Foreign = append(r.Foreign, "the test's own fault: two frames that were sent are the same")
		return r
	}
	m.exact(got, r)
	m.similar(got, r)
	for i, n := range m.taken {
		switch {
		case n == 0 && sent[i].Dropped == "":
			r.Lost = append(r.Lost, sent[i].Name)
		case n > 0 && sent[i].Dropped != "":
			r.Passing = append(r.Passing, fmt.Sprintf("%s (%s)", sent[i].Name, sent[i].Dropped))
		}
	}
	m.order(r, stream)
	return r
}

// matcher knows which frames belong together.
type matcher struct {
	sent  []Sent
	taken []int // how many of those that arrived belong to one that was sent
	of    []int // index of the frame that was sent, for each that arrived; -1: none
	byKey map[string]int
}

// key is a frame without padding.
func key(frame []byte) string {
	p := part(frame)
	return string(frame[:len(frame)-len(p.rest)+shapeOf(p.rest).end])
}

func (m *matcher) exact(got [][]byte, r *Report) {
	for n, frame := range got {
		i, ok := m.byKey[key(frame)]
		if !ok {
			m.of[n] = -1
			continue
		}
		m.of[n] = i
		if m.taken[i]++; m.taken[i] > 1 {
			r.Doubled = append(r.Doubled, m.sent[i].Name)
			continue
		}
		r.Passed++
		if _, pad := Compare(m.sent[i].Data, frame); !pad.Same {
			r.Padding = append(r.Padding, Padded{m.sent[i].Name, pad})
		}
	}
}

// similar finds for each frame that nobody sent as it is the missing one that it is
// nearest to, the nearest pair first.
func (m *matcher) similar(got [][]byte, r *Report) {
	type pair struct{ far, n, i int }
	var pairs []pair
	for n, frame := range got {
		for i := range m.sent {
			if m.of[n] >= 0 || m.taken[i] > 0 {
				continue
			}
			if far := distance(m.sent[i].Data, frame); farthest*far <= 8*len(m.sent[i].Data) {
				pairs = append(pairs, pair{far, n, i})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return a.far - b.far })
	for _, p := range pairs {
		if m.of[p.n] >= 0 || m.taken[p.i] > 0 {
			continue
		}
		m.of[p.n] = p.i
		m.taken[p.i]++
		changes, _ := Compare(m.sent[p.i].Data, got[p.n])
		r.Changed = append(r.Changed, Altered{m.sent[p.i].Name, changes})
	}
	for n, frame := range got {
		if m.of[n] < 0 {
			r.Foreign = append(r.Foreign, hexOf(frame))
		}
	}
}

// distance counts the bits that differ, tags apart from the rest.
func distance(a, b []byte) (bits int) {
	p, q := part(a), part(b)
	for _, s := range [][2][]byte{{p.dst, q.dst}, {p.src, q.src}, {bytes.Join(p.tags, nil), bytes.Join(q.tags, nil)}, {p.rest, q.rest}} {
		x, y := s[0], s[1]
		for i := range min(len(x), len(y)) {
			bits += mathbits.OnesCount8(x[i] ^ y[i])
		}
		bits += 4 * max(len(x)-len(y), len(y)-len(x)) // as unlike as noise is
	}
	return bits
}

func (m *matcher) order(r *Report, stream func([]byte) string) {
	latest := map[string]int{}
	for _, i := range m.of {
		if i < 0 {
			continue
		}
		id := ""
		if stream != nil {
			id = stream(m.sent[i].Data)
		}
		if last, ok := latest[id]; ok && i < last {
			r.Late = append(r.Late, fmt.Sprintf("%s after %s", m.sent[i].Name, m.sent[last].Name))
			continue
		}
		latest[id] = i
	}
}

// Problems lists all that an invisible box would not have done: one line each.
func (r *Report) Problems() (list []string) {
	var changed []string
	for _, a := range r.Changed {
		changed = append(changed, a.String())
	}
	for _, part := range []struct {
		word  string
		lines []string
	}{
		{"lost", r.Lost},
		{"changed", changed},
		{"out of order", r.Late},
		{"doubled", r.Doubled},
		{"sent by nobody", r.Foreign},
		{"passed", r.Passing},
	} {
		for _, line := range part.lines {
			list = append(list, part.word+": "+line)
		}
	}
	return list
}

// Trimmed counts the frames whose padding did not arrive, and those that arrived
// with other padding than they had.
func (r *Report) Trimmed() (trimmed int, other []Padded) {
	other = slices.DeleteFunc(slices.Clone(r.Padding), func(p Padded) bool { return p.Got == 0 })
	return len(r.Padding) - len(other), other
}
