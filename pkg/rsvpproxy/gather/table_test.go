package gather

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var epoch = time.Unix(1e9, 0)

// datagram is an IP packet of RSVP with so many bytes, in IPv6 behind so many
// extension headers.
func datagram(rng *rand.Rand, v6 bool, n, headers int) []byte {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	if !v6 {
		b := []byte{0x46, 0xc0, 0, 0, 0, 0, 0, 0, 63, packet.ProtoRSVP, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2, 0x94, 4, 0, 0}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+n))
		binary.BigEndian.PutUint16(b[4:], uint16(rng.Uint32()))
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b))
		return append(b, body...)
	}
	b := make([]byte, 40)
	b[0], b[7], b[8], b[24] = 0x60, 63, 0xfd, 0xfd
	b[23], b[39] = 2, 3
	next := 6
	for i := range headers {
		b[next] = packet.ProtoDestOpts
		if i == 0 {
			b[next] = packet.ProtoHopByHop
		}
		next = len(b)
		b = append(b, 0, 0, 5, 2, 0, 1, 1, 0)
	}
	b[next] = packet.ProtoRSVP
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40+n))
	return append(b, body...)
}

// cut is an independent fragmenter, after RFC 791 section 3.2 and RFC 8200 section
// 4.5: pieces of random sizes.
func cut(rng *rand.Rand, b []byte) (parts [][]byte) {
	v, err := packet.Parse(b)
	if err != nil {
		panic(err)
	}
	h, body, id := v.Header(), v.Transport(), rng.Uint32()
	for offset := 0; offset < len(body); {
		size := 8 * (1 + rng.IntN(20))
		if rng.IntN(3) == 0 {
			size *= 10
		}
		last := offset+size >= len(body)
		if last {
			size = len(body) - offset
		}
		p := slices.Clone(h)
		if v.Is4() {
			field := uint16(offset / 8)
			if !last {
				field |= 0x2000
			}
			binary.BigEndian.PutUint16(p[2:], uint16(len(h)+size))
			binary.BigEndian.PutUint16(p[6:], field)
			p[10], p[11] = 0, 0
			binary.BigEndian.PutUint16(p[10:], packet.Checksum(p))
		} else {
			field := uint16(offset)
			if !last {
				field |= 1
			}
			at := 6
			for i := 40; i < len(h); i += 8 {
				at = i
			}
			p = append(p, p[at], 0)
			p[at] = packet.ProtoFragment
			p = binary.BigEndian.AppendUint16(p, field)
			p = binary.BigEndian.AppendUint32(p, id)
			binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40+size))
		}
		parts = append(parts, append(p, body[offset:offset+size]...))
		offset += size
	}
	return parts
}

func view(t testing.TB, b []byte) packet.View {
	t.Helper()
	v, err := packet.Parse(b)
	if err != nil || !v.Fragment() {
		t.Fatalf("fragment %v: %v", v.Fragment(), err)
	}
	return v
}

// Whatever is cut comes out as it was, in whichever order the pieces come, some of
// them twice, and mixed with those of others; and nothing is left.
func TestWhole(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		table := New(Config{})
		type bit struct {
			of int
			b  []byte
		}
		var all []bit
		var want [][]byte
		for range 1 + rng.IntN(5) {
			d := datagram(rng, rng.IntN(2) == 0, 300+rng.IntN(1200), rng.IntN(3))
			parts := cut(rng, d)
			if len(parts) < 2 {
				continue
			}
			for _, p := range parts {
				all = append(all, bit{len(want), p})
				if rng.IntN(5) == 0 {
					all = append(all, bit{len(want), p})
				}
			}
			want = append(want, d)
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var got [][]byte
		late := 0
		for _, x := range all {
			for _, tr := range table.Add(epoch, view(t, x.b), 1) {
				if tr.Whole == nil {
					t.Fatalf("seed %d: given up", seed)
				}
				got = append(got, tr.Whole)
			}
		}
		for _, tr := range table.Due(epoch.Add(DefaultWait)) { // duplicates of pieces of what was whole
			late += len(tr.Pieces)
		}
		for _, g := range got { // which may be all of one's duplicates
			if !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(g, w) }) {
				t.Errorf("seed %d: a datagram that nobody sent", seed)
			}
		}
		for _, w := range want {
			if !slices.ContainsFunc(got, func(g []byte) bool { return bytes.Equal(g, w) }) {
				t.Errorf("seed %d: a datagram of %d bytes did not come out as it was", seed, len(w))
			}
		}
		if len(got) < len(want) || table.bytes != 0 || len(table.trains) != 0 || late > len(all) {
			t.Errorf("seed %d: %d of %d datagrams, %d bytes left", seed, len(got), len(want), table.bytes)
		}
	}
}

