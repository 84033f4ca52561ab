package fair

import "time"

// maxLines bounds the table of what was said lately.
const maxLines = 256

// Lines limits how often the same thing is said of the same neighbour. It
// belongs to one goroutine.
type Lines struct {
	every time.Duration
	said  map[line]*lately
}

type line struct {
	of   Key
	what string
}

type lately struct {
	at         time.Time
	suppressed uint64
}

// NewLines returns a limit of one line for each thing, neighbour and period.
func NewLines(every time.Duration) *Lines {
	return &Lines{every: every, said: map[line]*lately{}}
}

// Say tells whether a line may be written now, and how many were not since the
// last one like it. When very many neighbours are complained of, those that
// find no place share one line for each thing.
func (l *Lines) Say(now time.Time, of Key, what string) (suppressed uint64, ok bool) {
	k := line{of, what}
	s := l.said[k]
	if s == nil && len(l.said) >= maxLines && !l.makeRoom(now) {
		k.of = Key{}
		s = l.said[k]
	}
	switch {
	case s == nil:
		l.said[k] = &lately{at: now} // at most one more for each thing
		return 0, true
	case now.Sub(s.at) < l.every:
		s.suppressed++
		return 0, false
	}
	suppressed, s.suppressed, s.at = s.suppressed, 0, now
	return suppressed, true
}

// makeRoom forgets what was said long enough ago to be said again.
func (l *Lines) makeRoom(now time.Time) bool {
	for k, s := range l.said {
		if now.Sub(s.at) >= l.every {
			delete(l.said, k)
		}
	}
	return len(l.said) < maxLines
}
