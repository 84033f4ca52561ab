package accounting

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// version of the file's form. Another one is refused: it is not for this
// program to guess what it means.
const version = 1

// MaxFile is how many bytes a file may have.
const MaxFile = 1 << 30

// file is the book as JSON.
type file struct {
	Version int           `json:"version"`
	Serial  uint64        `json:"last_serial"`
	Told    *uint64       `json:"told"` // none: all
	Totals  Totals        `json:"totals"`
	Running []fileRunning `json:"running"`
	Ended   []fileRecord  `json:"ended"`
	Users   []fileUser    `json:"users"`
}

type fileRunning struct {
	fileRecord
	Key  string    `json:"key"`
	Seen time.Time `json:"seen"`
	Rows []fileRow `json:"rows"`
}

type fileRecord struct {
	Serial uint64     `json:"serial,omitempty"`
	Info   Info       `json:"info"`
	Begin  time.Time  `json:"begin"`
	End    *time.Time `json:"end,omitempty"`
	Why    string     `json:"why,omitempty"`
	Usage  Usage      `json:"usage"`
	Peak   float64    `json:"peak"`
	Parts  []filePart `json:"parts"`
	More   int        `json:"more,omitempty"`
}

type fileFlow struct {
	Interface string         `json:"interface"`
	Protocol  uint8          `json:"protocol"`
	Src       netip.AddrPort `json:"src"`
	Dst       netip.AddrPort `json:"dst"`
	Label     uint32         `json:"flow_label,omitempty"`
}

type filePart struct {
	fileFlow
	User  User       `json:"user"`
	Begin time.Time  `json:"begin"`
	End   *time.Time `json:"end,omitempty"`
	Usage Usage      `json:"usage"`
	Peak  float64    `json:"peak"`
}

type fileRow struct {
	fileFlow
	User User  `json:"user"`
	Last Usage `json:"last"`
}

type fileUser struct {
	User    User      `json:"user"`
	Flows   uint64    `json:"flows"`
	Seconds float64   `json:"seconds"`
	Usage   Usage     `json:"usage"`
	Peak    float64   `json:"peak"`
	Seen    time.Time `json:"seen"`
}

func flowOf(r Row) fileFlow {
	return fileFlow{r.Interface, r.Key.Proto, r.Key.SrcAddrPort(), r.Key.DstAddrPort(), r.Key.Label}
}

func (f *fileFlow) row() (Row, error) {
	if !f.Src.IsValid() || !f.Dst.IsValid() {
		return Row{}, errors.New("src or dst of a flow is missing")
	}
	r := Row{f.Interface, packet.MakeKey(f.Protocol, f.Src, f.Dst)}
	r.Key.Label = f.Label
	return r, nil
}

