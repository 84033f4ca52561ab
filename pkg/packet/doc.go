// Package packet gives views over the bytes of IPv4, IPv6, TCP and UDP packets.
//
// A view is a slice with named fields: nothing is copied and nothing is
// allocated, since every packet of a cheated flow passes here. Parsing checks
// lengths once; the accessors of a parsed view can then not run out of bounds.
// The package is pure: it knows no socket, clock or log.
package packet

import "errors"

// Errors of Parse. They are values, not wrapped, since the hot path may meet
// them on every packet of a hostile flow.
var (
	// ErrTruncated says that the bytes end before the header says so.
	ErrTruncated = errors.New("packet: truncated")
	// ErrVersion says that the first nibble is neither 4 nor 6.
	ErrVersion = errors.New("packet: not IPv4 or IPv6")
	// ErrHeader says that a length field contradicts itself.
	ErrHeader = errors.New("packet: header length is wrong")
)

// Protocol numbers of the IANA registry that this project handles.
const (
	ProtoHopByHop  = 0
	ProtoICMP      = 1
	ProtoTCP       = 6
	ProtoUDP       = 17
	ProtoDCCP      = 33
	ProtoRouting   = 43
	ProtoFragment  = 44
	ProtoRSVP      = 46
	ProtoESP       = 50
	ProtoAH        = 51
	ProtoICMPv6    = 58
	ProtoNoNext    = 59
	ProtoDestOpts  = 60
	ProtoSCTP      = 132
	ProtoRSVPE2E   = 134 // RSVP-E2E-IGNORE, RFC 3175
	ProtoUDPLite   = 136
	ipv4MinHeader  = 20
	ipv6HeaderSize = 40
)
