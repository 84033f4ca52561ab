package fair

// apart is the part of a limit that is set aside: one of so many.
const apart = 4

// Quota shares a limit on what is kept out among interfaces. A quarter of it is
// set aside, for each of them the same; the rest is for whoever comes first. So
// one interface alone may keep nearly all, and however much it keeps, by however
// many names, every other one still has its own part. What is kept is never
// taken away for a newcomer. It belongs to one goroutine.
type Quota struct {
	limit  int
	each   int // set aside for one interface
	known  map[int]bool
	held   map[int]int
	all    int
	beyond int // what interfaces hold above their own parts
}

// NewQuota returns a Quota that knows no interface: until [Quota.SetInterfaces]
// nothing is set aside.
func NewQuota(limit int) *Quota {
	return &Quota{limit: limit, known: map[int]bool{}, held: map[int]int{}}
}

// SetInterfaces tells which interfaces have a part of their own. What an
// interface holds that is not among them counts, and it may hold more of what
// is common.
func (q *Quota) SetInterfaces(list ...int) {
	clear(q.known)
	for _, i := range list {
		q.known[i] = true
	}
	q.each = 0
	if len(q.known) > 1 {
		// At least one, if that is possible without leaving nothing in common.
		q.each = max(q.limit/(apart*len(q.known)), min(1, q.limit/(len(q.known)+1)))
	}
	q.beyond = 0
	for i, n := range q.held {
		q.beyond += max(0, n-q.own(i))
	}
}

func (q *Quota) own(iface int) int {
	if q.known[iface] {
		return q.each
	}
	return 0
}

// Free is how many more an interface may take.
func (q *Quota) Free(iface int) int {
	own := max(0, q.own(iface)-q.held[iface])
	common := max(0, q.limit-q.each*len(q.known)-q.beyond)
	return max(0, min(own+common, q.limit-q.all))
}

// Take takes one for an interface, if it may have one more.
func (q *Quota) Take(iface int) bool {
	if q.Free(iface) == 0 {
		return false
	}
	q.add(iface, 1)
	return true
}

// Give gives n back.
func (q *Quota) Give(iface, n int) { q.add(iface, -n) }

// Move has one count for another interface than before, whatever that holds: it
// is there, and does not go.
func (q *Quota) Move(from, to int) {
	q.add(from, -1)
	q.add(to, 1)
}

func (q *Quota) add(iface, n int) {
	was := q.held[iface]
	is := was + n
	q.beyond += max(0, is-q.own(iface)) - max(0, was-q.own(iface))
	q.all += n
	if q.held[iface] = is; is == 0 {
		delete(q.held, iface)
	}
}

// Held is how many an interface has.
func (q *Quota) Held(iface int) int { return q.held[iface] }

// All is how many there are.
func (q *Quota) All() int { return q.all }
