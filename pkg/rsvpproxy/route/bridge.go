package route

import (
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Frames tells how the frames look that go from one address to another
// ([packet.FlowKey.PairKey]); false: none was seen.
type Frames interface {
	Frame(k *packet.FlowKey, f *packet.Frame) bool
}

// Bridge tells where packets leave a box that bridges. No route of the kernel has a
// say in that.
type Bridge struct {
	Frames Frames
	// Stations is the port by which the bridge of a port sends what is for a station;
	// 0: it does not know. It is asked where there are more than two ports; nil: nobody
	// can be asked.
	Stations func(of int, mac [6]byte) (int, error)
	// Unlisted tells whether the bridge has other ports than those that Onward is asked
	// about, behind which a station may be too; nil: it has none.
	Unlisted func() bool
}

// Onward tells by which of the ports packets from src to dst leave that come in by
// in; 0: by the one where they were seen to. It is the one where the frames of the
// other direction come in, or while there were none the other one of two, and of more
// the one behind which the bridge has the station. False where
// that is not known, and where it is the port that they come in by: the stations
// reach each other without the box, or through it twice.
func (b *Bridge) Onward(dst, src netip.Addr, in int, ports []int) (out int, ok bool) {
	var f packet.Frame
	if !dst.IsValid() || !src.IsValid() {
		return 0, false
	}
	k := packet.FlowKey{Src: dst.As16(), Dst: src.As16()}
	if b.Frames.Frame(&k, &f) && slices.Contains(ports, f.Port) {
		return f.Port, f.Port != in
	}
	if in == 0 {
		if in, ok = b.Source(src, dst); !ok {
			return 0, false
		}
	}
	if len(ports) > 2 || b.Unlisted != nil && b.Unlisted() {
		return b.behind(dst, src, in, ports)
	}
	return other(ports, in)
}

// behind is Onward by the station that packets from src to dst are for, which may
// have been heard though dst was not: by ARP, or with another address.
func (b *Bridge) behind(dst, src netip.Addr, in int, ports []int) (out int, ok bool) {
	var f packet.Frame
	k := packet.FlowKey{Src: src.As16(), Dst: dst.As16()}
	if b.Stations == nil || !b.Frames.Frame(&k, &f) || !slices.Contains(ports, in) {
		return 0, false
	}
	out, err := b.Stations(in, f.Dst)
	return out, err == nil && out != in && slices.Contains(ports, out)
}

// Source is the port where packets from src to dst come in; false: there were none.
func (b *Bridge) Source(src, dst netip.Addr) (in int, ok bool) {
	var f packet.Frame
	k := packet.FlowKey{Src: src.As16(), Dst: dst.As16()}
	ok = b.Frames.Frame(&k, &f)
	return f.Port, ok
}

// Moves is how often the frames between two addresses were others than before: came by
// another port, to another station, or in another VLAN.
func (b *Bridge) Moves(src, dst netip.Addr) (n uint32) {
	var f packet.Frame
	k := packet.FlowKey{Src: src.As16(), Dst: dst.As16()}
	for _, k := range []packet.FlowKey{k, k.Reverse()} {
		if b.Frames.Frame(&k, &f) {
			n += f.Moves
		}
	}
	return n
}

// other is the port opposite of one, if there are two.
func other(ports []int, in int) (int, bool) {
	if len(ports) != 2 || !slices.Contains(ports, in) {
		return 0, false
	}
	if ports[0] == in {
		return ports[1], true
	}
	return ports[0], true
}
