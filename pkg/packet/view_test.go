package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

func TestParseTable(t *testing.T) {
	edit := func(b []byte, f func([]byte)) []byte { f(b); return b }
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"19 bytes", make([]byte, 19), ErrTruncated},
		{"version 5", edit(sample(key4, 9), func(b []byte) { b[0] = 0x55 }), ErrVersion},
		{"IHL 4", edit(sample(key4, 9), func(b []byte) { b[0] = 0x44 }), ErrHeader},
		{"total below IHL", edit(sample(key4, 9), func(b []byte) { b[2], b[3] = 0, 19 }), ErrHeader},
		{"total beyond the bytes", sample(key4, 9)[:60], ErrTruncated},
		{"no room for TCP", edit(sample(key4, 9), func(b []byte) { b[2], b[3] = 0, 39 }), ErrTruncated},
		{"data offset 4", edit(sample(key4, 9), func(b []byte) { b[32] = 0x40 }), ErrHeader},
		{"data offset beyond the end", edit(sample(key4, 0)[:60], func(b []byte) { b[2], b[3] = 0, 60; b[32] = 0xf0 }), ErrTruncated},
		{"IPv6 payload beyond the bytes", sample(key6, 9)[:70], ErrTruncated},
		{"IPv6 extension beyond the end", edit(sample(key6, 9), func(b []byte) { b[6], b[41] = ProtoDestOpts, 200 }), ErrTruncated},
		{"good IPv4", sample(key4, 9), nil},
		{"good IPv6", sample(key6, 9), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse(c.b); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A header that ends early is an error at every length, never a panic.
func TestEveryTruncationIsAnError(t *testing.T) {
	for _, k := range []FlowKey{key4, key6} {
		b := sample(k, 30)
		for n := range len(b) {
			if _, err := Parse(b[:n]); err == nil {
				t.Errorf("%d of %d bytes parse", n, len(b))
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, k := range []FlowKey{key4, key6} {
		for _, n := range []int{0, 1, 2, 1448, 60000} {
			v := mustParse(t, sample(k, n))
			tc := v.TCP()
			o, ok := ParseOptions(tc.Options())
			if v.Key() != k || v.TTL() != 63 || v.TOS() != 0xb9 || v.DSCP() != 46 || v.ECN() != 1 || !v.DF() ||
				tc.Seq() != 0xfffffffe || tc.Ack() != 77 || tc.Flags() != FlagACK|FlagPSH || tc.Window() != 1234 ||
				len(v.TCPPayload()) != n || tc.SegLen() != n || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
				t.Errorf("%v, %d bytes: wrong field", k, n)
			}
			if !ok || !o.HasTimestamps || o.TSVal != 1 || o.TSEcr != 2 || o.NSACK != 2 || o.SACK[1] != (SACKBlock{30, 40}) {
				t.Errorf("%v: options %+v", k, o)
			}
			if k.Is4() && v.ID() != 4711 || !k.Is4() && v.FlowLabel() != 0xabcde {
				t.Errorf("%v: ID %d, flow label %x", k, v.ID(), v.FlowLabel())
			}
		}
	}
}

func TestPaddingIsCutOff(t *testing.T) {
	b := sample(key4, 3)
	if v := mustParse(t, append(b, 0, 0, 0, 0, 0)); v.Len() != len(b) || len(v.TCPPayload()) != 3 {
		t.Errorf("length %d, want %d", v.Len(), len(b))
	}
}

func TestFragments(t *testing.T) {
	b := sample(key4, 100)
	b[6] |= 0x20 // MF
	if v := mustParse(t, b); !v.Fragment() || v.IsTCP() || v.Key().SrcPort != 0 {
		t.Error("first fragment")
	}
	six := func(field uint16) []byte {
		b := sample(key6, 10)
		out := append([]byte(nil), b[:40]...)
		out[6] = ProtoFragment
		binary.BigEndian.PutUint16(out[4:], uint16(len(b)-40+8))
		out = append(out, ProtoTCP, 0, byte(field>>8), byte(field), 0, 0, 0, 1)
		return append(out, b[40:]...)
	}
	if v := mustParse(t, six(0)); v.Fragment() || !v.IsTCP() || !v.TCPChecksumOK() { // RFC 6946
		t.Error("an atomic fragment is a whole packet")
	}
	if v := mustParse(t, six(1)); !v.Fragment() || v.IsTCP() {
		t.Error("IPv6 fragment")
	}
	if k, ok := mustParse(t, b).FragmentKey(); !ok || k != key4 {
		t.Errorf("flow of a first fragment: %v %v", k, ok)
	}
	if k, ok := mustParse(t, six(1)).FragmentKey(); !ok || k != key6 {
		t.Errorf("flow of a first IPv6 fragment: %v %v", k, ok)
	}
	if _, ok := mustParse(t, six(9)).FragmentKey(); ok {
		t.Error("a later IPv6 fragment has no ports")
	}
	b[7] = 3
	if _, ok := mustParse(t, b).FragmentKey(); ok {
		t.Error("a later fragment has no ports")
	}
	if _, ok := mustParse(t, sample(key4, 3)).FragmentKey(); ok {
		t.Error("a whole packet is no fragment")
	}
}

// RFC 8200 section 4: the transport is behind the extension headers.
func TestRFC8200_4_Extensions(t *testing.T) {
	b := sample(key6, 10)
	out := append([]byte(nil), b[:40]...)
	out[6] = ProtoHopByHop
	binary.BigEndian.PutUint16(out[4:], uint16(len(b)-40+8+16))
	out = append(out, ProtoDestOpts, 0, 1, 4, 0, 0, 0, 0)
	out = append(out, ProtoTCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	out = append(out, b[40:]...)
	if v := mustParse(t, out); !v.IsTCP() || v.Key() != key6 || !v.TCPChecksumOK() || len(v.Header()) != 64 {
		t.Errorf("TCP %v, key %v", v.IsTCP(), v.Key())
	}
}

// RFC 2474: only the code point changes; the header checksum stays right.
func TestSetDSCP(t *testing.T) {
	for _, k := range []FlowKey{key4, key6} {
		for d := range uint8(64) {
			v := mustParse(t, sample(k, 5))
			v.SetDSCP(d)
			w := mustParse(t, v.Bytes())
			if w.DSCP() != d || w.ECN() != 1 || !w.IPv4ChecksumOK() || !w.TCPChecksumOK() || w.FlowLabel() != v.FlowLabel() {
				t.Fatalf("%v: DSCP %d became %d, ECN %d", k, d, w.DSCP(), w.ECN())
			}
		}
	}
}

func TestDamageShows(t *testing.T) {
	for _, k := range []FlowKey{key4, key6} {
		b := sample(k, 40)
		for i := range b {
			b[i] ^= 0x10
			if v, err := Parse(b); err == nil && v.IsTCP() && v.TCPChecksumOK() && v.IPv4ChecksumOK() && k.Is4() {
				t.Errorf("byte %d changed and nothing shows", i)
			}
			b[i] ^= 0x10
		}
	}
}

func TestFlowKey(t *testing.T) {
	for _, k := range []FlowKey{key4, key6} {
		r := k.Reverse()
		c1, turned1 := k.Canonical()
		c2, turned2 := r.Canonical()
		if c1 != c2 || turned1 == turned2 || k.Hash() != r.Hash() || r.Reverse() != k {
			t.Errorf("%v and its reverse disagree", k)
		}
	}
	same := MakeKey(ProtoTCP, netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("127.0.0.1:5"))
	if a, _ := same.Canonical(); a.SrcPort != 5 {
		t.Error("ports must decide where addresses are equal")
	}
	if s := key4.String(); s != "tcp 192.0.2.1:4000 > 198.51.100.7:80" {
		t.Error(s)
	}
}

func TestNothingAllocates(t *testing.T) {
	b := sample(key4, 1000)
	buf := make([]byte, 0, 2048)
	s := Segment{Key: key4, Flags: FlagACK, Options: make([]byte, 12), Payload: b[60:600]}
	sink := 0
	for name, f := range map[string]func(){
		"Parse, Key, options, checksum": func() {
			v, _ := Parse(b)
			o, _ := ParseOptions(v.TCP().Options())
			k, _ := v.Key().Canonical()
			v.SetDSCP(3)
			v.SetTCPChecksum()
			sink += int(o.TSVal) + int(k.Hash())
		},
		"AppendTCP": func() { sink += len(AppendTCP(buf, &s)) },
		"options":   func() { sink += len(AppendSACK(AppendTimestamps(buf, 1, 2), []SACKBlock{{1, 2}}, 28)) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	p := sample(key4, 1448)
	b.ReportAllocs()
	for b.Loop() {
		v, _ := Parse(p)
		_ = v.Key()
	}
}

// RFC 2207 section 4.1: a flow of IPsec is named by its SPI.
func TestSPIKey(t *testing.T) {
	src, dst := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	for _, c := range []struct {
		key  FlowKey
		spi  uint32
		text string
	}{
		{SPIKey(ProtoESP, src, dst, 0x1001_2002), 0x1001_2002, "esp 10.1.0.2 > 10.2.0.2 spi 0x10012002"},
		{SPIKey(ProtoAH, src, dst, 7), 7, "ah 10.1.0.2 > 10.2.0.2 spi 0x7"},
		{SPIKey(ProtoESP, src, dst, 0), 0, "esp 10.1.0.2:0 > 10.2.0.2:0"},
		{MakeKey(ProtoTCP, netip.AddrPortFrom(src, 4000), netip.AddrPortFrom(dst, 80)), 0, "tcp 10.1.0.2:4000 > 10.2.0.2:80"},
	} {
		if got := c.key.SPI(); got != c.spi {
			t.Errorf("%s: SPI %#x", c.key, got)
		}
		if c.key.String() != c.text {
			t.Errorf("%s, want %s", c.key, c.text)
		}
	}
	a, b := SPIKey(ProtoESP, src, dst, 0x1_0002), SPIKey(ProtoESP, src, dst, 0x2_0001)
	if a == b {
		t.Error("two SPIs have one key")
	}
}