func whenever(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func encode(r *Record) fileRecord {
	f := fileRecord{
		Serial: r.Serial, Info: r.Info, Begin: r.Begin.UTC(), End: whenever(r.End), Why: r.Why,
		Usage: r.Usage, Peak: r.Peak, Parts: make([]filePart, 0, len(r.Parts)), More: r.More,
	}
	for _, p := range r.Parts {
		f.Parts = append(f.Parts, filePart{flowOf(p.Row), p.User, p.Begin.UTC(), whenever(p.End), p.Usage, p.Peak})
	}
	return f
}

// Snapshot is a book as it was at one moment, to be written down.
type Snapshot struct {
	serial  uint64
	told    uint64
	totals  Totals
	running []snapshotRunning
	ended   []Record
	users   []Sum
}

type snapshotRunning struct {
	Record
	key  string
	seen time.Time
	rows []snapshotRow
}

type snapshotRow struct {
	Row
	user User
	last Usage
}

// Snapshot takes one.
func (b *Book) Snapshot(now time.Time) *Snapshot {
	s := &Snapshot{serial: b.serial, told: b.told, totals: b.Totals(), ended: b.Ended(), users: b.Users(now), running: make([]snapshotRunning, 0, len(b.running))}
	for _, a := range b.running {
		e := snapshotRunning{Record: b.record(now, a), key: a.key, seen: a.seen}
		for _, r := range a.rows {
			w := b.rows[r]
			e.rows = append(e.rows, snapshotRow{r, w.user, w.last})
		}
		s.running = append(s.running, e)
	}
	return s
}

// Last is the serial number of the newest ended record in it.
func (s *Snapshot) Last() uint64 { return s.serial }

// Empty says whether there is nothing to keep.
func (s *Snapshot) Empty() bool { return s.serial == 0 && len(s.running) == 0 && len(s.users) == 0 }

// Encode writes it as a file's contents.
func (s *Snapshot) Encode() ([]byte, error) {
	f := file{Version: version, Serial: s.serial, Told: &s.told, Totals: s.totals, Running: []fileRunning{}, Ended: []fileRecord{}, Users: []fileUser{}}
	for i := range s.ended {
		f.Ended = append(f.Ended, encode(&s.ended[i]))
	}
	for i := range s.running {
		a := &s.running[i]
		e := fileRunning{fileRecord: encode(&a.Record), Key: a.key, Seen: a.seen.UTC(), Rows: []fileRow{}}
		for _, r := range a.rows {
			e.Rows = append(e.Rows, fileRow{flowOf(r.Row), r.user, r.last})
		}
		f.Running = append(f.Running, e)
	}
	slices.SortFunc(f.Running, func(x, y fileRunning) int { return cmp.Compare(x.Key, y.Key) })
	for _, u := range s.users {
		f.Users = append(f.Users, fileUser{u.User, u.Flows, u.Seconds, u.Usage, u.Peak, u.Seen.UTC()})
	}
	out, err := json.Marshal(f)
	return append(out, '\n'), err
}

// Encode writes the book as a file's contents.
func (b *Book) Encode(now time.Time) ([]byte, error) { return b.Snapshot(now).Encode() }

// Decode reads a file's contents. All of it is right, or it is refused. What ran
// when it was written waits for its reservation to come again ([Book.Open] with the
// same key); what does not come is ended by [Book.Forfeit].
func Decode(data []byte, l Limits) (*Book, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err == nil && v.Version != version {
		return nil, fmt.Errorf("version %d of the file, this program reads version %d", v.Version, version)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f file
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("not what this program wrote: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one object in the file")
	}
	b := New(l)
	b.serial, b.told, b.totals, b.users.folded = f.Serial, f.Serial, f.Totals, f.Totals.Folded
	if f.Told != nil {
		if *f.Told > f.Serial {
			return nil, fmt.Errorf("told is %d, above last_serial (%d)", *f.Told, f.Serial)
		}
		b.told = *f.Told
	}
	for i := range f.Users {
		if err := b.users.restore(&f.Users[i]); err != nil {
			return nil, fmt.Errorf("user %d: %w", i+1, err)
		}
	}
	last := uint64(0)
	for i := range f.Ended {
		r, err := f.Ended[i].decode()
		if err == nil && (r.Serial <= last || r.Serial > b.serial) {
			err = fmt.Errorf("serial %d is not above that of the one before and at most last_serial (%d)", r.Serial, b.serial)
		}
		if err != nil {
			return nil, fmt.Errorf("ended record %d: %w", i+1, err)
		}
		last = r.Serial
		b.kept = append(b.kept, r)
	}
	for i := range f.Running {
		if err := b.restore(&f.Running[i]); err != nil {
			return nil, fmt.Errorf("running record %d: %w", i+1, err)
		}
	}
	b.throw()
	return b, nil
}

func (f *fileRecord) decode() (Record, error) {
	r := Record{Serial: f.Serial, Info: f.Info, Begin: f.Begin, Why: f.Why, Usage: f.Usage, Peak: f.Peak, More: f.More}
	if f.End != nil {
		r.End = *f.End
	}
	if !f.Info.Dst.IsValid() {
		return r, errors.New("dst is missing")
	}
	for i := range f.Parts {
		p := &f.Parts[i]
		row, err := p.row()
		if err != nil {
			return r, err
		}
		q := Part{Row: row, User: p.User, Begin: p.Begin, Usage: p.Usage, Peak: p.Peak}
		if p.End != nil {
			q.End = *p.End
		}
		r.Parts = append(r.Parts, q)
	}
	return r, nil
}

func (b *Book) restore(f *fileRunning) error {
	r, err := f.decode()
	if err != nil {
		return err
	}
	if b.running[f.Key] != nil {
		return fmt.Errorf("%q is there twice", f.Key)
	}
	a := &account{key: f.Key, info: r.Info, begin: r.Begin, meter: meter{usage: r.Usage, peak: r.Peak}, more: r.More, seen: f.Seen}
	for _, p := range r.Parts {
		a.parts = append(a.parts, &part{Row: p.Row, user: p.User, begin: p.Begin, end: p.End, meter: meter{usage: p.Usage, peak: p.Peak}})
	}
	for i := range f.Rows {
		at, err := f.Rows[i].row()
		if err != nil {
			return err
		}
		if b.rows[at] != nil {
			return fmt.Errorf("%s on %s serves two", at.Key, at.Interface)
		}
		w := &row{of: a, user: f.Rows[i].User, last: f.Rows[i].Last}
		w.sum = b.users.again(f.Seen, w.user)
		for _, p := range a.parts {
			if p.Row == at && p.user == w.user {
				w.part = p
			}
		}
		b.rows[at] = w
		a.rows = append(a.rows, at)
	}
	b.running[f.Key] = a
	return nil
}

// restore takes a user from a file.
func (s *users) restore(f *fileUser) error {
	o := &user{User: f.User, flows: f.Flows, seconds: f.Seconds, at: f.Seen, meter: meter{usage: f.Usage, peak: f.Peak}}
	switch {
	case f.User.Kind == Others:
		s.others = o
		return nil
	case s.byName[f.User] != nil:
		return fmt.Errorf("%s %q is there twice", f.User.Kind, f.User.Name)
	}
	if !s.room() { // of whom there is no room now has nothing that runs yet
		return errors.New("no room")
	}
	s.byName[f.User] = o
	o.idle = s.idle.PushBack(o)
	return nil
}

// again is join for a flow that has been counted.
func (s *users) again(seen time.Time, u User) *user {
	o := s.join(seen, u)
	o.flows--
	return o
}

// Forfeit ends what ran in an earlier process and has not come again, and returns
// the records.
func (b *Book) Forfeit(now time.Time, why string) (list []*Record) {
	for r, w := range b.rows {
		if w.id == 0 {
			b.forget(now, r, w)
		}
	}
	var over []*account
	for _, a := range b.running {
		if len(a.ids) == 0 {
			over = append(over, a)
		}
	}
	slices.SortFunc(over, func(x, y *account) int { return cmp.Compare(x.key, y.key) })
	for _, a := range over {
		at := a.seen
		if at.IsZero() || at.After(now) {
			at = now
		}
		list = append(list, b.end(at, a, why))
	}
	return list
}
