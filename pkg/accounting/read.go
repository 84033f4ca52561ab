package accounting

import (
	"cmp"
	"slices"
	"time"
)

// Ended lists the ended records that nobody has struck out, the oldest first.
func (b *Book) Ended() []Record { return slices.Clone(b.kept) }

// Running lists the records that are not at their end, the oldest first.
func (b *Book) Running(now time.Time) []Record {
	list := make([]Record, 0, len(b.running))
	for _, a := range b.running {
		list = append(list, b.record(now, a))
	}
	slices.SortFunc(list, func(x, y Record) int {
		return cmp.Or(x.Begin.Compare(y.Begin), x.Dst.Compare(y.Dst), cmp.Compare(x.Dport, y.Dport), x.Src.Compare(y.Src), cmp.Compare(x.Sport, y.Sport), cmp.Compare(x.Protocol, y.Protocol))
	})
	return list
}

// Told notes that the log and the file have the ended records up to a serial number.
func (b *Book) Told(through uint64) { b.told = max(b.told, min(through, b.serial)) }

// Untold lists the ended records that they do not have, as far as is known.
func (b *Book) Untold() []Record {
	n, _ := slices.BinarySearchFunc(b.kept, b.told+1, func(r Record, serial uint64) int { return cmp.Compare(r.Serial, serial) })
	return slices.Clone(b.kept[n:])
}

// Strike strikes out the ended records up to a serial number, which whoever asks
// has, and says how many. Doing it again does nothing.
func (b *Book) Strike(through uint64) int {
	n := 0
	for n < len(b.kept) && b.kept[n].Serial <= through {
		n++
	}
	b.shorten(n)
	b.totals.Read += uint64(n)
	return n
}

// Last is the serial number of the newest ended record, 0: there was none.
func (b *Book) Last() uint64 { return b.serial }

// Totals counts all there ever was.
func (b *Book) Totals() Totals {
	t := b.totals
	t.Running, t.Kept, t.Users, t.Folded = len(b.running), len(b.kept), len(b.users.byName), b.users.folded
	return t
}
