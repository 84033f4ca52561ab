package aggregate

import (
	"cmp"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// key names an aggregate at either of its ends.
type key struct {
	iface softstate.IfIndex // inside
	far   netip.Addr        // the router at the other end
	dscp  uint8
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.iface, o.iface), k.far.Compare(o.far), cmp.Compare(k.dscp, o.dscp))
}

// inKeyOrder lists aggregates.
func inKeyOrder[V any](m map[key]V) []V { return pipe.Sorted(m, key.compare) }
