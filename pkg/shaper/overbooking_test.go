package shaper

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Overbooked flows are more than the link has room for. One that sends what it may
// while the others do not gets all of it, before best effort (RFC 2211 section 9).
// A guaranteed flow beside them needs its whole rate.
func TestOverbookedFlowsBorrow(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{})
	p := plan20
	p.Interfaces = []plan.Interface{{Name: "qp0", Capacity: 2_500_000, Overbooking: 2}}
	n.check(s.Set(t.Context(), p))
	tr := voice
	tr.Rate, tr.Bucket, tr.MaxPacket, tr.RealTime = 1_200_000, 20_000, 1500, false
	id, err := s.Install(t.Context(), tr)
	n.check(err)
	for port := range uint16(2) {
		other := tr
		other.Key.DstPort += port + 1
		_, err := s.Install(t.Context(), other)
		n.check(err) // 3.6 of 2.5 MB/s in all
	}
	guaranteed := tr
	guaranteed.Key.DstPort += 9
	guaranteed.Share = guaranteed.Rate
	if _, err := s.Install(t.Context(), guaranteed); !errors.Is(err, ErrCapacity) {
		t.Errorf("1.2 MB/s for certain beside 1.8: %v", err)
	}
	if err := s.Set(t.Context(), plan20); !errors.Is(err, ErrCapacity) {
		t.Errorf("without overbooking there is no room for them: %v", err)
	}

	n.listenUDP("10.9.0.2:5004")
	n.listenUDP("10.9.0.2:9")
	out, flood := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004"), n.dialUDP("10.9.0.1:4999", "10.9.0.2:9")
	if c := class(t, s, id); c.Rate > 620_000 {
		t.Errorf("the class has %d bytes/s for certain: half of 1.2 MB/s and headers are expected", c.Rate)
	}
	best := 0.0 // on a busy machine the sender itself may be too slow
	for try := 0; try < 10 && best < 800_000; try++ {
		start, before := time.Now(), class(t, s, id).Bytes
		stop, flooded := make(chan struct{}), make(chan error, 1)
		go func() { flooded <- send(flood, 3_750_000, stop) }()
		time.AfterFunc(time.Second, func() { close(stop) })
		n.check(errors.Join(send(out, 1_100_000, stop), <-flooded))
		best = max(best, float64(class(t, s, id).Bytes-before)/time.Since(start).Seconds())
	}
	c, be := class(t, s, id), class(t, s, plan.BestEffort)
	t.Logf("%.0f bytes/s; %+v; best effort %+v", best, c, be)
	if c.Drops != 0 || best < 800_000 {
		t.Errorf("the flow got %.0f bytes/s of 1.1 MB/s, and %d packets were dropped", best, c.Drops)
	}
	if be.Bytes < 900_000 {
		t.Errorf("best effort was not flooded: %d bytes", be.Bytes)
	}
}

// send writes datagrams of 1500 bytes at a rate until it is told to stop. One that
// was late makes up for no more than 15 kB.
func send(c *net.UDPConn, rate float64, stop chan struct{}) error {
	b := make([]byte, 1472)
	start, sent := time.Now(), 0.0
	for !closed(stop) {
		due := rate * time.Since(start).Seconds()
		for sent = max(sent, due-15_000); sent < due && !closed(stop); sent += 1500 {
			if _, err := c.Write(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
