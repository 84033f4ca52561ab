package accounting

import "time"

// Look is one look at all rows, which takes a while: what changes meanwhile is not
// in it.
type Look struct {
	Rows []Row
	// Counted is what each has counted. Missing tells of those that could not be
	// read, or are not there.
	Counted []Usage
	Missing []bool
	rows    []*row
	mark    uint64
}

// Begin lists the rows to look at.
func (b *Book) Begin() *Look {
	l := &Look{Rows: make([]Row, 0, len(b.rows)), mark: b.changed}
	l.rows = make([]*row, 0, len(b.rows))
	for r, w := range b.rows {
		l.Rows, l.rows = append(l.Rows, r), append(l.rows, w)
	}
	l.Counted, l.Missing = make([]Usage, len(l.Rows)), make([]bool, len(l.Rows))
	return l
}

// Count takes what was seen at now. A row that somebody has looked at since the
// look began is left out: what the look has of it may be older, or of another row
// of that name.
func (b *Book) Count(now time.Time, l *Look) {
	for i, w := range l.rows {
		if w.at > l.mark || l.Missing[i] {
			continue
		}
		b.read(w, l.Counted[i])
		if w.of != nil {
			w.of.seen = now
		}
	}
	b.tick(now)
}
