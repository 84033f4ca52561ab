package softstate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// transit returns a node with 10,000 reservations in place, and the messages
// that refresh them.
func transit(tb testing.TB, sessions int) (*Node, []Received, time.Time) {
	n := New(Config{Quick: -1}, newEnv(), rand.New(rand.NewPCG(1, 1)))
	var rx []Received
	for i := range sessions {
		p, v := pathMsg(), resvMsg()
		s := wire.Session{Dst: dstHost, Protocol: 17, DstPort: uint16(1 + i)}
		f := wire.Filter{Src: srcHost, SrcPort: uint16(1 + i)}
		p.Session, p.SenderTemplate, p.SendTTL = s, &f, 60
		v.Session, v.Flows[0].Filters = s, []wire.Filter{f}
		rx = append(rx,
			Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: p},
			Received{Iface: right, Src: nextHop, Dst: rightAdr, TTL: 255, Msg: v})
	}
	for _, r := range rx {
		for _, e := range n.Handle(epoch, r) {
			if e, ok := e.(Reserve); ok {
				n.ReserveResult(epoch, e.ID, nil)
			}
		}
	}
	if c := n.Counters(); c.Reservations != sessions {
		tb.Fatalf("%+v", c)
	}
	return n, rx, epoch
}

// One operation is one refresh period of 10,000 sessions at a transit hop: 20,000
// messages taken in, 20,000 timers run, 20,000 messages made.
func BenchmarkRefresh10k(b *testing.B) {
	const sessions = 10_000
	n, rx, now := transit(b, sessions)
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		for i, r := range rx {
			n.Handle(now, r)
			if i%100 == 0 {
				now = now.Add(DefaultRefresh / (2 * sessions / 100))
				sent += len(n.Advance(now))
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2*sessions), "ns/message-in")
	if c := n.Counters(); c.Reservations != sessions || sent < b.N*sessions/2 { // jitter makes it less than two in a period
		b.Fatalf("%d sent, %+v", sent, c)
	}
}

// Ten thousand sessions are kept alive with little work: a refresh that tells
// nothing new allocates no more than the list that it does not need.
func TestRefreshIsCheap(t *testing.T) {
	n, rx, now := transit(t, 100)
	i := 0
	if a := testing.AllocsPerRun(1000, func() {
		n.Handle(now, rx[i%len(rx)])
		i++
	}); a > 4 {
		t.Errorf("%v allocations for a refresh", a)
	}
}
