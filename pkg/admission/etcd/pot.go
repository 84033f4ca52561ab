package etcd

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// maxBoxes is how many boxes can share an account.
const maxBoxes = 1000

// Shared is an account that several boxes draw from. Amounts are bytes/s, or bytes
// where it is one of bursts.
type Shared struct {
	Name  string
	Burst bool  // the account of bursts that goes with that of rates of this name
	Limit int64 // as this box takes it; only shown, and compared with the others'
	// Quota is how much of it may be granted while etcd is out of reach, beyond what
	// was granted before.
	Quota int64
}

// key is the account's part of keys. A name has no colon.
func (s Shared) key() string {
	if s.Burst {
		return s.Name + burstSuffix
	}
	return s.Name
}

const burstSuffix = ":burst"

// pot is one shared account as this box knows it. What is in it may be old.
type pot struct {
	name     string // with the suffix of bursts
	limit    int64
	quota    int64
	accounts []admission.Account // of this box, that count in it

	known bool            // it has been read
	boxes map[string]told // what each box holds, by name

	// sure is what etcd counts of this box for certain, whatever becomes of writes
	// that are on their way; base is the last that it was told, though the lease
	// has ended since. unsure: some write has no known end.
	sure, base int64
	unsure     bool
	wrote      time.Time
	claim      int64 // wanted by a commit that is under way
	vain       int64 // that Prepare found no room for; 0: none
	vainEnds   time.Time
	over       bool // it was told that the account holds more than it has
}

// told is one box's line as etcd has it.
type told struct {
	line
	rev  int64 // that wrote or deleted it
	gone bool
}

// others is what all boxes but one hold, and what they count.
func (p *pot) others(me string) (hold, count int64) {
	for box, t := range p.boxes {
		if box != me && !t.gone {
			hold, count = hold+t.Sum, count+t.counts()
		}
	}
	return hold, count
}

// exceeded tells whether the account holds more than it has. Rates may have gained
// a little by their trip through RSVP's single-precision floats, and admission
// does not refuse them for that.
func (p *pot) exceeded(held int64) bool { return p.limit > 0 && held > p.limit+p.limit/500_000+1 }

// mine is this box's line; its revision is 0 if there is none.
func (p *pot) mine(me string) told {
	t := p.boxes[me]
	if t.gone {
		return told{}
	}
	return t
}

// put notes a line that was written, or deleted, by a revision.
func (p *pot) put(box string, t told) {
	if was, ok := p.boxes[box]; ok && was.rev > t.rev {
		return
	}
	p.boxes[box] = t
}

// reads is the operation that reads a pot.
func (k keys) reads(name string) clientv3.Op {
	return clientv3.OpGet(k.sums(name), clientv3.WithPrefix(), clientv3.WithLimit(maxBoxes+1))
}

var errBoxes = fmt.Errorf("more than %d boxes share it: remove the keys of those that are no more", maxBoxes)

// read takes in what was read at a revision.
func (p *pot) read(k keys, rev int64, got *clientv3.GetResponse) error {
	if len(got.Kvs) > maxBoxes {
		return fmt.Errorf("shared account %s: %w", p.name, errBoxes)
	}
	seen := make(map[string]bool, len(got.Kvs))
	for _, kv := range got.Kvs {
		_, box := k.parse(string(kv.Key))
		if box == "" {
			continue
		}
		l, err := parseLine(kv.Value)
		if err != nil {
			return fmt.Errorf("key %s: %w: remove it, its box writes it again", kv.Key, err)
		}
		seen[box] = true
		p.put(box, told{line: l, rev: kv.ModRevision})
	}
	for box, t := range p.boxes {
		switch {
		case seen[box] || t.rev > rev:
		case t.gone:
			delete(p.boxes, box)
		default:
			p.boxes[box] = told{rev: rev, gone: true}
		}
	}
	p.known = true
	return nil
}
