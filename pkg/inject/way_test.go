package inject

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// seen are frames as a test wants them.
type seen map[packet.FlowKey]packet.Frame

func (s seen) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	got, ok := s[*k]
	if ok {
		*f = got
	}
	return ok
}

// frameOf is a frame from station src to station dst, which came in by a port.
func frameOf(port int, src, dst byte, tags ...packet.Tag) packet.Frame {
	f := packet.Frame{Port: port, Src: [6]byte{2, 5: src}, Dst: [6]byte{2, 5: dst}, NTags: len(tags)}
	copy(f.Tags[:], tags)
	return f
}

var (
	flowAB = packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:80"))
	flowBA = flowAB.Reverse()
	pairAB = flowAB.PairKey()
	pairBA = flowBA.PairKey()
	group  = packet.FlowKey{Src: flowAB.Src, Dst: netip.MustParseAddr("239.129.2.3").As16()}
)

func TestWay(t *testing.T) {
	tag := packet.Tag{TPID: etherVLAN, TCI: 5<<13 | 100}
	other := packet.Tag{TPID: etherVLAN, TCI: 200}
	turned := frameOf(2, 0xb, 0xa, tag)
	turned = turned.Turned()
	udp := flowAB
	udp.Proto = packet.ProtoUDP
	for name, tt := range map[string]struct {
		seen  seen
		key   packet.FlowKey
		ports []int
		via   int
		port  int
		frame packet.Frame
		err   error
	}{
		"both directions": {
			seen{flowAB: frameOf(1, 0xa, 0xb, tag), flowBA: frameOf(2, 0xb, 0xa, other)},
			flowAB,
			[]int{1, 2, 3},
			0, 2, frameOf(1, 0xa, 0xb, tag), nil,
		},
		"the connection's own before the pair's": {
			seen{flowAB: frameOf(1, 0xa, 0xb, tag), flowBA: frameOf(2, 0xb, 0xa), pairAB: frameOf(3, 0xc, 0xd), pairBA: frameOf(3, 0xd, 0xc)},
			flowAB,
			[]int{1, 2, 3},
			0, 2, frameOf(1, 0xa, 0xb, tag), nil,
		},
		"the pair's, where the connection has none": {
			seen{pairAB: frameOf(1, 0xa, 0xb), pairBA: frameOf(3, 0xb, 0xa)},
			flowAB,
			[]int{1, 2, 3},
			0, 3, frameOf(1, 0xa, 0xb), nil,
		},
		"each direction for itself": {
			seen{flowAB: frameOf(1, 0xa, 0xb), pairBA: frameOf(3, 0xb, 0xa)},
			flowAB,
			[]int{1, 2, 3},
			0, 3, frameOf(1, 0xa, 0xb), nil,
		},
		"what is not TCP has a pair only": {
			seen{udp: frameOf(1, 0xc, 0xd), pairAB: frameOf(1, 0xa, 0xb)},
			udp,
			[]int{1, 2},
			0, 2, frameOf(1, 0xa, 0xb), nil,
		},
		"nothing came back: the other of two": {
			seen{flowAB: frameOf(2, 0xa, 0xb)}, flowAB, []int{1, 2}, 0, 1, frameOf(2, 0xa, 0xb), nil,
		},
		"nothing came back, of three": {
			seen{flowAB: frameOf(2, 0xa, 0xb)}, flowAB, []int{1, 2, 3}, 0, 0, packet.Frame{}, ErrNoPort,
		},
		"the other direction alone is turned round": {
			seen{flowBA: frameOf(2, 0xb, 0xa, tag)}, flowAB, []int{1, 2, 3}, 0, 2, turned, nil,
		},
		"nothing was seen": {seen{}, flowAB, []int{1, 2}, 0, 0, packet.Frame{}, ErrNoFrame},
		"nothing was seen, and a port is given": {
			seen{}, flowAB, []int{1, 2}, 2, 0, packet.Frame{}, ErrNoFrame,
		},
		"the port that is given": {
			seen{flowAB: frameOf(1, 0xa, 0xb), flowBA: frameOf(2, 0xb, 0xa)}, flowAB, []int{1, 2, 3}, 3, 3, frameOf(1, 0xa, 0xb), nil,
		},
		"the port that is given is none of ours": {
			seen{flowAB: frameOf(1, 0xa, 0xb), flowBA: frameOf(2, 0xb, 0xa)}, flowAB, []int{1, 2}, 3, 0, packet.Frame{}, ErrNoPort,
		},
		"back by a port that is gone: the other of two": {
			seen{flowAB: frameOf(1, 0xa, 0xb), flowBA: frameOf(2, 0xb, 0xa)}, flowAB, []int{1, 7}, 0, 7, frameOf(1, 0xa, 0xb), nil,
		},
		"both ports are gone": {
			seen{flowAB: frameOf(1, 0xa, 0xb), flowBA: frameOf(2, 0xb, 0xa)}, flowAB, []int{6, 7}, 0, 0, packet.Frame{}, ErrNoPort,
		},
		"turned round, by a port that is gone": {
			seen{flowBA: frameOf(2, 0xb, 0xa)}, flowAB, []int{6, 7}, 0, 0, packet.Frame{}, ErrNoPort,
		},
		"both directions by one port": {
			seen{flowAB: frameOf(1, 0xa, 0xb), flowBA: frameOf(1, 0xb, 0xa)}, flowAB, []int{1, 2}, 0, 0, packet.Frame{}, ErrNoPort,
		},
		"the port that is given is where they come in": {
			seen{flowAB: frameOf(2, 0xa, 0xb)}, flowAB, []int{1, 2}, 2, 0, packet.Frame{}, ErrNoPort,
		},
		"to a group, as its data went": {
			seen{group: frameOf(1, 0xa, 0xe)}, group, []int{1, 2, 3}, 3, 3, frameOf(1, 0xa, 0xe), nil,
		},
	} {
		w := wayfinder{ports: tt.ports}
		port, f, err := w.find(tt.seen, tt.key, tt.via)
		if !errors.Is(err, tt.err) || port != tt.port {
			t.Errorf("%s: port %d, %v; want %d, %v", name, port, err, tt.port, tt.err)
			continue
		}
		if err == nil && (f.Dst != tt.frame.Dst || f.Src != tt.frame.Src || f.NTags != tt.frame.NTags || f.Tags != tt.frame.Tags) {
			t.Errorf("%s: %+v, want %+v", name, *f, tt.frame)
		}
	}
}

func TestKnown(t *testing.T) {
	for _, key := range []packet.FlowKey{flowAB, flowBA, pairAB, pairBA} {
		for _, tt := range []struct {
			tags    []packet.Tag
			shorter int
		}{
			{nil, 0},
			{[]packet.Tag{{TPID: 0x8100, TCI: 1}}, 0},
			{[]packet.Tag{{TPID: 0x88a8, TCI: 1}}, 4},
			{[]packet.Tag{{TPID: 0x8100, TCI: 1}, {TPID: 0x8100, TCI: 2}}, 4},
			{[]packet.Tag{{TPID: 0x88a8, TCI: 1}, {TPID: 0x8100, TCI: 2}}, 8},
		} {
			if n, ok := Known(seen{key: frameOf(1, 0xa, 0xb, tt.tags...)}, flowAB); !ok || n != tt.shorter {
				t.Errorf("%v of a connection with %v: %v, %d bytes", key, tt.tags, ok, n)
			}
		}
	}
	if _, ok := Known(seen{group: frameOf(1, 0xa, 0xb)}, flowAB); ok {
		t.Error("another pair's frame")
	}
}
