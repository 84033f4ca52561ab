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

// errTooLong is returned for a message that one IPv4 datagram cannot carry.
var errTooLong = errors.New("rsvp message is too long for an IP datagram")

// datagram is an IPv4 packet that carries an RSVP message.
type datagram struct {
	src, dst netip.Addr
	ttl      uint8
	tos      uint8
	id       uint16
	alert    bool
	payload  []byte
}

// append writes the packet behind b. RSVP messages are sent without the
// don't-fragment bit: RFC 2205 section 3.3 relies on IP fragmentation.
func (d *datagram) append(b []byte) ([]byte, error) {
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

// hasRouterAlert walks the IPv4 options for the option of RFC 2113.
func hasRouterAlert(v packet.View) bool {
	if !v.Is4() {
		return false
	}
	opts := v.Header()[20:]
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
