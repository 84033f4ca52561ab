package bpf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// extended inserts IPv4 options, or a random chain of IPv6 extension headers.
func extended(rng *rand.Rand, k packet.FlowKey) []byte {
	b := frame(k, 0, 100)
	if k.Is4() {
		options := make([]byte, 4*rng.IntN(11))
		out := append(bytes.Clone(b[:34]), options...)
		out = append(out, b[34:]...)
		out[14] = 0x40 | byte(5+len(options)/4)
		binary.BigEndian.PutUint16(out[16:], uint16(len(out)-14))
		if rng.IntN(4) == 0 {
			binary.BigEndian.PutUint16(out[20:], uint16(1+rng.IntN(0x1fff))) // not the first fragment
		}
		return out
	}
	var chain []byte
	kinds := []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT, unix.IPPROTO_AH}
	next := &b[14+6]
	var link int
	for range rng.IntN(6) {
		kind := kinds[rng.IntN(len(kinds))]
		h := make([]byte, 8+8*rng.IntN(3))
		h[1] = byte(len(h)/8 - 1)
		switch kind {
		case unix.IPPROTO_FRAGMENT:
			h = h[:8]
			h[1] = 0
			if rng.IntN(3) == 0 {
				binary.BigEndian.PutUint16(h[2:], uint16(1+rng.IntN(100))<<3)
			}
		case unix.IPPROTO_AH:
			h[1] = byte(len(h)/4 - 2)
		}
		if chain == nil {
			*next = kind
		} else {
			chain[link] = kind
		}
		link = len(chain)
		chain = append(chain, h...)
		chain[link] = k.Proto
	}
	out := append(bytes.Clone(b[:54]), chain...)
	out = append(out, b[54:]...)
	binary.BigEndian.PutUint16(out[18:], uint16(len(out)-54))
	return out
}

// The program finds the same flow in a packet as pkg/packet does, which is a
// parser of its own: what user space classified is what the kernel treats.
func TestFindsTheSameFlowAsUserSpace(t *testing.T) {
	h := newHarness(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	tcp4, tcp6, esp := key4, key6, key4
	tcp4.Proto, tcp6.Proto = unix.IPPROTO_TCP, unix.IPPROTO_TCP
	esp.Proto, esp.SrcPort, esp.DstPort = unix.IPPROTO_ESP, 0, 0
	keys := []packet.FlowKey{key4, key6, tcp4, tcp6, esp}
	for _, k := range keys {
		h.put(plan.Treatment{Key: k, Mark: true, DSCP: 10}, mine)
	}
	hits := 0
	for range 2000 {
		k := keys[rng.IntN(len(keys))]
		b := extended(rng, k)
		v, err := packet.Parse(b[14:])
		if err != nil {
			t.Fatalf("% x: %v", b, err)
		}
		want := uint32(0)
		if v.Key() == k { // of a fragment without ports
			want = uint32(mine)
			hits++
		}
		if got := h.send(b, 0).priority; got != want {
			t.Fatalf("%s: priority %#x, want %#x\n% x", k, got, want, b)
		}
	}
	if hits < 500 || hits > 1950 {
		t.Errorf("%d of 2000 packets are of a treated flow", hits)
	}
}
