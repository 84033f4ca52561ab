package bpf

import (
	"errors"
	"math"

	"github.com/cilium/ebpf"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Level is a row of the table of code points with what it has seen.
type Level struct {
	Ifindex  int
	Row      plan.Row
	Counters Counters
}

// PutRow makes a code point's row or changes it in place. A change keeps the level
// of the bucket and the counters; the bucket of a new one is full.
func (t *Table) PutRow(ifindex int, r plan.Row) error {
	args := treatmentLevelArgs{Key: levelKey(ifindex, r), Spec: rowSpec(r)}
	found, err := t.changeLevel.Run(&ebpf.RunOptions{Context: raw(&args)})
	if err != nil {
		return explain("change the row of a DSCP", err)
	}
	if found == 0 {
		return nil
	}
	value := treatmentLevel{Spec: args.Spec, Levels: args.Spec.full()}
	return explain("make the row of a DSCP", t.dscps.Update(raw(&args.Key), raw(&value), ebpf.UpdateNoExist))
}

// DeleteRow removes a code point's row, if it is there.
func (t *Table) DeleteRow(ifindex int, r plan.Row) error {
	key := levelKey(ifindex, r)
	err := t.dscps.Delete(raw(&key))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return explain("remove the row of a DSCP", err)
}

// EachLevel reads the rows of all interfaces.
func (t *Table) EachLevel(f func(Level)) error {
	return eachOf(t.dscps, func(key treatmentLevelKey, v *treatmentLevel) {
		f(Level{Ifindex: int(key.Ifindex), Row: v.Spec.row(key), Counters: v.counters()})
	})
}

func levelKey(ifindex int, r plan.Row) treatmentLevelKey {
	k := treatmentLevelKey{Ifindex: uint32(ifindex), Dscp: uint16(r.DSCP)}
	if r.Arriving {
		k.Arriving = 1
	}
	return k
}

// rowSpec is what the program needs to know of a row.
func rowSpec(r plan.Row) treatmentSpec {
	s := treatmentSpec{Class: uint32(r.Class), Excess: uint32(r.ExcessClass), Dscp: uint32(r.Excess)}
	if r.Policed {
		s.Flags |= flagPolice
		// Nothing larger than the bucket conforms, nor what a super-packet of such
		// packets becomes.
		s.MaxPacket = uint32(max(1, min(r.Burst, math.MaxUint32)))
		s.Rate, s.Depth, s.Idle = bucket(float64(r.Rate), float64(r.Burst))
	}
	if r.Drop {
		s.Flags |= flagDrop
	}
	return s
}

// row is the reverse of rowSpec.
func (s treatmentSpec) row(k treatmentLevelKey) plan.Row {
	return plan.Row{
		Arriving: k.Arriving != 0, DSCP: uint8(k.Dscp), Policed: s.Flags&flagPolice != 0, Rate: s.Rate, Burst: s.Depth / nsec,
		Drop: s.Flags&flagDrop != 0, Excess: uint8(s.Dscp), Class: plan.ClassID(s.Class), ExcessClass: plan.ClassID(s.Excess),
	}
}

func (l *treatmentLevel) counters() Counters {
	return Counters{
		Packets: l.ConformPackets + l.ExceedPackets, Bytes: l.ConformBytes + l.ExceedBytes,
		Conform: l.ConformPackets, ConformBytes: l.ConformBytes,
		Exceed: l.ExceedPackets, ExceedBytes: l.ExceedBytes,
		Dropped: l.DroppedPackets, DroppedBytes: l.DroppedBytes,
	}
}
