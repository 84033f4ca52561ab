package etcd

import (
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qosproxy/qosproxy/pkg/admission"
)

// maxBoxes is how many boxes can share an account.
const maxBoxes = 1000

// Shared is an account that several boxes draw from.
type Shared struct {
	Name  string
	Limit int64 // bytes/s, as this box takes it; only shown, and compared with the others'
}

// pot is one shared account as this box knows it. What is in it may be old, but
// it is never less than the others hold as long as the guard has the revision
// that is noted here: then nobody has taken more since.
type pot struct {
	name     string
	limit    int64
	accounts []admission.Account // of this box, that count in it

	known bool            // it has been read
	boxes map[string]told // what each box holds, by name
	guard int64           // revision of the guard; 0: there is none

	// sure is what etcd has of this box for certain, whatever becomes of writes
	// that are on their way; base is the last that it was told, though the lease
	// has ended since. unsure: some write has no known end.
	sure, base int64
	unsure     bool
	claim      int64 // wanted by a commit that is under way
	over       bool  // it was told that the account holds more than it has
}

// told is one box's line as etcd has it.
type told struct {
	line
	rev  int64 // that wrote or deleted it
	gone bool
}

// others is what all boxes but one hold.
func (p *pot) others(me string) (sum int64) {
	for box, t := range p.boxes {
		if box != me && !t.gone {
			sum += t.Sum
		}
	}
	return sum
}

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

// size is how many operations of a transaction read a pot.
const size = 2

// reads are the operations that read a pot.
func (k keys) reads(name string) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpGet(k.sums(name), clientv3.WithPrefix(), clientv3.WithLimit(maxBoxes+1)),
		clientv3.OpGet(k.guard(name)),
	}
}

var errBoxes = fmt.Errorf("more than %d boxes share it: remove the keys of those that are no more", maxBoxes)

// read takes in what the operations of reads returned at a revision.
func (p *pot) read(k keys, rev int64, got []*clientv3.GetResponse) error {
	if len(got) != size {
		return errors.New("etcd answered something else than it was asked")
	}
	if len(got[0].Kvs) > maxBoxes {
		return fmt.Errorf("shared account %s: %w", p.name, errBoxes)
	}
	seen := make(map[string]bool, len(got[0].Kvs))
	for _, kv := range got[0].Kvs {
		_, _, box := k.parse(string(kv.Key))
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
		if !seen[box] && t.rev <= rev {
			if t.gone {
				delete(p.boxes, box) // nothing older can come any more
				continue
			}
			p.boxes[box] = told{rev: rev, gone: true}
		}
	}
	guard := int64(0)
	if len(got[1].Kvs) > 0 {
		guard = got[1].Kvs[0].ModRevision
	}
	if guard > p.guard || guard == 0 {
		p.guard = guard
	}
	p.known = true
	return nil
}
