package bpf

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const (
	spi    = 0x1001_2002
	theirs = plan.ClassID(0x1_0020) // of all IPsec between two hosts
)

// authenticated puts an authentication header of 24 bytes (RFC 4302 section 2)
// in front of what an IP packet carries.
func authenticated(k packet.FlowKey, spi uint32) []byte {
	b := frame(k, 0, 120)
	at := 14 + 20
	if !k.Is4() {
		at = 14 + 40
	}
	ah := make([]byte, 24)
	ah[0], ah[1] = k.Proto, 4
	binary.BigEndian.PutUint32(ah[4:], spi)
	out := append(append(append([]byte{}, b[:at]...), ah...), b[at:]...)
	if k.Is4() {
		out[14+9] = unix.IPPROTO_AH
		binary.BigEndian.PutUint16(out[16:], uint16(len(out)-14))
	} else {
		out[14+6] = unix.IPPROTO_AH
		binary.BigEndian.PutUint16(out[18:], uint16(len(out)-54))
	}
	return out
}

// RFC 2207 section 4.1: packets are told apart by protocol, addresses and SPI.
// A reservation for all IPsec between two hosts, or for what an IPv6
// authentication header does not hide, gets those whose SPI nobody named.
func TestClassifiesBySPIRFC2207Section4_1(t *testing.T) {
	for _, hosts := range []packet.FlowKey{key4, key6} {
		src, dst := hosts.SrcAddr(), hosts.DstAddr()
		whole := func(proto uint8) packet.FlowKey {
			return packet.MakeKey(proto, netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0))
		}
		for proto, send := range map[uint8]func(uint32) []byte{
			unix.IPPROTO_ESP: func(spi uint32) []byte { return frame(packet.SPIKey(unix.IPPROTO_ESP, src, dst, spi), 0, 120) },
			unix.IPPROTO_AH:  func(spi uint32) []byte { return authenticated(hosts, spi) },
		} {
			h := newHarness(t)
			want := func(when string, spi uint32, class plan.ClassID) {
				t.Helper()
				if r := h.send(send(spi), 0); r.priority != uint32(class) {
					t.Errorf("%s, protocol %d, %s: SPI %#x has priority %#x, want %#x", hosts, proto, when, spi, r.priority, uint32(class))
				}
			}
			h.put(plan.Treatment{Key: packet.SPIKey(proto, src, dst, spi)}, mine)
			want("named", spi, mine)
			for _, other := range []uint32{0, spi + 1, spi + 1<<16, 0x2002_1001} {
				want("another", other, 0)
			}
			other := whole(proto)
			if proto == unix.IPPROTO_AH && !hosts.Is4() {
				other = hosts // what it has inside
			}
			h.put(plan.Treatment{Key: other}, theirs)
			want("beside the others", spi, mine)
			want("one of the others", spi+1, theirs)
			c, err := h.Counters(h.ifindex, packet.SPIKey(proto, src, dst, spi))
			if err != nil {
				t.Fatal(err)
			}
			if size := uint64(len(send(spi)) - 14); c.Packets != 2 || c.Bytes != 2*size {
				t.Errorf("%s, protocol %d: counted %+v, want 2 packets of %d bytes", hosts, proto, c, size)
			}
		}
	}
	// The rest of a fragmented packet begins with anything but an SPI.
	h := newHarness(t)
	k := packet.SPIKey(unix.IPPROTO_ESP, key4.SrcAddr(), key4.DstAddr(), spi)
	h.put(plan.Treatment{Key: k}, mine)
	b := frame(k, 0, 120)
	b[14+7] = 10
	if r := h.send(b, 0); r.priority != 0 {
		t.Error("a later fragment was treated")
	}
	// What is cut off before its SPI is left alone.
	if r := h.send(frame(k, 0, 120)[:14+22], 0); r.priority != 0 {
		t.Error("a packet without an SPI was treated")
	}
}
