package promise

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

func newFile(t testing.TB, slots int) (*File, []byte) {
	t.Helper()
	b := make([]byte, Size(slots))
	f, err := Format(b, Header{Boot: [16]byte{1, 2, 3}, Generation: 7, Slots: slots})
	if err != nil {
		t.Fatal(err)
	}
	return f, b
}

func keyOf(n int) packet.FlowKey {
	a, b := "10.1.0.2", "10.2.0.2"
	if n%2 == 1 {
		a, b = "fd00:1::2", "fd00:2::2"
	}
	return packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(netip.MustParseAddr(a), uint16(1000+n)), netip.AddrPortFrom(netip.MustParseAddr(b), 80))
}

// drawn is any promise that the form can hold.
func drawn(t *rapid.T, key packet.FlowKey, mode tcpcheat.Mode) tcpcheat.Promise {
	word := func(name string) uint32 { return rapid.Uint32().Draw(t, name) }
	seq := func(name string) packet.Seq { return packet.Seq(word(name)) }
	end := func(name string) tcpcheat.PromiseEnd {
		x := word(name)
		return tcpcheat.PromiseEnd{TSVal: word(name), TSEcr: word(name), FlowLabel: word(name) & 0xfffff, Win: uint16(x), TTL: uint8(x >> 8), TOS: uint8(x >> 16), DF: x>>31 == 1}
	}
	return tcpcheat.Promise{
		Key: key, Mode: mode, Passed: seq("passed"), Had: seq("had"), SrcMax: seq("max"), SrcAck: seq("ack"), RcvMax: seq("max"),
		Src: end("source"), Rcv: end("receiver"), RTT: time.Duration(word("rtt")%4096) * time.Millisecond,
		Timestamps: word("ts")%2 == 0, InHand: word("hand")%2 == 0, At: word("at"),
	}
}

