package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessageRoundTrip(t *testing.T) {
	for name, m := range samples() {
		t.Run(name, func(t *testing.T) {
			b := encode(t, m)
			if m.Length() != len(b) {
				t.Errorf("Length %d, wrote %d bytes", m.Length(), len(b))
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, got, cmpOptions); d != "" {
				t.Errorf("parsed (-want +got):\n%s", d)
			}
			if d := cmp.Diff(b, encode(t, got)); d != "" {
				t.Errorf("encoded again:\n%s", d)
			}
		})
	}
}

// TestMessageKeepsNothingOfBuffer: the caller reuses its buffer.
func TestMessageKeepsNothingOfBuffer(t *testing.T) {
	for name, m := range samples() {
		b := encode(t, m)
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xa5
		}
		if d := cmp.Diff(m, got, cmpOptions); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}

func TestAppendAppends(t *testing.T) {
	m := four.samples()["path"]
	b, err := m.Append([]byte("before"))
	if err != nil || string(b[:6]) != "before" {
		t.Fatalf("%q, %v", b, err)
	}
	if d := cmp.Diff(encode(t, m), b[6:]); d != "" {
		t.Error(d)
	}
}

// TestTruncated: every prefix of every message is refused, with its header as
// it was and with a header that fits the prefix, unless that ends where the
// rest was optional.
func TestTruncated(t *testing.T) {
	for name, m := range samples() {
		b := encode(t, m)
		for n := range b {
			if _, err := Parse(b[:n]); err == nil {
				t.Errorf("%s: prefix of %d bytes accepted", name, n)
			}
			if n < commonHeader {
				continue
			}
			prefix := reseal(append([]byte{}, b[:n]...))
			got, err := Parse(prefix)
			switch {
			case err != nil && got != nil && asError(t, err).Respond:
				t.Errorf("%s: prefix of %d bytes would be answered: %v", name, n, err)
			case err == nil && len(encode(t, got)) != n:
				t.Errorf("%s: prefix of %d bytes read as %d", name, n, got.Length())
			case err == nil && n%4 != 0:
				t.Errorf("%s: prefix of %d bytes accepted", name, n)
			}
		}
	}
}

// TestObjectLengthLies sets every object's length to all that it is not.
// RFC 2205 section 3.1.2.
func TestObjectLengthLies(t *testing.T) {
	for name, m := range samples() {
		b := encode(t, m)
		for at := commonHeader; at < len(b); {
			length := int(b[at])<<8 | int(b[at+1])
			for _, lie := range []int{0, 1, 2, 3, 5, 6, 7, length - 1, length + 1, len(b) - at + 4, 0xfffc, 0xffff} {
				if lie == length {
					continue
				}
				c := append([]byte{}, b...)
				c[at], c[at+1] = byte(lie>>8), byte(lie)
				if _, err := Parse(reseal(c)); err == nil || asError(t, err).Kind != KindObjectLength {
					t.Errorf("%s: object at %d with length %d: %v", name, at, lie, err)
				}
			}
			at += length
		}
	}
}

func TestHeader(t *testing.T) {
	good := encode(t, four.samples()["path"])
	for name, tc := range map[string]struct {
		edit func(b []byte) []byte
		want Kind
	}{
		"empty":           {func([]byte) []byte { return nil }, KindShort},
		"seven bytes":     {func(b []byte) []byte { return b[:7] }, KindShort},
		"version 2":       {func(b []byte) []byte { b[0] = 0x20; return reseal(b) }, KindVersion},
		"type 0":          {func(b []byte) []byte { b[1] = 0; return reseal(b) }, KindType},
		"Bundle":          {func(b []byte) []byte { b[1] = 12; return reseal(b) }, KindType},
		"length short":    {func(b []byte) []byte { b[7] -= 4; return b }, KindLength},
		"length long":     {func(b []byte) []byte { b[7] += 4; return b }, KindLength},
		"trailing bytes":  {func(b []byte) []byte { return append(b, 0, 0, 0, 0) }, KindLength},
		"flipped content": {func(b []byte) []byte { b[20] ^= 1; return b }, KindChecksum},
	} {
		m, err := Parse(tc.edit(append([]byte{}, good...)))
		if err == nil || m != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if e := asError(t, err); e.Kind != tc.want || e.Respond {
			t.Errorf("%s: %v, want %v", name, e, tc.want)
		}
	}
}

