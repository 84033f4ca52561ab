package rsvpproxy

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// routerAlert is the IPv4 option of RFC 2113 section 2.1: copied flag set,
// type 20, length 4, value 0: "routers shall examine this packet".
var routerAlert = [4]byte{0x94, 4, 0, 0}

const (
	optPad1  = 0 // RFC 8200 section 4.2
	optPadN  = 1
	optAlert = 5 // RFC 2711 section 2.1
	// alertRSVP is the option's value for RSVP.
	alertRSVP = 1
)

// hopByHop is an IPv6 hop-by-hop header with the Router Alert of RFC 2711
// section 2.1 and two bytes of padding, in front of RSVP.
var hopByHop = [8]byte{packet.ProtoRSVP, 0, optAlert, 2, 0, alertRSVP, optPadN, 0}

// errTooLong is returned for a message that one IP datagram cannot carry.
var errTooLong = errors.New("rsvp message is too long for an IP datagram")

// errNoAddress is returned for a message whose interface has lost its address
// since it was made.
var errNoAddress = errors.New("the interface has no address to send rsvp from")

// datagram is an IP packet that carries an RSVP message. Both addresses are of
// one family.
type datagram struct {
	src, dst netip.Addr
	ttl      uint8 // or hop limit
	tos      uint8 // or traffic class
	id       uint16
	alert    bool
	payload  []byte
}

// append writes the packet behind b.
func (d *datagram) append(b []byte) ([]byte, error) {
	if !d.src.IsValid() || !d.dst.IsValid() || d.src.Is4() != d.dst.Is4() {
		return b, errNoAddress
	}
	if d.dst.Is4() {
		return d.append4(b)
	}
	return d.append6(b)
}

// append4 sends without the don't-fragment bit: RFC 2205 section 3.3 relies on
// IP fragmentation.
func (d *datagram) append4(b []byte) ([]byte, error) {
	hl := 20
	if d.alert {
		hl += len(routerAlert)
	}
	total := hl + len(d.payload)
	if total > 0xffff {
		return b, errTooLong
	}
	start := len(b)
	b = append(b, uint8(0x40|hl/4), d.tos)
	b = binary.BigEndian.AppendUint16(b, uint16(total))
	b = binary.BigEndian.AppendUint16(b, d.id)
	b = append(b, 0, 0, d.ttl, packet.ProtoRSVP, 0, 0)
	src, dst := d.src.As4(), d.dst.As4()
	b = append(append(b, src[:]...), dst[:]...)
	if d.alert {
		b = append(b, routerAlert[:]...)
	}
	h := b[start : start+hl]
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h))
	return append(b, d.payload...), nil
}

// append6 leaves fragmenting, where it is needed, to who sends it.
func (d *datagram) append6(b []byte) ([]byte, error) {
	next, n := uint8(packet.ProtoRSVP), len(d.payload)
	if d.alert {
		next, n = packet.ProtoHopByHop, n+len(hopByHop)
	}
	if n > 0xffff {
		return b, errTooLong
	}
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(d.tos)<<20)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, next, d.ttl)
	src, dst := d.src.As16(), d.dst.As16()
	b = append(append(b, src[:]...), dst[:]...)
	if d.alert {
		b = append(b, hopByHop[:]...)
	}
	return append(b, d.payload...), nil
}

// hasRouterAlert tells whether the IP header has the Router Alert.
func hasRouterAlert(v packet.View) bool {
	switch h := v.Header(); {
	case v.Is4():
		return alerted4(h[20:])
	case len(h) >= 48 && h[6] == packet.ProtoHopByHop: // it comes first or not at all (RFC 8200 section 4.1)
		return alerted6(h[42:min(48+8*int(h[41]), len(h))])
	default:
		return false
	}
}

// alerted4 walks the IPv4 options for the option of RFC 2113.
func alerted4(opts []byte) bool {
	for i := 0; i < len(opts); {
		switch opts[i] {
		case 0:
			return false
		case 1:
			i++
			continue
		case routerAlert[0]:
			return true
		}
		if i+1 >= len(opts) || opts[i+1] < 2 {
			return false
		}
		i += int(opts[i+1])
	}
	return false
}

// alerted6 walks hop-by-hop options for that of RFC 2711. Other values of it
// are for other protocols, and ignored (section 2.2).
func alerted6(opts []byte) bool {
	for len(opts) > 0 {
		if opts[0] == optPad1 {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || len(opts) < 2+int(opts[1]) {
			return false
		}
		if opts[0] == optAlert && opts[1] == 2 && binary.BigEndian.Uint16(opts[2:]) == alertRSVP {
			return true
		}
		opts = opts[2+int(opts[1]):]
	}
	return false
}
