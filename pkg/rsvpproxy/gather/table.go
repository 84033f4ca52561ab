package gather

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Defaults of [Config].
const (
	DefaultTrains = 64
	DefaultBytes  = 1 << 20
	DefaultWait   = 2 * time.Second // the rest of a message comes right behind its first
)

// maxPieces bounds the fragments of one datagram: 64 KiB over the smallest MTU of
// IPv6 are 53.
const maxPieces = 64

// Config are the limits of a [Table]. Zero values mean the defaults.
type Config struct {
	Trains int           // datagrams that are waited for
	Bytes  int           // of all their pieces
	Wait   time.Duration // for the rest of one
}

// Train is a datagram that has ended, in whichever way.
type Train struct {
	Port int
	// Whole is the datagram as its sender made it, nil if it was given up.
	Whole []byte
	// Pieces are the fragments as they came, in their order.
	Pieces [][]byte
}

// Counters are the figures of a [Table]: datagrams by what became of them.
type Counters struct {
	Whole   uint64
	Late    uint64 // given up: the rest did not come in time
	Crowded uint64 // given up for want of room
	Broken  uint64 // given up: pieces that do not fit together
}

// Table holds fragments until they are whole. It is not safe for concurrent use.
type Table struct {
	cfg    Config
	trains map[key]*train
	order  []*train // by their ends
	bytes  int
	count  Counters
}

// key is what fragments of one datagram have in common (RFC 791 section 3.2, RFC
// 8200 section 4.5), and the port they come by.
type key struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
	port     int
}

type train struct {
	key    key
	until  time.Time
	pieces []piece
	bytes  int
	length int // of what is fragmented; 0: the last piece has not come
}

// New returns an empty table.
func New(cfg Config) *Table {
	cfg.Trains = cmp.Or(cfg.Trains, DefaultTrains)
	cfg.Bytes = cmp.Or(cfg.Bytes, DefaultBytes)
	cfg.Wait = cmp.Or(cfg.Wait, DefaultWait)
	return &Table{cfg: cfg, trains: map[key]*train{}}
}

// Add takes a fragment, and returns the datagrams that end with it: its own, whole
// or given up, and others that have to make room. The bytes are copied.
func (t *Table) Add(now time.Time, v packet.View, port int) (out []Train) {
	raw := slices.Clone(v.Bytes())
	p, ok := read(v.Header(), raw)
	if !ok {
		t.count.Broken++
		return []Train{{Port: port, Pieces: [][]byte{raw}}}
	}
	k := key{v.Src(), v.Dst(), v.Proto(), p.id, port}
	tr := t.trains[k]
	if tr != nil && tr.has(&p) {
		return nil // a duplicate
	}
	if tr == nil {
		tr = &train{key: k, until: now.Add(t.cfg.Wait)}
	}
	for len(t.order) > 0 && (t.bytes+len(raw) > t.cfg.Bytes || len(tr.pieces) == 0 && len(t.order) >= t.cfg.Trains) {
		oldest := t.order[0]
		if oldest == tr {
			break // its own: it has most of the room
		}
		t.count.Crowded++
		out = append(out, t.end(oldest, nil))
	}
	if t.trains[k] == nil {
		t.trains[k] = tr
		t.order = append(t.order, tr)
	}
	good := tr.add(p)
	tr.bytes += len(raw)
	t.bytes += len(raw)
	switch {
	case !good:
		t.count.Broken++
		return append(out, t.end(tr, nil))
	case t.bytes > t.cfg.Bytes:
		t.count.Crowded++
		return append(out, t.end(tr, nil))
	}
	if whole, ok := tr.whole(); ok {
		t.count.Whole++
		return append(out, t.end(tr, whole))
	}
	return out
}

// Due returns the datagrams whose rest has not come in time.
func (t *Table) Due(now time.Time) (out []Train) {
	for len(t.order) > 0 && !t.order[0].until.After(now) {
		t.count.Late++
		out = append(out, t.end(t.order[0], nil))
	}
	return out
}

// NextDeadline tells when [Table.Due] has to be called; false: never.
func (t *Table) NextDeadline() (time.Time, bool) {
	if len(t.order) == 0 {
		return time.Time{}, false
	}
	return t.order[0].until, true
}

// Counters returns the figures.
func (t *Table) Counters() Counters { return t.count }

// end takes a datagram out.
func (t *Table) end(tr *train, whole []byte) Train {
	delete(t.trains, tr.key)
	t.order = slices.DeleteFunc(t.order, func(o *train) bool { return o == tr })
	t.bytes -= tr.bytes
	out := Train{Port: tr.key.port, Whole: whole}
	for i := range tr.pieces {
		out.Pieces = append(out.Pieces, tr.pieces[i].raw)
	}
	return out
}
