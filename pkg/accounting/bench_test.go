package accounting

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// many is a book with so many reservations.
func many(n int) *Book {
	b := New(Limits{})
	for i := range n {
		b.Open(start, uint64(i+1), fmt.Sprint("session ", i), info())
		b.Join(start, uint64(i+1), benchRow(i), testUser(i%1000), Usage{})
	}
	return b
}

func benchRow(n int) Row {
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 4000)
	return Row{Interface: "wan0", Key: packet.MakeKey(packet.ProtoUDP, src, netip.MustParseAddrPort("10.200.0.1:5004"))}
}

// BenchmarkReservation is what one costs from its beginning to its end, beside
// 10,000 others and with as many records kept.
func BenchmarkReservation(b *testing.B) {
	book := many(10_000)
	r := benchRow(1 << 20)
	for b.Loop() {
		book.Open(start, 1<<30, "one more", info())
		book.Join(start, 1<<30, r, testUser(1), Usage{})
		book.Leave(start, r, conform(1, 100))
		book.Close(start, 1<<30, "left")
	}
}

// BenchmarkLook10k is a look at 10,000 rows that have all moved.
func BenchmarkLook10k(b *testing.B) {
	book := many(10_000)
	at, n := start, uint64(0)
	for b.Loop() {
		at, n = at.Add(time.Second), n+1
		l := book.Begin()
		for i := range l.Rows {
			l.Counted[i] = conform(n, 100*n)
		}
		book.Count(at, l)
	}
}
