package inject

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

func drawFrame(t *rapid.T) (f packet.Frame) {
	copy(f.Dst[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "dst"))
	copy(f.Src[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "src"))
	f.NTags = rapid.IntRange(0, packet.MaxTags).Draw(t, "ntags")
	for i := range f.NTags {
		f.Tags[i] = packet.Tag{TPID: rapid.SampledFrom([]uint16{0x8100, 0x88a8}).Draw(t, "tpid"), TCI: rapid.Uint16().Draw(t, "tci")}
	}
	return f
}

// What an independent decoder reads in a frame is the frame that was learned, and
// the packet that was given, with an IPv4 header as a kernel would have finished it.
func TestFrameIsWhatWasLearned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFrame(t)
		id := rapid.Uint16().Draw(t, "id")
		data := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "data")
		df := rapid.Bool().Draw(t, "df")
		own := rapid.SampledFrom([]uint16{0, 1, 4711}).Draw(t, "own id")
		for _, pkt := range [][]byte{rsvp4(nil, data, df), rsvp4(routerAlert, data, df), rsvp6(data)} {
			if pkt[0]>>4 == 4 {
				binary.BigEndian.PutUint16(pkt[4:], own)
				binary.BigEndian.PutUint16(pkt[10:], rapid.Uint16().Draw(t, "checksum"))
			}
			given := bytes.Clone(pkt)
			var room [maxHead]byte
			header, rest, err := head(room[:0], &f, pkt, id)
			if err != nil || &header[0] != &room[0] {
				t.Fatalf("%v, or it was moved", err)
			}
			if !bytes.Equal(pkt, given) {
				t.Fatal("the caller's bytes were changed")
			}
			checkFrame(t, append(bytes.Clone(header), rest...), &f, pkt, id)
		}
	})
}

func checkFrame(t *rapid.T, frame []byte, f *packet.Frame, pkt []byte, id uint16) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	eth, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok || !bytes.Equal(eth.DstMAC, f.Dst[:]) || !bytes.Equal(eth.SrcMAC, f.Src[:]) {
		t.Fatalf("Ethernet: %v", p)
	}
	var tags []*layers.Dot1Q
	for _, l := range p.Layers() {
		if tag, ok := l.(*layers.Dot1Q); ok {
			tags = append(tags, tag)
		}
	}
	next := []layers.EthernetType{eth.EthernetType}
	for _, tag := range tags {
		next = append(next, tag.Type)
	}
	if len(tags) != f.NTags {
		t.Fatalf("%d tags, want %d", len(tags), f.NTags)
	}
	for i, tag := range tags {
		tci := uint16(tag.Priority)<<13 | tag.VLANIdentifier
		if tag.DropEligible {
			tci |= 1 << 12
		}
		if tci != f.Tags[i].TCI || uint16(next[i]) != f.Tags[i].TPID {
			t.Fatalf("tag %d is %#x %#x, want %+v", i, next[i], tci, f.Tags[i])
		}
	}
	want, last := layers.EthernetTypeIPv4, next[len(next)-1]
	if pkt[0]>>4 == 6 {
		want = layers.EthernetTypeIPv6
	}
	if last != want {
		t.Fatalf("type %v", last)
	}
	got := frame[14+4*len(tags):]
	if v, err := packet.Parse(got); err != nil || v.Is4() && !v.IPv4ChecksumOK() {
		t.Fatalf("%v, or a wrong checksum", err)
	}
	// The rest is as it was.
	expect := bytes.Clone(pkt)
	if pkt[0]>>4 == 4 {
		// RFC 6864 section 4.1: with DF there is nothing to identify.
		if expect[6]&0x40 == 0 && be16(expect[4:]) == 0 {
			binary.BigEndian.PutUint16(expect[4:], max(id, 1))
		}
		copy(expect[10:12], got[10:12])
	}
	if !bytes.Equal(got, expect) {
		t.Fatalf("the packet is % x, want % x", got, expect)
	}
}

// RFC 791 section 3.2: the pieces of a packet have one identification, and 0 is one. A
// fragment that is sent on keeps it, in one piece or cut again.
func TestFragmentKeepsIdentificationRFC791Section3_2(t *testing.T) {
	for _, field := range []uint16{0x2000, 0x2010, 0x0010} {
		pkt := rsvp4(nil, make([]byte, 200), false)
		binary.BigEndian.PutUint16(pkt[4:], 0)
		binary.BigEndian.PutUint16(pkt[6:], field)
		var room [maxHead]byte
		header, _, err := head(room[:0], &packet.Frame{}, pkt, 4711)
		if err != nil || be16(header[14+4:]) != 0 {
			t.Errorf("field %#x: %v, identification %d", field, err, be16(header[14+4:]))
		}
		parts, err := fragment(pkt, 100, 4711)
		if err != nil || len(parts) < 2 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
		for _, p := range parts {
			if be16(p[4:]) != 0 {
				t.Errorf("field %#x: a part has identification %d", field, be16(p[4:]))
			}
		}
	}
}

// Whatever is given as a packet, a frame is that packet behind a header, or an
// error.
func FuzzFrame(f *testing.F) {
	f.Add(rsvp4(routerAlert, []byte("data"), false), byte(0), uint16(7))
	f.Add(rsvp6([]byte("data")), byte(2), uint16(0))
	f.Add([]byte{0x4f, 0, 0, 20, 0, 0, 0, 0, 0, 46, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2}, byte(1), uint16(1))
	f.Add([]byte{0x60}, byte(1), uint16(1))
	f.Fuzz(func(t *testing.T, pkt []byte, tags byte, id uint16) {
		fr := packet.Frame{NTags: int(int8(tags)), Tags: [packet.MaxTags]packet.Tag{{TPID: 0x88a8, TCI: 1}, {TPID: 0x8100, TCI: 2}}}
		var room [maxHead]byte
		header, rest, err := head(room[:0], &fr, pkt, id)
		if err != nil {
			if len(header) != 0 {
				t.Fatal("an error, and a header")
			}
			return
		}
		l2 := 14 + 4*min(max(fr.NTags, 0), packet.MaxTags)
		whole := append(bytes.Clone(header), rest...)
		if &header[0] != &room[0] || len(whole) != l2+len(pkt) {
			t.Fatalf("%d bytes of %d", len(whole), len(pkt))
		}
		if got := whole[l2:]; got[0]>>4 == 4 && packet.Checksum(got[:int(got[0]&15)*4]) != 0 {
			t.Fatal("a wrong checksum")
		}
	})
}

func TestGroupAddressRFC1112Section6_4RFC2464Section7(t *testing.T) {
	for dst, want := range map[string][6]byte{
		"239.129.2.3":    {0x01, 0x00, 0x5e, 0x01, 0x02, 0x03},
		"ff3e::1:200:3":  {0x33, 0x33, 0x02, 0x00, 0x00, 0x03},
		"10.1.0.2":       {},
		"fd00::aabb:cc1": {},
	} {
		if got, ok := groupAddress(netip.MustParseAddr(dst)); got != want || ok != (want != [6]byte{}) {
			t.Errorf("%s: % x, %v", dst, got, ok)
		}
	}
}
