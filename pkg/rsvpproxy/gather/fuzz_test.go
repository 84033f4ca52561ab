package gather

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// FuzzTable feeds packets of any bytes, each behind its length: what is held is
// bounded, every fragment comes back once, and what is whole is an IP packet.
func FuzzTable(f *testing.F) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var list []byte
		for _, p := range cut(rng, datagram(rng, seed%2 == 1, 200, int(seed/2))) {
			list = append(binary.BigEndian.AppendUint16(list, uint16(len(p))), p...)
		}
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := Config{Trains: 4, Bytes: 5000}
		table := New(cfg)
		now := epoch
		seen, in, back := map[string]int{}, 0, 0
		note := func(list []Train) {
			for _, tr := range list {
				back += len(tr.Pieces)
				for _, p := range tr.Pieces {
					if seen[string(p)]--; seen[string(p)] < 0 {
						t.Fatal("a piece that has not come")
					}
				}
				if tr.Whole == nil {
					continue
				}
				v, err := packet.Parse(tr.Whole)
				if err != nil || v.Fragment() || len(v.Bytes()) != len(tr.Whole) {
					t.Fatalf("whole, and no packet: %v, fragment %v", err, v.Fragment())
				}
			}
		}
		for len(b) > 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			p := bytes.Clone(b[2 : 2+n])
			b = b[2+n:]
			v, err := packet.Parse(p)
			if err != nil || !v.Fragment() {
				continue
			}
			raw := string(v.Bytes())
			if k, ok := read(v.Header(), v.Bytes()); ok {
				tr := table.trains[key{v.Src(), v.Dst(), v.Proto(), k.id, 1}]
				if tr != nil && tr.has(&k) {
					note(table.Add(now, v, 1))
					continue
				}
			}
			seen[raw]++
			in++
			note(table.Add(now, v, 1))
			if table.bytes > cfg.Bytes || len(table.trains) > cfg.Trains || len(table.order) != len(table.trains) {
				t.Fatalf("%d bytes, %d datagrams", table.bytes, len(table.trains))
			}
			now = now.Add(time.Millisecond)
		}
		note(table.Due(now.Add(DefaultWait)))
		if in != back || table.bytes != 0 || len(table.trains) != 0 {
			t.Fatalf("%d pieces in, %d back, %d bytes held", in, back, table.bytes)
		}
	})
}
