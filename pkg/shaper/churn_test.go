package shaper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// tally is what came to the far end: how many packets of each source port, and how
// many of them with another mark than those of reservations have.
type tally struct {
	port   [1 << 16]atomic.Int64
	wrong  atomic.Int64
	closed chan struct{}
}

// count reads until the socket is closed.
func (n *testnet) count(c *net.UDPConn, tos byte) *tally {
	n.t.Helper()
	setsockopt(n.t, c, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
	setsockopt(n.t, c, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	t, p := &tally{closed: make(chan struct{})}, ipv4.NewPacketConn(c)
	go func() {
		defer close(t.closed)
		batch := make([]ipv4.Message, 64)
		for i := range batch {
			batch[i].Buffers, batch[i].OOB = [][]byte{make([]byte, 64)}, make([]byte, 64)
		}
		for {
			got, err := p.ReadBatch(batch, 0)
			if err != nil {
				return // the benchmark is over
			}
			for _, m := range batch[:got] {
				t.port[m.Addr.(*net.UDPAddr).Port].Add(1)
				// struct cmsghdr of one byte: length, level, type, and the TOS.
				if oob := m.OOB[:m.NN]; len(oob) < 17 || binary.NativeEndian.Uint32(oob[12:]) != unix.IP_TOS || oob[16] != tos {
					t.wrong.Add(1)
				}
			}
		}
	}()
	return t
}

// reserved is a flow from a port of this end, and how much it has sent.
type reserved struct {
	plan.Treatment
	c    *net.UDPConn
	sent int64
}

func (n *testnet) reserve(port uint16) *reserved {
	n.t.Helper()
	r := &reserved{Treatment: voice}
	r.Key = packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), port), netip.MustParseAddrPort("10.9.0.2:5004"))
	r.Rate, r.Bucket = 40_000, 4000
	r.c = n.dialUDP(fmt.Sprintf("10.9.0.1:%d", port), "10.9.0.2:5004")
	return r
}

func (r *reserved) send() error {
	_, err := r.c.Write(make([]byte, 172))
	if err == nil {
		r.sent++
	}
	return err
}

// BenchmarkFigureChurn sets up and takes down 1,000 reservations a second, each of
// which lives for a second, beside some that stay and have traffic. Nothing that any
// of them sends while it is in place is lost, or has another mark.
func BenchmarkFigureChurn(b *testing.B) {
	const (
		perSecond   = 1000
		established = 20
		firstPort   = 20_000
		ports       = 3 * perSecond // a port is not used again at once
	)
	for b.Loop() {
		d := 3 * time.Second
		if judged() {
			d = time.Minute
		}
		n := newNet(b)
		s := n.shaper(Options{})
		n.check(s.Set(b.Context(), plan.Plan{Flows: 10_000, Interfaces: []plan.Interface{{Name: "qp0", Capacity: 1e9}}}))
		heard := n.count(n.listenUDP("10.9.0.2:5004"), voice.DSCP<<2)
		stay, come := make([]*reserved, established), make([]*reserved, ports)
		for i := range stay {
			stay[i] = n.reserve(uint16(10_000 + i))
			_, err := s.Install(b.Context(), stay[i].Treatment)
			n.check(err)
		}
		for i := range come {
			come[i] = n.reserve(uint16(firstPort + i))
		}

		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() { // 100 packets a second from each
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				case <-tick.C:
				}
				for _, r := range stay {
					if err := r.send(); err != nil {
						stopped <- err
						return
					}
				}
			}
		}()

		took := make([]time.Duration, 0, int(d.Seconds())*perSecond)
		start, made := time.Now(), 0
		for ; time.Since(start) < d; made++ {
			time.Sleep(time.Until(start.Add(time.Duration(made) * time.Second / perSecond)))
			at := time.Now()
			if made >= perSecond {
				old := come[(made-perSecond)%ports]
				n.check(errors.Join(old.send(), s.Remove(b.Context(), "qp0", old.Key)))
			}
			r := come[made%ports]
			if _, err := s.Install(b.Context(), r.Treatment); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(at))
			n.check(r.send())
		}
		elapsed := time.Since(start)
		close(stop)
		n.check(<-stopped)

		sent, lost := int64(0), int64(0)
		for _, r := range slices.Concat(stay, come) {
			for range 50 { // what is on its way arrives
				if heard.port[r.Key.SrcPort].Load() >= r.sent {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			sent += r.sent
			lost += r.sent - heard.port[r.Key.SrcPort].Load()
		}
		slices.Sort(took)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/change")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/change(p99)")
		b.ReportMetric(float64(sent), "pkts")
		rate := float64(made) / elapsed.Seconds()
		target(b, "set up and taken down in a second", rate, "reservations/s", rate >= 0.99*perSecond, "1,000")
		target(b, "lost of what reservations sent", float64(lost), "lost", lost == 0, "none")
		target(b, "arrived with another mark", float64(heard.wrong.Load()), "mismarked", heard.wrong.Load() == 0, "none")
		if classes := len(s.ports["qp0"].classes); classes > perSecond+established+1 {
			b.Errorf("%d classes for %d reservations at once: they are not pooled", classes, perSecond+established)
		}
		for _, r := range come {
			n.check(r.c.Close())
		}
	}
}