// A piece is missing: the others are given back as they came, in time.
func TestLate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	table := New(Config{})
	var parts [][]byte
	for len(parts) < 4 {
		parts = cut(rng, datagram(rng, false, 900, 0))
	}
	for _, p := range parts[1:] {
		if out := table.Add(epoch, view(t, p), 7); len(out) != 0 {
			t.Fatalf("%+v", out)
		}
	}
	at, ok := table.NextDeadline()
	if !ok || at != epoch.Add(DefaultWait) || len(table.Due(at.Add(-1))) != 0 {
		t.Fatalf("deadline %v %v", at, ok)
	}
	out := table.Due(at)
	if len(out) != 1 || out[0].Whole != nil || out[0].Port != 7 || !slices.EqualFunc(out[0].Pieces, parts[1:], bytes.Equal) {
		t.Errorf("%+v", out)
	}
	if c := table.Counters(); c != (Counters{Late: 1}) {
		t.Errorf("%+v", c)
	}
	if _, ok := table.NextDeadline(); ok {
		t.Error("a deadline is left")
	}
	// The same identification by two ports is of two datagrams.
	if len(table.Add(epoch, view(t, parts[0]), 1)) != 0 {
		t.Error("whole")
	}
	for _, p := range parts[1:] {
		for _, tr := range table.Add(epoch, view(t, p), 2) {
			t.Errorf("%+v", tr)
		}
	}
}

// Pieces that overlap, or end beyond the end, are of no datagram (RFC 5722 section 4).
func TestOverlapRFC5722Section4(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, v6 := range []bool{false, true} {
		var parts [][]byte
		for len(parts) < 3 {
			parts = cut(rng, datagram(rng, v6, 900, 0))
		}
		other := slices.Clone(parts[1])
		other[len(other)-1] ^= 1 // the same place, other bytes
		beyond := slices.Clone(parts[len(parts)-1])
		if v6 {
			binary.BigEndian.PutUint16(beyond[42:], 8)
		} else {
			binary.BigEndian.PutUint16(beyond[6:], 1)
		}
		for name, bad := range map[string][]byte{"other bytes": other, "another end": beyond} {
			table := New(Config{})
			var out []Train
			for _, p := range [][]byte{parts[0], parts[1], parts[len(parts)-1], bad} {
				out = append(out, table.Add(epoch, view(t, p), 1)...)
			}
			if len(out) == 0 || out[0].Whole != nil || table.Counters().Broken == 0 {
				t.Errorf("%s, v6 %v: %+v", name, v6, table.Counters())
			}
		}
	}
}

// However many come: what is held is bounded, and what is given up for want of room
// comes back.
func TestBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	cfg := Config{Trains: 8, Bytes: 4000}
	table := New(cfg)
	in, back := 0, 0
	for range 500 {
		parts := cut(rng, datagram(rng, false, 1000, 0))
		for _, p := range parts[:len(parts)-1] { // never the last
			in++
			for _, tr := range table.Add(epoch, view(t, p), 1) {
				back += len(tr.Pieces)
			}
			if table.bytes > cfg.Bytes || len(table.trains) > cfg.Trains || len(table.order) != len(table.trains) {
				t.Fatalf("%d bytes, %d datagrams", table.bytes, len(table.trains))
			}
		}
	}
	for _, tr := range table.Due(epoch.Add(time.Hour)) {
		back += len(tr.Pieces)
	}
	if in != back || table.bytes != 0 {
		t.Errorf("%d pieces in, %d back", in, back)
	}
}
