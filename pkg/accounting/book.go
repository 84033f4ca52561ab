package accounting

import (
	"slices"
	"time"
)

// Limits bound a [Book].
type Limits struct {
	Kept  int // ended records
	Users int
	Parts int // of a record
}

// Defaults of [Limits].
const (
	DefaultKept  = 10_000
	DefaultUsers = 10_000
	DefaultParts = 256
)

// Book is the account of all reservations. It is not safe for concurrent use.
type Book struct {
	limits   Limits
	running  map[string]*account
	branches map[uint64]*account // by ID
	rows     map[Row]*row
	kept     []Record // ended, the oldest first
	serial   uint64   // of the last
	told     uint64   // up to this one the log and the file have them
	users    users
	totals   Totals
	changed  uint64 // grows with every change of a row
	opened   time.Time
	moved    []*meter
}

// account is a reservation that runs.
type account struct {
	key   string
	info  Info
	begin time.Time
	meter meter
	parts []*part
	more  int
	rows  []Row    // that serve it
	ids   []uint64 // its branches; none: of an earlier process
	seen  time.Time
}

type part struct {
	Row
	user       User
	begin, end time.Time
	meter      meter
}

// row is what is known of a row of the kernel's.
type row struct {
	of   *account
	part *part // nil: there was no room
	user User
	sum  *user
	id   uint64 // the branch that it serves
	last Usage
	at   uint64 // Book.changed when it was looked at
}

// New makes an empty book. Zero limits mean the defaults.
func New(l Limits) *Book {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Kept, DefaultKept)
	def(&l.Users, DefaultUsers)
	def(&l.Parts, DefaultParts)
	return &Book{
		limits: l, running: map[string]*account{}, branches: map[uint64]*account{}, rows: map[Row]*row{}, users: newUsers(l.Users),
	}
}

// Limit changes how many ended records are kept.
func (b *Book) Limit(kept int) {
	b.limits.Kept = kept
	b.throw()
}

// Open begins the account of the reservation with an ID, or tells what has changed
// of it. All that have the same key are one, such as the branches to a group.
func (b *Book) Open(now time.Time, id uint64, key string, i Info) {
	a := b.branches[id]
	if a != nil && a.key != key {
		b.Close(now, id, "it became another one")
		a = nil
	}
	if a == nil {
		if a = b.running[key]; a == nil {
			a = &account{key: key, begin: now}
			b.running[key] = a
		}
		a.ids = append(a.ids, id)
		b.branches[id] = a
	}
	a.info, a.seen = i, now
}

// Has says whether a row serves the reservation with an ID.
func (b *Book) Has(id uint64, r Row) bool {
	w := b.rows[r]
	return w != nil && w.id == id
}

// Serves says whether a row serves any.
func (b *Book) Serves(r Row) bool { return b.rows[r] != nil }

// Join tells that a row serves the reservation with an ID from now on, for a user,
// and what it has counted so far: that belongs to whom it served before, if to
// anybody.
func (b *Book) Join(now time.Time, id uint64, r Row, u User, counted Usage) {
	a := b.branches[id]
	if a == nil {
		return
	}
	w := b.rows[r]
	if w == nil {
		w = &row{last: counted}
		b.rows[r] = w
	}
	b.read(w, counted)
	switch {
	case w.of == a && w.user == u:
		w.id = id
	default:
		b.part(now, r, w)
		w.of, w.id, w.user = a, id, u
		w.part, w.sum = b.partOf(now, a, r, u), b.users.join(now, u)
		a.rows = append(a.rows, r)
	}
}

// Charge has what a row counts from now on put down to a user.
func (b *Book) Charge(now time.Time, r Row, u User) {
	if w := b.rows[r]; w != nil && w.of != nil && w.user != u {
		b.Join(now, w.id, r, u, w.last)
	}
}

// RowsOf lists the rows that serve the reservation with an ID.
func (b *Book) RowsOf(id uint64) (list []Row) {
	if a := b.branches[id]; a != nil {
		for _, r := range a.rows {
			if b.rows[r].id == id {
				list = append(list, r)
			}
		}
	}
	return list
}