// What is put into a slot is what is read, and what was freed is not.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := make([]byte, Size(8))
		f, err := Format(b, Header{Generation: 3, Slots: 8})
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]Kept{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, 7).Draw(t, "slot")
			x := Fixed{keyOf(i), tcpcheat.Mode(1 + i%2), uint32(i), uint32(i + 1)}
			_, there := want[i]
			if there && rapid.Bool().Draw(t, "free") {
				f.Free(i)
				delete(want, i)
				continue
			}
			if !there {
				f.Take(i, &x)
			}
			p := drawn(t, x.Key, x.Mode)
			f.Put(i, &p)
			want[i] = Kept{x, p, 3}
		}
		again, err := Open(b)
		if err != nil {
			t.Fatal(err)
		}
		got, damaged := again.Read()
		if damaged != 0 || len(got) != len(want) {
			t.Fatalf("%d read, %d damaged, want %d", len(got), damaged, len(want))
		}
		for _, k := range got {
			if diff := cmp.Diff(want[int(k.In)], k); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// A process dies between any two stores: what is read is the state before or after
// it, whole.
func TestTornWrites(t *testing.T) {
	f, b := newFile(t, 1)
	x := Fixed{Key: keyOf(0), Mode: tcpcheat.Reliable}
	f.Take(0, &x)
	var before tcpcheat.Promise
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 50 {
		was := append([]byte(nil), b...)
		after := tcpcheat.Promise{Key: x.Key, Mode: x.Mode, Passed: packet.Seq(1000 * (n + 1)), Had: packet.Seq(990 * n), SrcMax: packet.Seq(n)}
		f.Put(0, &after)
		var changed []int
		for i := range b {
			if b[i] != was[i] {
				changed = append(changed, i)
			}
		}
		for range 200 { // any part of it, in any order
			torn := append([]byte(nil), was...)
			for _, i := range changed[:rng.IntN(len(changed)+1)] {
				torn[i] = b[i]
			}
			rng.Shuffle(len(changed), func(i, j int) { changed[i], changed[j] = changed[j], changed[i] })
			g, err := Open(torn)
			if err != nil {
				t.Fatal(err)
			}
			got, damaged := g.Read()
			switch {
			case n == 0 && damaged == 1 && len(got) == 0:
				// Nothing was promised yet.
			case damaged != 0 || len(got) != 1 || got[0].Promise != before && got[0].Promise != after:
				t.Fatalf("after %d: %+v, %d damaged", n, got, damaged)
			}
		}
		before = after
	}
}

// A slot that is given to another connection never shows the one's numbers under
// the other's name.
func TestTornTake(t *testing.T) {
	f, b := newFile(t, 1)
	one, two := Fixed{Key: keyOf(0), Mode: tcpcheat.Reliable}, Fixed{Key: keyOf(1), Mode: tcpcheat.Realtime}
	f.Take(0, &one)
	p := tcpcheat.Promise{Key: one.Key, Mode: one.Mode, Passed: 5}
	f.Put(0, &p)
	was := append([]byte(nil), b...)
	f.Free(0)
	f.Take(0, &two)
	for cut := range 2 * len(b) {
		torn := append(append([]byte(nil), b[:cut/2]...), was[cut/2:]...)
		if cut%2 == 1 { // written from its end
			torn = append(append([]byte(nil), was[:cut/2]...), b[cut/2:]...)
		}
		g, err := Open(torn)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := g.Read()
		if len(got) > 0 && (got[0].Fixed != one || got[0].Promise != p) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, good := newFile(t, 3)
	for name, tc := range map[string]struct {
		edit func(b []byte) []byte
		want error
	}{
		"nothing":         {func([]byte) []byte { return nil }, ErrNoFile},
		"another's":       {func(b []byte) []byte { b[0] = 'x'; return b }, ErrNoFile},
		"another version": {func(b []byte) []byte { b[8] = 9; return b }, ErrVersion},
		"damaged":         {func(b []byte) []byte { b[40] ^= 1; return b }, ErrDamaged},
		"cut":             {func(b []byte) []byte { return b[:len(b)-1] }, ErrSize},
		"longer":          {func(b []byte) []byte { return append(b, 0) }, ErrSize},
		"header alone":    {func(b []byte) []byte { return b[:headerSize] }, ErrSize},
	} {
		if _, err := Open(tc.edit(append([]byte(nil), good...))); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := Format(make([]byte, 10), Header{Slots: 1}); !errors.Is(err, ErrSize) {
		t.Errorf("too short to format: %v", err)
	}
}

func TestPutAllocatesNothing(t *testing.T) {
	f, _ := newFile(t, 2)
	f.Take(1, &Fixed{Key: keyOf(0), Mode: tcpcheat.Reliable})
	p := tcpcheat.Promise{Key: keyOf(0), Passed: 1}
	if n := testing.AllocsPerRun(1000, func() { f.Put(1, &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPut(b *testing.B) {
	f, _ := newFile(b, 1)
	f.Take(0, &Fixed{Key: keyOf(0), Mode: tcpcheat.Reliable})
	p := tcpcheat.Promise{Key: keyOf(0), Passed: 1}
	for b.Loop() {
		p.Passed++
		f.Put(0, &p)
	}
}

// Whatever is in a file, it is read or refused; and what is read can be put.
func FuzzOpen(f *testing.F) {
	g, b := newFile(f, 2)
	f.Add(append([]byte(nil), b...))
	for i := range 2 {
		g.Take(i, &Fixed{Key: keyOf(i), Mode: tcpcheat.Reliable, In: 3, Out: 4})
		p := tcpcheat.Promise{Passed: 4000, Had: 1000, SrcMax: 9000, RTT: time.Second, Timestamps: true}
		g.Put(i, &p)
	}
	f.Add(append([]byte(nil), b...))
	f.Add(b[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Open(b)
		if err != nil {
			return
		}
		kept, damaged := g.Read()
		if len(kept)+damaged > g.Slots {
			t.Fatalf("%d and %d of %d slots", len(kept), damaged, g.Slots)
		}
		for i := range kept {
			k := &kept[i]
			h, err := Format(make([]byte, Size(1)), Header{Generation: k.Generation, Slots: 1})
			if err != nil {
				t.Fatal(err)
			}
			h.Take(0, &k.Fixed)
			h.Put(0, &k.Promise)
			again, _ := h.Read()
			if len(again) != 1 || again[0] != *k {
				t.Fatalf("%+v is read as %+v", k, again)
			}
			e := tcpcheat.New(tcpcheat.Limits{})
			if err := e.Recall(time.Unix(1000, 0), &k.Promise); err == nil {
				e.Advance(time.Unix(2000, 0))
			}
		}
	})
}
