package inject

import (
	"errors"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Why a packet cannot be sent on a bridge.
var (
	// ErrNoFrame is for a flow whose stations are unknown.
	ErrNoFrame = errors.New("inject: no frame between these addresses was seen, so the Ethernet addresses are not known")
	// ErrNoPort is for a flow of which it is not known where it leaves the box.
	ErrNoPort = errors.New("inject: which port of the bridge leads to the destination is not known")
)

// wayfinder tells how a packet of our own gets from one address to another, from
// the frames that were seen between them. It is used by one at a time: what it is
// asked with stands in it, so that nothing is allocated.
type wayfinder struct {
	key         packet.FlowKey
	there, back packet.Frame
	ports       []int
}

// look reads the frame of one direction: of a TCP connection, or else of whatever
// goes between the two addresses.
func (w *wayfinder) look(frames Frames, key packet.FlowKey, f *packet.Frame) bool {
	if key.Proto == packet.ProtoTCP {
		w.key = key
		if frames.Frame(&w.key, f) {
			return true
		}
	}
	w.key = key.PairKey()
	return frames.Frame(&w.key, f)
}

// find returns the port to send by and the frame to send in, which is valid until
// the next call. via is the port if that is given, else 0.
//
// The frame is one of the same direction, or where none was seen one of the other,
// turned round. The port is where the other direction comes in; where that was
// never seen, or came by a port that is gone, the other one of two ports.
func (w *wayfinder) find(frames Frames, key packet.FlowKey, via int) (port int, f *packet.Frame, err error) {
	there, back := w.look(frames, key, &w.there), false
	if !there || via == 0 {
		back = w.look(frames, key.Reverse(), &w.back)
	}
	switch {
	case there:
		f = &w.there
	case back:
		w.there = w.back.Turned()
		f = &w.there
	default:
		return 0, nil, ErrNoFrame
	}
	switch {
	case via != 0:
		port = via
	case back && slices.Contains(w.ports, w.back.Port):
		port = w.back.Port
	case there:
		port = w.other(w.there.Port)
	}
	switch {
	case port == 0, via != 0 && !slices.Contains(w.ports, via):
		return 0, nil, ErrNoPort
	case there && w.there.Port == port:
		// Such packets come in by the port where this one should leave. It is
		// routed behind it and comes by twice, in two VLANs or between other
		// stations, or the stations have moved: the frame is not the right one.
		return 0, nil, ErrNoPort
	}
	return port, f, nil
}

// Known tells whether a frame of a flow was seen, in whichever direction, so that
// packets of it can be sent; and by how many bytes these have to be shorter than a
// port's MTU for its VLAN tags. Packet sockets take a tag of IEEE 802.1Q in addition,
// and no other one, whatever the port can do.
func Known(frames Frames, key packet.FlowKey) (shorter int, ok bool) {
	var w wayfinder
	for _, k := range [2]packet.FlowKey{key, key.Reverse()} {
		if w.look(frames, k, &w.there) {
			shorter, ok = max(shorter, taggedExtra(&w.there)), true
		}
	}
	return shorter, ok
}

// other is the port opposite of one; 0 if there is not exactly one.
func (w *wayfinder) other(port int) int {
	if len(w.ports) != 2 || !slices.Contains(w.ports, port) {
		return 0
	}
	if w.ports[0] == port {
		return w.ports[1]
	}
	return w.ports[0]
}