// TestChecksumRFC2205Section3_1_1: zero means that it was not sent, so that
// the sum zero is sent as its other representation.
func TestChecksumRFC2205Section3_1_1(t *testing.T) {
	m := four.samples()["pathtear"]
	b := encode(t, m)
	if b[2] == 0 && b[3] == 0 {
		t.Fatal("no checksum was sent")
	}
	b[2], b[3] = 0, 0
	if _, err := Parse(b); err != nil {
		t.Errorf("not sent: %v", err)
	}
	if got := checksum([]byte{0xff, 0xff}); got != 0xffff {
		t.Errorf("checksum of all ones is %#04x", got)
	}
	// Search the TTL and LIH that make the plain checksum zero.
	for lih := range uint32(1 << 16) {
		m.Hop = &Hop{Addr: m.Hop.Addr, LIH: lih}
		b = encode(t, m)
		if b[2] == 0xff && b[3] == 0xff {
			if _, err := Parse(b); err != nil {
				t.Errorf("checksum 0xffff: %v", err)
			}
			return
		}
	}
	t.Error("no message with that checksum found")
}

// TestCiscoPath is a PATH as Cisco's routers send it, assembled from a
// description of captured traffic: m of zero, M of 2^31-1, an ADSPEC with
// general parameters and controlled load only.
func TestCiscoPath(t *testing.T) {
	b := reseal(unhex(`10010000 fe000000
		000c0101 0a012406 1100138c
		000c0301 0a011802 08000403
		00080501 00007530
		000c0b01 0a010c01 00000fa0
		00240c02 00000007 01000006 7f000005 45bb8000 45bb8000 45bb8000 00000000 7fffffff
		00300d02 0000000a 01000008 04000001 00000002 06000001 49989680 08000001 00000000 0a000001 000005dc 05000000`))
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.SendTTL != 254 || m.Hop.LIH != 0x08000403 || m.TimeValues.Refresh != 30000 ||
		m.SenderTSpec.Rate != 6000 || m.SenderTSpec.MinUnit != 0 || m.SenderTSpec.MaxPacket != 0x7fffffff {
		t.Errorf("%+v", m)
	}
	a := m.AdSpec
	if a.General.Hops != 2 || a.General.Bandwidth != 1.25e6 || a.General.MTU != 1500 ||
		a.Guaranteed != nil || a.ControlledLoad == nil || a.ControlledLoad.Break {
		t.Errorf("ADSPEC %+v", a)
	}
	if d := cmp.Diff(b, encode(t, m)); d != "" {
		t.Errorf("rebuilt:\n%s", d)
	}
}

// TestCiscoResv is the RESV to it: m and M of zero, RESV_CONFIRM.
func TestCiscoResv(t *testing.T) {
	b := reseal(unhex(`10020000 ff000000
		000c0101 0a012406 1100138c
		000c0301 0a012406 08000403
		00080501 00007530
		00080f01 0a012406
		00080801 0000000a
		00240902 00000007 05000006 7f000005 45bb8000 45bb8000 45bb8000 00000000 00000000
		000c0a01 0a010c01 00000fa0`))
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Style != FF || len(m.Flows) != 1 || m.ResvConfirm != ip("10.1.36.6") ||
		m.Flows[0].FlowSpec.TSpec.MaxPacket != 0 || m.Flows[0].Filters[0].Src != ip("10.1.12.1") {
		t.Errorf("%+v", m)
	}
	if d := cmp.Diff(b, encode(t, m)); d != "" {
		t.Errorf("rebuilt:\n%s", d)
	}
}

func TestAppendRefusesTooLong(t *testing.T) {
	m := four.samples()["resv-se"]
	for range 8000 {
		m.Flows[0].Filters = append(m.Flows[0].Filters, m.Flows[0].Filters[0])
	}
	b, err := m.Append([]byte{1})
	if err == nil || asError(t, err).Kind != KindTooLong || len(b) != 1 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func BenchmarkParse(b *testing.B) {
	msg := encode(b, four.samples()["path"])
	b.ReportAllocs()
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if _, err := Parse(msg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	m := four.samples()["path"]
	buf := make([]byte, 0, 1500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Append(buf); err != nil {
			b.Fatal(err)
		}
	}
}
