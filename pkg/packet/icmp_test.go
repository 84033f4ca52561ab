package packet

import (
	"encoding/binary"
	"testing"
)

// tooBig is an ICMP error to the source of packet p, which quotes n bytes of it.
func tooBig(p []byte, n, mtu int) []byte {
	q := p[:n]
	if p[0]>>4 == 4 {
		b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, ProtoICMP, 0, 0, 203, 0, 113, 1}
		b = append(append(b, p[12:16]...), 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
		b = append(b, q...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return seal(b)
	}
	b := []byte{0x60, 0, 0, 0, 0, 0, ProtoICMPv6, 64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}
	b = append(append(b, p[8:24]...), 2, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint32(b, uint32(mtu)), q...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return seal(b)
}

// seal sets the checksum of an ICMP message.
func seal(b []byte) []byte {
	v, err := Parse(b)
	if err != nil {
		panic(err)
	}
	m, sum := v.Transport(), uint64(0)
	m[2], m[3] = 0, 0
	if !v.Is4() {
		sum = v.pseudo(len(m))
	}
	binary.BigEndian.PutUint16(m[2:], Fold(Sum(sum, m)))
	return b
}

// RFC 1191 section 4 and RFC 4443 section 3.2, with as little of the packet in
// them as RFC 792 allows, and with more.
func TestRFC1191_TooBig(t *testing.T) {
	for _, key := range []FlowKey{key4, key6} {
		p := sample(key, 500)
		v, _ := Parse(p)
		for _, n := range []int{len(v.Header()) + 8, len(v.Header()) + 20, 300} {
			for _, mtu := range []int{0, 576, 1400, 65535} {
				v, err := Parse(tooBig(p, n, mtu))
				if err != nil {
					t.Fatal(err)
				}
				want := TooBig{Key: key, Seq: Seq(binary.BigEndian.Uint32(p[len(p)-len(sampleTCP(p))+4:])), Len: len(p), MTU: mtu}
				if got, ok := v.TooBig(); !ok || got != want {
					t.Errorf("quoting %d bytes: %+v %v, want %+v", n, got, ok, want)
				}
			}
		}
	}
}

func sampleTCP(p []byte) TCP {
	v, _ := Parse(p)
	return v.TCP()
}

// Of IPv6 the MTU field has 32 bits; one that is absurd stays above any packet.
func TestTooBigOfAnAbsurdMTU(t *testing.T) {
	b := tooBig(sample(key6, 100), 60, 0)
	binary.BigEndian.PutUint32(b[44:], 0xffffffff)
	v, _ := Parse(seal(b))
	if got, ok := v.TooBig(); !ok || got.MTU < 1<<20 {
		t.Errorf("%+v %v", got, ok)
	}
}

// Everything else is not one.
func TestNotTooBig(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"damaged":               func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"another type":          func(b []byte) []byte { b[hdr(b)] = 11; return seal(b) },
		"of UDP":                func(b []byte) []byte { b[quotedProto(b)] = ProtoUDP; return seal(b) },
		"to another host":       func(b []byte) []byte { b[hdr(b)-1] ^= 1; return seal(b) },
		"another version in it": func(b []byte) []byte { b[hdr(b)+8] ^= 0x20; return seal(b) },
		"too short a quotation": func(b []byte) []byte {
			return tooBig(sample(keyOf(b), 100), hdr(b)+7, 576)
		},
		"no quotation": func(b []byte) []byte { return tooBig(sample(keyOf(b), 100), 0, 576) },
	} {
		for _, key := range []FlowKey{key4, key6} {
			v, err := Parse(change(tooBig(sample(key, 100), 80, 576)))
			if err != nil {
				t.Fatal(name, err)
			}
			if got, ok := v.TooBig(); ok {
				t.Errorf("%s: taken for %+v", name, got)
			}
		}
	}
	for name, change := range map[string]func(b []byte){
		"another code":                     func(b []byte) { b[21] = 3 },
		"a later fragment in it":           func(b []byte) { b[28+7] = 1 },
		"a header in it that is too short": func(b []byte) { b[28] = 0x44 },
		"a header in it that is too long":  func(b []byte) { b[28] = 0x4f },
	} {
		b := tooBig(sample(key4, 100), 60, 576)
		change(b)
		v, _ := Parse(seal(b))
		if got, ok := v.TooBig(); ok {
			t.Errorf("%s: taken for %+v", name, got)
		}
	}
	v, _ := Parse(sample(key4, 10))
	if _, ok := v.TooBig(); ok {
		t.Error("a TCP segment is taken for one")
	}
}

func hdr(b []byte) int {
	if b[0]>>4 == 4 {
		return 20
	}
	return 40
}

func quotedProto(b []byte) int {
	if b[0]>>4 == 4 {
		return 28 + 9
	}
	return 48 + 6
}

func keyOf(b []byte) FlowKey {
	if b[0]>>4 == 4 {
		return key4
	}
	return key6
}

// FuzzTooBig: no input is read beyond its end, and what is told stands there.
func FuzzTooBig(f *testing.F) {
	for _, key := range []FlowKey{key4, key6} {
		f.Add(tooBig(sample(key, 100), 60, 576))
		f.Add(tooBig(sample(key, 100), hdr(sample(key, 0))+8, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			return
		}
		if len(v.Transport()) >= 8 && (v.Proto() == ProtoICMP || v.Proto() == ProtoICMPv6) {
			seal(b) // else hardly any input gets further
			v, _ = Parse(b)
		}
		q, ok := v.TooBig()
		if !ok {
			return
		}
		if q.Key.Proto != ProtoTCP || q.Key.SrcAddr() != v.Dst() || q.Len < 0 || q.MTU < 0 {
			t.Fatalf("%+v in a packet to %v", q, v.Dst())
		}
	})
}
