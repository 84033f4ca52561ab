package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The families under which the kernel tells of its multicast forwarding cache
// (linux/rtnetlink.h).
const (
	familyIPMR  = 128
	familyIP6MR = 129
)

// noForward is the threshold of an interface that an entry does not forward to.
const noForward = 255

// entry is one of the multicast forwarding cache. The unspecified Source stands
// for any, the unspecified Group too.
type entry struct {
	Group, Source netip.Addr
	Table         uint32
	In            int // 0: unresolved, or its interface has gone
	Out           []Oif
}

// Oif is an interface that multicast leaves by.
type Oif struct {
	Index int
	// Threshold is the TTL that a packet must have on its way out at least.
	Threshold uint8
}

var errMFC = errors.New("multicast route")

// parseMFC reads the body of an RTM_NEWROUTE or RTM_DELROUTE of families IPMR and
// IP6MR: struct rtmsg, then attributes.
func parseMFC(b []byte) (e entry, err error) {
	if len(b) < unix.SizeofRtMsg {
		return entry{}, fmt.Errorf("%w of %d bytes", errMFC, len(b))
	}
	family, size := b[0], 4
	switch family {
	case familyIPMR:
		e.Group, e.Source = netip.IPv4Unspecified(), netip.IPv4Unspecified()
	case familyIP6MR:
		e.Group, e.Source, size = netip.IPv6Unspecified(), netip.IPv6Unspecified(), 16
	default:
		return entry{}, fmt.Errorf("%w of family %d", errMFC, family)
	}
	e.Table = uint32(b[4])
	for b = b[unix.SizeofRtMsg:]; len(b) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return entry{}, fmt.Errorf("%w: attribute of %d bytes in %d", errMFC, n, len(b))
		}
		if err := e.attribute(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:n], size); err != nil {
			return entry{}, err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return e, nil
}

func (e *entry) attribute(typ uint16, v []byte, size int) error {
	want := 4
	switch typ {
	case unix.RTA_DST, unix.RTA_SRC:
		want = size
	case unix.RTA_MULTIPATH:
		return e.nextHops(v)
	case unix.RTA_TABLE, unix.RTA_IIF:
	default:
		return nil
	}
	if len(v) != want {
		return fmt.Errorf("%w: attribute %d has %d bytes", errMFC, typ, len(v))
	}
	switch typ {
	case unix.RTA_DST:
		e.Group, _ = netip.AddrFromSlice(v)
	case unix.RTA_SRC:
		e.Source, _ = netip.AddrFromSlice(v)
	case unix.RTA_TABLE:
		e.Table = binary.NativeEndian.Uint32(v)
	default:
		e.In = int(int32(binary.NativeEndian.Uint32(v)))
	}
	return nil
}

// nextHops reads a list of struct rtnexthop, whose field of hops is the
// threshold.
func (e *entry) nextHops(b []byte) error {
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return fmt.Errorf("%w: next hop of %d bytes in %d", errMFC, n, len(b))
		}
		if threshold := b[3]; threshold < noForward {
			e.Out = append(e.Out, Oif{Index: int(int32(binary.NativeEndian.Uint32(b[4:]))), Threshold: threshold})
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// has says whether the entry forwards to an interface.
func (e *entry) has(index int) bool {
	for _, o := range e.Out {
		if o.Index == index {
			return true
		}
	}
	return false
}

// but are the interfaces that the entry forwards to, without one.
func (e *entry) but(index int) []Oif {
	var out []Oif
	for _, o := range e.Out {
		if o.Index != index {
			out = append(out, o)
		}
	}
	return out
}