// partOf finds or makes the part of an account for a row and a user.
func (b *Book) partOf(now time.Time, a *account, r Row, u User) *part {
	for _, p := range a.parts {
		if p.Row == r && p.user == u {
			p.end = time.Time{}
			return p
		}
	}
	if len(a.parts) >= b.limits.Parts {
		a.more++
		return nil
	}
	p := &part{Row: r, user: u, begin: now}
	a.parts = append(a.parts, p)
	return p
}

// read notes what a row has counted.
func (b *Book) read(w *row, counted Usage) {
	u := counted.since(w.last)
	w.last = counted
	b.changed++
	w.at = b.changed
	if w.of == nil || u == (Usage{}) {
		return
	}
	b.totals.Usage = b.totals.Usage.Plus(u)
	b.add(&w.of.meter, u)
	if w.part != nil {
		b.add(&w.part.meter, u)
	}
	b.add(&w.sum.meter, u)
}

// part ends that a row serves whom it serves.
func (b *Book) part(now time.Time, r Row, w *row) {
	a := w.of
	if a == nil {
		return
	}
	if w.part != nil {
		w.part.end = now
	}
	b.users.leave(now, w.sum)
	a.rows = slices.DeleteFunc(a.rows, func(o Row) bool { return o == r })
	w.of, w.part, w.sum = nil, nil, nil
}

// Leave tells that a row serves nobody any more, and what it has counted.
func (b *Book) Leave(now time.Time, r Row, counted Usage) {
	w := b.rows[r]
	if w == nil {
		return
	}
	b.read(w, counted)
	b.forget(now, r, w)
}

// Lose is Leave for a row that has gone, with what it has counted since the last
// look.
func (b *Book) Lose(now time.Time, r Row) {
	if w := b.rows[r]; w != nil {
		b.forget(now, r, w)
	}
}

func (b *Book) forget(now time.Time, r Row, w *row) {
	b.part(now, r, w)
	b.changed++
	w.at = b.changed // for a look that has it
	delete(b.rows, r)
}

// Close ends the reservation with an ID. With its last branch the record is
// complete, and kept until it is read; nil: it is not.
func (b *Book) Close(now time.Time, id uint64, why string) *Record {
	a := b.branches[id]
	if a == nil {
		return nil
	}
	delete(b.branches, id)
	for _, r := range slices.Clone(a.rows) {
		if w := b.rows[r]; w.id == id {
			b.forget(now, r, w)
		}
	}
	a.ids = slices.DeleteFunc(a.ids, func(o uint64) bool { return o == id })
	if len(a.ids) > 0 {
		return nil
	}
	return b.end(now, a, why)
}

func (b *Book) end(now time.Time, a *account, why string) *Record {
	delete(b.running, a.key)
	b.serial++
	r := b.record(now, a)
	r.Serial, r.End, r.Why = b.serial, now, why
	for i := range r.Parts {
		if r.Parts[i].End.IsZero() {
			r.Parts[i].End = now
		}
	}
	b.kept = append(b.kept, r)
	b.totals.Ended++
	b.throw()
	return &r
}

// throw throws away what there is no room for.
func (b *Book) throw() {
	n := len(b.kept) - b.limits.Kept
	if n <= 0 {
		return
	}
	for i := range b.kept[:n] {
		b.totals.Lost++
		b.totals.LostUsage = b.totals.LostUsage.Plus(b.kept[i].Usage)
	}
	b.shorten(n)
}

// shorten takes the oldest away. Nothing is moved for it: append makes a new list
// when this one is used up.
func (b *Book) shorten(n int) {
	clear(b.kept[:n])
	b.kept = b.kept[n:]
}

func (b *Book) record(now time.Time, a *account) Record {
	d := time.Duration(0)
	if !b.opened.IsZero() {
		d = now.Sub(b.opened)
	}
	r := Record{Info: a.info, Begin: a.begin, Usage: a.meter.usage, Peak: a.meter.peakAfter(d), More: a.more}
	for _, p := range a.parts {
		r.Parts = append(r.Parts, Part{Row: p.Row, User: p.user, Begin: p.begin, End: p.end, Usage: p.meter.usage, Peak: p.meter.peakAfter(d)})
	}
	return r
}
