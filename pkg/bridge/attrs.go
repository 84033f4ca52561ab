package bridge

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const kindBridge = "bridge"

// attr is an attribute of a bridge or of a port, under the name that ip-link(8) has
// for it.
type attr struct {
	name string
	typ  uint16
	size int // bytes
	want uint64
}

// Groups of 01-80-C2-00-00-0X whose frames pass (IEEE 802.1Q table 8-1), a bit for each
// X. To a bridge the kernel allows all but STP, pause and LACP; to a port all but
// pause, which is between two ends of one cable. STP passes where STP is off.
const (
	bridgeGroups = 0xfff8
	portGroups   = 0xfffd
)

var (
	stpState = attr{"stp_state", unix.IFLA_BR_STP_STATE, 4, 0}
	// vlanFiltering is off in a new bridge. A kernel that was built without it refuses
	// to have it set to anything.
	vlanFiltering = attr{"vlan_filtering", unix.IFLA_BR_VLAN_FILTERING, 1, 0}
	// madeAttrs is what a bridge is that we make: one that has no part in what is
	// said over it, waits for nothing and keeps nothing for itself.
	madeAttrs = append([]attr{stpState, {"forward_delay", unix.IFLA_BR_FORWARD_DELAY, 4, 0}}, adoptedAttrs...)
	// adoptedAttrs is what is changed in a bridge that is somebody else's. With STP or
	// VLAN filtering it is not adopted (choose.go).
	adoptedAttrs = []attr{
		{"mcast_snooping", unix.IFLA_BR_MCAST_SNOOPING, 1, 0},
		{"group_fwd_mask", unix.IFLA_BR_GROUP_FWD_MASK, 2, bridgeGroups},
		{"nf_call_iptables", unix.IFLA_BR_NF_CALL_IPTABLES, 1, 1},
		{"nf_call_ip6tables", unix.IFLA_BR_NF_CALL_IP6TABLES, 1, 1},
	}
	portAttrs = []attr{{"group_fwd_mask", unix.IFLA_BRPORT_GROUP_FWD_MASK, 2, portGroups}}
)

func attrNamed(list []attr, name string) (attr, error) {
	i := slices.IndexFunc(list, func(a attr) bool { return a.name == name })
	if i < 0 {
		return attr{}, fmt.Errorf("unknown attribute %q", name)
	}
	return list[i], nil
}

func (a attr) encode(ae *netlink.AttributeEncoder, value uint64) {
	switch a.size {
	case 1:
		ae.Uint8(a.typ, uint8(value))
	case 2:
		ae.Uint16(a.typ, uint16(value))
	default:
		ae.Uint32(a.typ, uint32(value))
	}
}

// of is the attribute's value among those of a link; false: this kernel has none.
func (a attr) of(attrs map[uint16][]byte) (uint64, bool) {
	b, ok := attrs[a.typ]
	if !ok || len(b) != a.size {
		return 0, false
	}
	switch a.size {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.NativeEndian.Uint16(b)), true
	default:
		return uint64(binary.NativeEndian.Uint32(b)), true
	}
}
