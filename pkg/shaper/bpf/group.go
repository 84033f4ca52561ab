package bpf

import (
	"github.com/cilium/ebpf"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Group is what several flows of an interface share: one policer.
type Group struct {
	Ifindex   int
	Number    uint32         // names it in this table
	Treatment plan.Treatment // only Group, its name for people and processes, and the TSpec
}

// PutGroup makes a group, or changes its TSpec and keeps its levels. The bucket
// of a new one is full.
func (t *Table) PutGroup(ifindex int, number uint32, tr plan.Treatment) error {
	shared := plan.Treatment{Police: true}.WithTSpec(tr)
	args := treatmentGroupArgs{Number: number, Spec: specOf(shared, 0, 0, number)}
	found, err := t.changeGroup.Run(&ebpf.RunOptions{Context: raw(&args)})
	if err != nil {
		return explain("change a group of treatments", err)
	}
	if found == 0 {
		return nil
	}
	value := treatmentGroup{Spec: args.Spec, Levels: args.Spec.full(), Name: keyOf(ifindex, tr.Group)}
	return explain("make a group of treatments", t.groups.Update(raw(&number), raw(&value), ebpf.UpdateNoExist))
}

// DeleteGroup removes a group, which no flow may name any more.
func (t *Table) DeleteGroup(number uint32) error {
	return explain("remove a group of treatments", t.groups.Delete(raw(&number)))
}

// EachGroup reads all groups.
func (t *Table) EachGroup(f func(Group)) error {
	return eachOf(t.groups, func(number uint32, v *treatmentGroup) {
		tr := plan.Treatment{Group: v.Name.flowKey()}.WithTSpec(v.Spec.treatment(packet.FlowKey{}))
		f(Group{Ifindex: int(v.Name.Ifindex), Number: number, Treatment: tr})
	})
}

// full are the levels of full buckets.
func (s *treatmentSpec) full() treatmentLevels {
	return treatmentLevels{Level: int64(s.Depth), Peak: int64(s.PeakDepth)}
}
