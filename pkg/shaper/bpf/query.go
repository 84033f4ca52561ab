package bpf

import (
	"fmt"

	"github.com/cilium/ebpf/link"
)

// Programs lists the ids of all programs that hang at an interface, whoever
// attached them.
func Programs(d Direction, ifindex int) ([]uint32, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: attachType(d)})
	if err != nil {
		return nil, explain(fmt.Sprintf("list the %s programs of interface number %d", d, ifindex), err)
	}
	var ids []uint32
	for _, p := range r.Programs {
		ids = append(ids, uint32(p.ID))
	}
	return ids, nil
}
