package softstate

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// IfIndex names an interface. It is also the logical interface handle (LIH)
// that our RSVP_HOP objects carry (RFC 2205 section 3.3). Zero: none.
type IfIndex int

// Environment is what a [Node] has to know about the machine it runs on. All
// methods are pure reads and are called from the Node's methods.
type Environment interface {
	// Route tells where packets for dst leave. local: dst is this machine. ok is
	// false where there is no route.
	Route(dst netip.Addr) (out IfIndex, local, ok bool)
	// Routes tells by which interfaces packets from src to the group dst leave
	// that came in by in; none if routing expects them by another interface (RFC
	// 2205 section 3.9) or nobody listens. For a sender behind this machine in may
	// be 0: not known. ok is false where multicast is not routed at all.
	Routes(dst, src netip.Addr, in IfIndex) (outs []IfIndex, ok bool)
	// Addr returns our IPv4 address on an interface, which goes into RSVP_HOP and
	// ERROR_SPEC; invalid if the interface is none of ours.
	Addr(IfIndex) netip.Addr
	// Addr6 is the same for IPv6: a global address where there is one. It is
	// asked only with [Config.IPv6].
	Addr6(IfIndex) netip.Addr
	// Local says whether a is one of this machine's addresses.
	Local(a netip.Addr) bool
	// Hop returns what interface out contributes to an ADSPEC: bandwidth, MTU,
	// latency, services. Its MTU also bounds the FLOWSPECs accepted for out.
	Hop(out IfIndex) intserv.Hop
	// Aware says whether somebody who speaks RSVP can be expected towards dst
	// behind out: true on interfaces towards the network, and for hosts that
	// were seen to speak RSVP. PATH is sent where it is false only by a
	// [Discoverer].
	Aware(dst netip.Addr, out IfIndex) bool
	// ReceiverProxy says whether policy makes us answer a PATH on behalf of a
	// receiver that does not speak RSVP, and with what. It is asked again with
	// every PATH, so that a changed policy takes effect within one refresh; where
	// somebody behind Out speaks RSVP too, until he asks for himself.
	ReceiverProxy(PathInfo) (ReserveSpec, bool)
}

// Reverser is an [Environment] with the path-triggered sender proxy for the
// reverse direction (RFC 5945 section 4.2).
type Reverser interface {
	// Reverse says whether a PATH that has reached its receiver's side makes us
	// speak for that receiver as the sender of the other direction, with what
	// TSpec. It is asked again with every PATH.
	Reverse(PathInfo) (intserv.TSpec, bool)
}

// Discoverer is an [Environment] that finds out who speaks RSVP (RFC 5946
// section 4.1). Without it those of whom that is not known are sent no PATH.
type Discoverer interface {
	// Discovers says whether PATH is sent on by out although nobody behind it is
	// known to speak RSVP.
	Discovers(out IfIndex) bool
}

// Assurer is an [Environment] whose messages are repeated until they are
// acknowledged (RFC 2961), where the neighbour does that.
type Assurer interface {
	// Assured says whether a PATH or RESV to dst that leaves by out needs no quick
	// refreshes against its loss.
	Assured(dst netip.Addr, out IfIndex) bool
}

// Crosser is an [Environment] that knows of routers without RSVP.
type Crosser interface {
	// Crossed says whether ADSPEC tells what so many routers behind in add to the
	// path, as the edge of a DiffServ region has it (RFC 2998 section 4.2). Then
	// they are no break in it.
	Crossed(in IfIndex, routers int) bool
}

// Multihomed is an [Environment] of a machine whose interfaces may have several
// addresses of a family.
type Multihomed interface {
	// AddrTowards is Addr or Addr6, whichever is of the family of to, for what is
	// said to a neighbour at to, or by way of the route to it: the address that we
	// have in the neighbour's network, since it may know no way to the others.
	AddrTowards(i IfIndex, to netip.Addr) netip.Addr
}

// PathInfo is what is known of a sender when its PATH ends here.
type PathInfo struct {
	Session wire.Session
	Sender  wire.Filter
	TSpec   intserv.TSpec
	AdSpec  *intserv.AdSpec // of the path up to and including Out; nil: not told
	In, Out IfIndex
	// Needed: the sender says that its receiver does not speak RSVP (RFC 5946
	// section 4.2).
	Needed bool
}

// ReserveSpec is what a receiver proxy asks for. The zero Style means fixed
// filter.
type ReserveSpec struct {
	Style wire.Style
	// Auto chooses the style, whatever Style says: wildcard while the session has
	// one sender, fixed filter when it has several, and that of other receivers
	// where there are any.
	Auto     bool
	FlowSpec intserv.FlowSpec
	Confirm  bool // ask for a confirmation (RESV_CONFIRM)
	// Priority goes along in POLICY_DATA (RFC 3181); nil: nothing is said.
	Priority *Priority
	// Refusal, if not nil, says why policy would answer and cannot: the sender is
	// told. A reservation that is in place stays as it is.
	Refusal *Refusal
}
