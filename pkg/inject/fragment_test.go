package inject

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// rsvp4 is an IPv4 packet of protocol 46 with the options given.
func rsvp4(options, data []byte, df bool) []byte {
	b := make([]byte, 20, 20+len(options)+len(data))
	b[0] = 0x45 + byte(len(options)/4)
	b[8], b[9] = 64, packet.ProtoRSVP
	if df {
		b[6] = 0x40
	}
	copy(b[12:], []byte{10, 9, 9, 9})
	copy(b[16:], []byte{10, 2, 0, 2})
	b = append(append(b, options...), data...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20+len(options)]))
	return b
}

// rsvp6 is an IPv6 packet with a hop-by-hop Router Alert (RFC 2711, value 1).
func rsvp6(data []byte) []byte {
	b := make([]byte, 40, 48+len(data))
	b[0], b[7] = 0x60, 64
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	copy(b[8:], []byte{0xfd, 9, 15: 9})
	copy(b[24:], []byte{0xfd, 2, 15: 2})
	b = append(b, packet.ProtoRSVP, 0, 5, 2, 0, 1, 1, 0)
	return append(b, data...)
}

var routerAlert = []byte{0x94, 4, 0, 0} // RFC 2113

// Put together again by the rules of the RFCs, fragments are the packet.
// RFC 2205 section 3.3: what is longer than the MTU goes in fragments.
func TestFragmentsReassemble(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(t, "data")
		mtu := rapid.IntRange(576, 2000).Draw(t, "mtu")
		for _, pkt := range [][]byte{rsvp4(routerAlert, data, false), rsvp6(data)} {
			parts, err := fragment(pkt, mtu, 7)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for i, p := range parts {
				v, err := packet.Parse(p)
				if err != nil || len(p) > mtu || !v.IPv4ChecksumOK() || v.Proto() != packet.ProtoRSVP {
					t.Fatalf("part %d of %d bytes: %v, protocol %d", i, len(p), err, v.Proto())
				}
				last := i == len(parts)-1
				offset, more, id := position(p)
				if offset != len(got) || more == last || id != 7 || v.Fragment() == (len(parts) == 1 && v.Is4()) && v.Is4() {
					t.Fatalf("part %d: offset %d, want %d; more %v; id %d", i, offset, len(got), more, id)
				}
				if v.Is4() && !bytes.Equal(p[20:24], routerAlert) || !v.Is4() && p[42] != 5 {
					t.Fatalf("part %d has lost the Router Alert", i)
				}
				got = append(got, v.Transport()...)
			}
			if !bytes.Equal(got, data) {
				t.Fatal("not the same data")
			}
		}
	})
}

func be16(b []byte) int { return int(binary.BigEndian.Uint16(b)) }

// position reads offset in bytes, the more flag and the identification.
func position(p []byte) (offset int, more bool, id uint32) {
	if p[0]>>4 == 4 {
		return be16(p[6:]) & 0x1fff * 8, p[6]&0x20 != 0, uint32(be16(p[4:]))
	}
	f := p[48:] // behind the hop-by-hop header
	return be16(f[2:]) &^ 7, f[3]&1 != 0, binary.BigEndian.Uint32(f[4:])
}

func TestFragmentRules(t *testing.T) {
	if fragmentable(rsvp4(nil, make([]byte, 100), true)) {
		t.Error("RFC 791: DF is set")
	}
	if !fragmentable(rsvp4(nil, make([]byte, 100), false)) || !fragmentable(rsvp6(make([]byte, 100))) {
		t.Error("RSVP may be fragmented")
	}
	tcp6 := rsvp6(make([]byte, 100))
	tcp6[40] = packet.ProtoTCP
	if fragmentable(tcp6) {
		t.Error("RFC 8200 section 4.5: only the sender fragments")
	}
	// Options without the copied flag stay in the first fragment (RFC 791 3.1):
	// record route (7) is one.
	options := append([]byte{1, 7, 3, 4}, routerAlert...)
	parts, err := fragment(rsvp4(options, make([]byte, 2000), false), 1000, 9)
	if err != nil || len(parts) != 3 || parts[0][0] != 0x47 || parts[1][0] != 0x46 || parts[2][0] != 0x46 {
		t.Errorf("%v, %d parts", err, len(parts))
	}
	// A fragment of a fragment keeps its place, its id and its more flag.
	inner := rsvp4(nil, make([]byte, 1600), false)
	binary.BigEndian.PutUint16(inner[4:], 77)
	binary.BigEndian.PutUint16(inner[6:], 0x2000|100)
	parts, err = fragment(inner, 1020, 9)
	if err != nil || len(parts) != 2 {
		t.Fatal(err, len(parts))
	}
	for i, want := range []int{800, 1800} {
		if offset, more, id := position(parts[i]); offset != want || !more || id != 77 {
			t.Errorf("part %d: offset %d, more %v, id %d", i, offset, more, id)
		}
	}
	if _, err := fragment(rsvp4(nil, make([]byte, 100), false), 24, 1); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("an MTU without room: %v", err)
	}
}

func FuzzFragment(f *testing.F) {
	f.Add(rsvp4(routerAlert, make([]byte, 3000), false), 1500)
	f.Add(rsvp6(make([]byte, 3000)), 1280)
	f.Add([]byte{0x46, 0, 0, 24, 0, 0, 0, 0, 0, 46, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0x94, 0, 0, 0}, 100)
	f.Fuzz(func(t *testing.T, pkt []byte, mtu int) {
		if mtu < 0 || mtu > 70000 || !fragmentable(pkt) {
			return
		}
		parts, err := fragment(pkt, mtu, 1)
		if err != nil {
			return
		}
		for _, p := range parts {
			if len(p) > mtu {
				t.Fatalf("a part of %d bytes, MTU %d", len(p), mtu)
			}
			if _, err := packet.Parse(p); err != nil {
				t.Fatal(err)
			}
		}
	})
}
