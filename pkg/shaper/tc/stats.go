package tc

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Attributes inside TCA_STATS2.
const (
	statsBasic = 1
	statsQueue = 3
)

// ClassStats are the figures of one HTB class.
type ClassStats struct {
	ID             plan.ClassID
	Rate, Ceil     uint64 // bytes/s, as HTB counts them: link-layer header included
	Bytes, Packets uint64 // sent; the same bytes
	Drops          uint64 // by the queue in the class
	Overlimits     uint64
	Backlog        uint64 // bytes waiting
	Queue          uint64 // packets waiting
}

// Stats reads the figures of all classes.
func (c *Conn) Stats(ctx context.Context, ifindex int) ([]ClassStats, error) {
	classes, err := c.objects(ctx, unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, ifindex)
	if err != nil {
		return nil, fmt.Errorf("read the classes' statistics: %w", err)
	}
	var list []ClassStats
	for _, o := range classes {
		if o.kind != "htb" {
			continue
		}
		cl, err := o.class()
		if err != nil {
			return nil, err
		}
		s := ClassStats{ID: cl.ID, Rate: cl.Rate, Ceil: cl.Ceil}
		if err := s.parse(o.stats); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b ClassStats) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

func (s *ClassStats) parse(b []byte) error {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return fmt.Errorf("statistics: %w", err)
	}
	num := func(v []byte, at int) uint64 { return uint64(binary.NativeEndian.Uint32(v[at:])) }
	for _, a := range attrs {
		v := a.Value
		switch {
		case a.Attr.Type == statsBasic && len(v) >= 12:
			s.Bytes, s.Packets = binary.NativeEndian.Uint64(v), num(v, 8)
		case a.Attr.Type == statsQueue && len(v) >= 20:
			s.Queue, s.Backlog, s.Drops, s.Overlimits = num(v, 0), num(v, 4), num(v, 8), num(v, 16)
		}
	}
	return nil
}
