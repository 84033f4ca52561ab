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
	// level is the depth of aggregation that this machine makes: reservations of
	// hosts, never those of aggregates (RFC 3175 section 1.4.9). Router Alert has it as
	// its value in IPv4, and in IPv6, where the values are 4 to 35, behind level6
	// (RFC 5350 sections 4.1 and 4.2).
	level  = 1
	level6 = 3
)

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
	hidden   bool // protocol 134 (RFC 3175 section 3.1)
	payload  []byte
}

func (d *datagram) proto() uint8 {
	if d.hidden {
		return packet.ProtoRSVPE2E
	}
	return packet.ProtoRSVP
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
	b = append(b, 0, 0, d.ttl, d.proto(), 0, 0)
	src, dst := d.src.As4(), d.dst.As4()
	b = append(append(b, src[:]...), dst[:]...)
	if d.alert {
		b = append(b, routerAlert[:]...)
		if d.hidden {
			b[len(b)-1] = level
		}
	}
	h := b[start : start+hl]
	binary.BigEndian.PutUint16(h[10:], packet.Checksum(h))
	return append(b, d.payload...), nil
}

// hopByHop is the length of an IPv6 hop-by-hop header with the Router Alert of RFC
// 2711 section 2.1 and two bytes of padding.
const hopByHop = 8

// append6 leaves fragmenting, where it is needed, to who sends it.
func (d *datagram) append6(b []byte) ([]byte, error) {
	next, n := d.proto(), len(d.payload)
	if d.alert {
		next, n = packet.ProtoHopByHop, n+hopByHop
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
		value := uint8(alertRSVP)
		if d.hidden {
			value = level6 + level
		}
		b = append(b, d.proto(), 0, optAlert, 2, 0, value, optPadN, 0)
	}
	return append(b, d.payload...), nil
}

// hasRouterAlert tells whether the IP header has the Router Alert for RSVP.
func hasRouterAlert(v packet.View) bool {
	// In IPv6 other values are for other protocols, and ignored (RFC 2711 section 2.2).
	_, ok := alertValue(v, func(value uint16) bool { return value == alertRSVP })
	return ok
}

// alertLevel is the depth of aggregation that the Router Alert of a message of
// protocol 134 tells (RFC 3175 section 1.4.9), or 0 if it does not.
func alertLevel(v packet.View) int {
	value, ok := alertValue(v, func(value uint16) bool { return value > level6 && value <= level6+32 })
	switch {
	case !ok:
		return 0
	case v.Is4():
		return int(value)
	default:
		return int(value) - level6
	}
}

// alertValue is the value of the Router Alert, in IPv6 of the first one that is
// wanted.
func alertValue(v packet.View, wanted func(uint16) bool) (value uint16, ok bool) {
	switch h := v.Header(); {
	case v.Is4():
		return alert4(h[20:])
	case len(h) >= 48 && h[6] == packet.ProtoHopByHop: // it comes first or not at all (RFC 8200 section 4.1)
		return alert6(h[42:min(48+8*int(h[41]), len(h))], wanted)
	default:
		return 0, false
	}
}

// alert4 walks the IPv4 options for the option of RFC 2113.
func alert4(opts []byte) (value uint16, ok bool) {
	for i := 0; i < len(opts); {
		switch opts[i] {
		case 0:
			return 0, false
		case 1:
			i++
			continue
		case routerAlert[0]:
			if i+4 <= len(opts) {
				value = binary.BigEndian.Uint16(opts[i+2:])
			}
			return value, true
		}
		if i+1 >= len(opts) || opts[i+1] < 2 {
			return 0, false
		}
		i += int(opts[i+1])
	}
	return 0, false
}

// alert6 walks hop-by-hop options for that of RFC 2711.
func alert6(opts []byte, wanted func(uint16) bool) (value uint16, ok bool) {
	for len(opts) > 0 {
		if opts[0] == optPad1 {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || len(opts) < 2+int(opts[1]) {
			return 0, false
		}
		if opts[0] == optAlert && opts[1] == 2 {
			if value = binary.BigEndian.Uint16(opts[2:]); wanted(value) {
				return value, true
			}
		}
		opts = opts[2+int(opts[1]):]
	}
	return 0, false
}
