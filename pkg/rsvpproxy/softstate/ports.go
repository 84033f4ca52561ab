package softstate

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// portKey is what RFC 2205 section 3.2 (1) compares sessions by.
type portKey struct {
	dst      netip.Addr
	protocol uint8
}

// portUse counts the sessions of one destination by their DstPort.
type portUse struct{ zero, set int }

func (u *portUse) of(port uint16) *int {
	if port == 0 {
		return &u.zero
	}
	return &u.set
}

// dstPortConflict says whether a session would mix zero and non-zero DstPorts
// for one destination and protocol.
//
// It is about ports: the virtual ones of other formats are names and never those
// of the data (RFC 2207 section 4.1, RFC 4860 section 2.1).
func (n *Node) dstPortConflict(s wire.Session) bool {
	if s.Format != wire.FormatPorts {
		return false
	}
	u := n.ports[portKey{s.Dst, s.Protocol}]
	return u != nil && (s.DstPort == 0 && u.set > 0 || s.DstPort != 0 && u.zero > 0)
}

// srcPortConflict says whether sender f would have path state both with and
// without a SrcPort (RFC 2205 section 3.2 (3)). One that a flow label names has
// none to be compared.
func (s *session) srcPortConflict(f wire.Filter) bool {
	for o := range s.psbs {
		if o.Src == f.Src && o.Format == f.Format && (o.SrcPort == 0) != (f.SrcPort == 0) {
			return true
		}
	}
	return false
}

func (n *Node) usePort(s wire.Session, by int) {
	if s.Format != wire.FormatPorts {
		return
	}
	k := portKey{s.Dst, s.Protocol}
	u := n.ports[k]
	if u == nil {
		u = &portUse{}
		n.ports[k] = u
	}
	*u.of(s.DstPort) += by
	if *u == (portUse{}) {
		delete(n.ports, k)
	}
}
