package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// maxElements is how many elements go into one message: an attribute holds
// 64 KiB, and an IPv6 element takes about 60 bytes.
const maxElements = 512

// maxTransaction is how many keys one transaction changes: it must fit the
// socket's buffer. A call with more keys is several transactions.
const maxTransaction = 4096

// change is a kind of message about elements.
type change func(*nftables.Set, []nftables.SetElement) error

// AddCheated sends the directions of flows that keys name to cheat queue i,
// from the next packet on. Keys that are there already are no error. If the
// set has no room, nothing is added and the error is ErrFull; up to 4096 keys
// are one transaction.
func (q *QueueTable) AddCheated(i int, keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(i); err != nil {
		return err
	}
	for part := range slices.Chunk(keys, maxTransaction) {
		if err := q.addCheated(i, part); err != nil {
			return err
		}
	}
	return nil
}

func (q *QueueTable) addCheated(i int, keys []packet.FlowKey) error {
	if err := q.add(q.cheated[i], cheatedOf(i), keys); err != nil {
		return fmt.Errorf("queue table: cheated_%d: %w", i, err)
	}
	return nil
}

// add puts keys into a set that have holds a copy of.
func (q *QueueTable) add(have map[packet.FlowKey]struct{}, set func(*builder) *nftables.Set, keys []packet.FlowKey) error {
	added := keys[:0:0]
	for _, k := range keys {
		if _, ok := have[k]; !ok {
			have[k] = struct{}{} // also against doubles among keys
			added = append(added, k)
		}
	}
	err := q.elements(q.conn.SetAddElements, set, added)
	if err != nil {
		for _, k := range added {
			delete(have, k)
		}
	}
	return err
}

// RemoveCheated gives directions of flows back to the kernel. Keys that are not
// there are no error.
func (q *QueueTable) RemoveCheated(i int, keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.usable(i); err != nil {
		return err
	}
	for part := range slices.Chunk(keys, maxTransaction) {
		if err := q.removeCheated(i, part); err != nil {
			return err
		}
	}
	return nil
}

func (q *QueueTable) removeCheated(i int, keys []packet.FlowKey) error {
	if err := q.remove(q.cheated[i], cheatedOf(i), keys); err != nil {
		return fmt.Errorf("queue table: cheated_%d: %w", i, err)
	}
	return nil
}

func (q *QueueTable) remove(have map[packet.FlowKey]struct{}, set func(*builder) *nftables.Set, keys []packet.FlowKey) error {
	gone := keys[:0:0]
	for _, k := range keys {
		if _, ok := have[k]; ok {
			delete(have, k)
			gone = append(gone, k)
		}
	}
	err := q.elements(q.conn.SetDeleteElements, set, gone)
	if err != nil {
		for _, k := range gone {
			have[k] = struct{}{}
		}
	}
	return err
}

// Watch has the opening segments of TCP connections queued as first packets
// whose directions keys name, whether a policy may claim them or not. Keys that
// are there already are no error; at most 4096 may be given.
func (q *QueueTable) Watch(keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	if err := q.add(q.watched, watchedOf, keys); err != nil {
		return fmt.Errorf("queue table: watched: %w", err)
	}
	return nil
}

// Unwatch ends what Watch began. Keys that are not there are no error.
func (q *QueueTable) Unwatch(keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	if err := q.remove(q.watched, watchedOf, keys); err != nil {
		return fmt.Errorf("queue table: watched: %w", err)
	}
	return nil
}

func watchedOf(b *builder) *nftables.Set { return b.watched }

// usable tells why cheat worker i's set cannot be changed.
func (q *QueueTable) usable(i int) error {
	if q.conn == nil {
		return ErrClosed
	}
	if i < 0 || i >= len(q.cheated) {
		return fmt.Errorf("queue table: there is no cheat queue %d", i)
	}
	return nil
}

// Settle keeps the directions of flows that keys name out of the queue of first
// packets for the settled timeout. If the set has no room, nothing is added
// and the error is ErrFull.
func (q *QueueTable) Settle(keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	settled := func(b *builder) *nftables.Set { return b.settled }
	for part := range slices.Chunk(keys, maxTransaction) {
		if err := q.elements(q.conn.SetAddElements, settled, part); err != nil {
			return fmt.Errorf("queue table: settled: %w", err)
		}
	}
	return nil
}

// Unsettle has the next packets of flows queued as first packets again. Keys that
// are not there, or no more, are no error.
func (q *QueueTable) Unsettle(keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	// The kernel refuses to delete what has timed out a moment ago, and does not
	// mind to add what is there.
	remove := func(set *nftables.Set, list []nftables.SetElement) error {
		if err := q.conn.SetAddElements(set, list); err != nil {
			return err
		}
		return q.conn.SetDeleteElements(set, list)
	}
	for part := range slices.Chunk(keys, maxTransaction/2) {
		if err := q.elements(remove, func(b *builder) *nftables.Set { return b.settled }, part); err != nil {
			return fmt.Errorf("queue table: settled: %w", err)
		}
	}
	return nil
}

// UnsettleAll is Unsettle for all flows that there are.
func (q *QueueTable) UnsettleAll() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	for _, b := range q.tables {
		q.conn.FlushSet(b.settled)
	}
	if err := q.conn.commit(); err != nil {
		return fmt.Errorf("queue table: settled: %w", err)
	}
	return nil
}

// Renew begins the settled timeout of flows anew, without a moment in which they
// are not settled, and settles those that are not.
func (q *QueueTable) Renew(keys ...packet.FlowKey) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	// Adding what is there does not touch its time, see also Unsettle.
	renew := func(set *nftables.Set, list []nftables.SetElement) error {
		return errors.Join(q.conn.SetAddElements(set, list), q.conn.SetDeleteElements(set, list), q.conn.SetAddElements(set, list))
	}
	for part := range slices.Chunk(keys, maxTransaction/3) {
		if err := q.elements(renew, func(b *builder) *nftables.Set { return b.settled }, part); err != nil {
			return fmt.Errorf("queue table: settled: %w", err)
		}
	}
	return nil
}

// Beat keeps the rules working for another second. A transaction that empties
// the set and fills it again leaves no moment without the element, and renews
// its time on every kernel.
func (q *QueueTable) Beat() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	for _, b := range q.tables {
		q.conn.FlushSet(b.alive)
		if err := q.conn.SetAddElements(b.alive, []nftables.SetElement{{Key: aliveKey}}); err != nil {
			return fmt.Errorf("queue table: beat: %w", err)
		}
	}
	if err := q.conn.commit(); err != nil {
		return fmt.Errorf("queue table: beat: %w", err)
	}
	return nil
}

func cheatedOf(i int) func(*builder) *nftables.Set {
	return func(b *builder) *nftables.Set { return b.cheated[i] }
}

// elements changes a set of each family in one transaction.
func (q *QueueTable) elements(what change, set func(*builder) *nftables.Set, keys []packet.FlowKey) error {
	some := false
	for _, b := range q.tables {
		var batch []nftables.SetElement
		for n, k := range keys {
			if k.Is4() == (b.lay == layout4) {
				batch = append(batch, nftables.SetElement{Key: b.lay.key(k)})
			}
			if len(batch) == maxElements || n == len(keys)-1 && len(batch) > 0 {
				if err := what(set(b), batch); err != nil {
					return err
				}
				batch, some = nil, true
			}
		}
	}
	if !some {
		return nil
	}
	return q.conn.commit()
}
