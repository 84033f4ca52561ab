package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
)

const (
	portShared   = 5200
	firstSource  = 6001
	sharedRate   = 50_000 // bytes/s of IP packets
	sharedBurst  = 10_000
	sharedSize   = 500 // of an IP packet
	sharedPolicy = `
  - name: shared
    match: {protocol: udp, to_port: 5200, from_port: 6001-%d}
    reserve: {role: both, service: controlled-load, style: %s, tspec: {rate: 400kbit, burst: 10kB, max_packet: 1500B}}
    mark: af31
    excess: drop
`
	sharedTCP = `
  - name: reliable
    match: {protocol: tcp, to_port: 5002}
    reserve: {role: both, service: controlled-load, style: %s, tspec: {rate: 4mbit, burst: 64kB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
`
)

func shared(style string, sources int) string {
	return fmt.Sprintf(sharedPolicy, firstSource+sources-1, style)
}

// source sends datagrams from a port of its own until the test ends.
type source struct {
	port uint16
	rate atomic.Int64 // bytes/s of IP packets
	sent atomic.Int64 // packets
}

func (l *lab) startSource(t *testing.T, i int, rate int64) *source {
	t.Helper()
	return l.startSourceTo(t, firstSource+uint16(i), portShared, rate)
}

// startSourceTo is startSource from and to any ports.
func (l *lab) startSourceTo(t *testing.T, local, remote uint16, rate int64) *source {
	t.Helper()
	var c *net.UDPConn
	s := &source{port: local}
	s.rate.Store(rate)
	err := l.a.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(at(addrA, s.port)), net.UDPAddrFromAddrPort(at(addrB, remote)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		last, due := time.Now(), 0.0
		for packet := make([]byte, sharedSize-28); ; {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				// What a busy machine has missed is not sent as a burst later.
				due += min(now.Sub(last).Seconds(), 0.02) * float64(s.rate.Load())
				last = now
			}
			for ; due >= sharedSize; due -= sharedSize {
				if _, err := c.Write(packet); err == nil {
					s.sent.Add(1)
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done; _ = c.Close() })
	return s
}

// receiver counts at B what comes, by source port.
type receiver struct{ got [3]atomic.Int64 }

func (l *lab) startReceiver(t *testing.T) *receiver {
	t.Helper()
	c := listenUDP(t, l.b, at(addrB, portShared))
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r := &receiver{}
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // the test is over
			}
			if i := int(from.Port()) - firstSource; i >= 0 && i < len(r.got) {
				r.got[i].Add(1)
			}
		}
	}()
	return r
}

func (r *receiver) sum(n int) (packets int64) {
	for i := range n {
		packets += r.got[i].Load()
	}
	return packets
}

// sharedSessions waits until so many senders of the session are reserved in a
// style, and returns their rows by source port.
func (b *box) sharedSessions(t *testing.T, port uint16, style string, n int) map[uint16]console.SessionRow {
	t.Helper()
	var found map[uint16]console.SessionRow
	eventually(t, 10*time.Second, fmt.Sprintf("%s: %d senders reserved in style %s", b.name, n, style), func() error {
		rows, err := b.Sessions(t.Context())
		found = map[uint16]console.SessionRow{}
		for _, row := range rows {
			if row.Dport == port && row.State == console.SessionReserved && row.Style == style {
				found[row.Sport] = row
			}
		}
		if err == nil && len(found) != n {
			err = fmt.Errorf("sessions: %+v", rows)
		}
		return err
	})
	return found
}

// oneClass waits until so many senders are reserved and have the same class, and returns
// it. A sender is reserved a moment before the kernel has it.
func (b *box) oneClass(t *testing.T, port uint16, style string, n int) (class string) {
	t.Helper()
	eventually(t, 8*time.Second, fmt.Sprintf("%s: %d senders have one class", b.name, n), func() error {
		classes := map[string]bool{}
		for _, row := range b.sharedSessions(t, port, style, n) {
			class, classes[row.Class] = row.Class, true
		}
		if len(classes) != 1 || class == "" {
			return fmt.Errorf("classes %v", classes)
		}
		return nil
	})
	return class
}

func (b *box) link(t *testing.T) console.LinkRow {
	t.Helper()
	links, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return linkRow(links, rightWAN)
}

// counted sums what the kernel has counted of the flows from these ports.
func (b *box) counted(t *testing.T, ports ...uint16) (sum console.FlowRow) {
	t.Helper()
	rows, err := b.Flows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, p := range ports {
			if row.Sport == p && row.Dport == portShared {
				sum.Packets += row.Packets
				sum.ConformPackets += row.ConformPackets
				sum.ExceedPackets += row.ExceedPackets
				sum.DroppedPackets += row.DroppedPackets
			}
		}
	}
	return sum
}

// RFC 2205 section 1.3: three senders of a shared reservation have one class and
// one policer, so that together they get its rate, and what they ask for is
// admitted once. One leaves, and the others go on.
func TestSharedStyles(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"wf", "se"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			l.startEdges(t, shared(style, 3), "")
			b, sink := l.boxes[0], l.startReceiver(t)
			var sources []*source
			for i := range 3 {
				sources = append(sources, l.startSource(t, i, 30_000)) // 1.8 times the rate together
			}
			class := b.oneClass(t, portShared, style, 3)
			l.boxes[1].sharedSessions(t, portShared, style, 3)
			if k := b.link(t); k.ReservedBPS != sharedRate*8 || k.Reservations != 1 {
				t.Errorf("link: %d bit/s in %d reservations, want %d in one", k.ReservedBPS, k.Reservations, sharedRate*8)
			}

			begin, before := time.Now(), sink.sum(3)
			time.Sleep(4 * time.Second)
			got, took := float64(sink.sum(3)-before)*sharedSize, time.Since(begin).Seconds()
			// What was on its way at the beginning, and a bucket that was full then.
			if most := sharedRate*took + 2*sharedBurst; got > most || got < 0.8*sharedRate*took {
				t.Errorf("%g bytes arrived in %g s, want about %g and at most %g", got, took, sharedRate*took, most)
			}
			eventually(t, 8*time.Second, "the kernel's counters", func() error {
				c := b.counted(t, firstSource, firstSource+1, firstSource+2)
				if c.ExceedPackets == 0 || c.DroppedPackets == 0 || c.ConformPackets == 0 {
					return fmt.Errorf("counted %+v", c)
				}
				return nil
			})
			for _, c := range b.link(t).Classes {
				if c.Class == class && c.Packets == 0 {
					t.Errorf("class %+v", c)
				}
			}

			// The third leaves: its port is no longer in the policy.
			sources[0].rate.Store(20_000)
			sources[1].rate.Store(20_000) // 0.8 times the rate together
			b.write(t, l.reliableEdge(0, shared(style, 2)))
			b.signal(t, unix.SIGHUP)
			rows := b.sharedSessions(t, portShared, style, 2)
			l.boxes[1].sharedSessions(t, portShared, style, 2)
			if rows[firstSource].Class != class || rows[firstSource+1].Class != class {
				t.Errorf("after one has left: %+v, want class %s", rows, class)
			}
			eventually(t, 20*time.Second, "two senders within the rate lose nothing", func() error {
				was := b.counted(t, firstSource, firstSource+1)
				time.Sleep(2500 * time.Millisecond) // the counters are read every 2 s
				is := b.counted(t, firstSource, firstSource+1)
				if is.ConformPackets < was.ConformPackets+40 || is.ExceedPackets != was.ExceedPackets {
					return fmt.Errorf("first %+v, then %+v", was, is)
				}
				return nil
			})
		})
	}
}

func (l *lab) reliableEdge(i int, policies string) string {
	c := l.edge(i, policies, "")
	c.reliable = true
	return c.String()
}

// Fixed filter: each sender has its own class and its own rate. One that sends
// too much loses for itself.
func TestFixedFilterSenders(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startEdges(t, shared("ff", 2), "")
	b, sink := l.boxes[0], l.startReceiver(t)
	l.startSource(t, 0, 90_000)
	good := l.startSource(t, 1, 30_000)
	rows := b.sharedSessions(t, portShared, "ff", 2)
	l.boxes[1].sharedSessions(t, portShared, "ff", 2)
	if one, two := rows[firstSource].Class, rows[firstSource+1].Class; one == two || one == "" || two == "" {
		t.Errorf("classes %q and %q", one, two)
	}
	if k := b.link(t); k.ReservedBPS != 2*sharedRate*8 || k.Reservations != 2 {
		t.Errorf("link: %d bit/s in %d reservations, want two of %d", k.ReservedBPS, k.Reservations, sharedRate*8)
	}
	begin, before := time.Now(), sink.got[0].Load()
	time.Sleep(3 * time.Second)
	got, took := float64(sink.got[0].Load()-before)*sharedSize, time.Since(begin).Seconds()
	if got > sharedRate*took+2*sharedBurst || got < 0.8*sharedRate*took {
		t.Errorf("the one that sends too much got %g bytes in %g s", got, took)
	}
	eventually(t, 8*time.Second, "counted", func() error {
		c, bad := b.counted(t, good.port), b.counted(t, firstSource)
		if c.ConformPackets < 60 || c.ExceedPackets != 0 || bad.DroppedPackets == 0 {
			return fmt.Errorf("the good one %+v, the other %+v", c, bad)
		}
		return nil
	})
}

// `style: auto`: the second sender has the style change from wf to ff, which is a
// ResvTear and a RESV. With a shared explicit style the reservation changes by
// each sender that comes or leaves. Not one packet of the first goes without its
// mark meanwhile, or is lost, behind the first box as little as behind the second.
func TestChangesLeaveNoGap(t *testing.T) {
	t.Parallel()
	for style, become := range map[string][2]string{"auto": {"wf", "ff"}, "se": {"se", "se"}} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			changesLeaveNoGap(t, style, become)
		})
	}
}

func changesLeaveNoGap(t *testing.T, style string, become [2]string) {
	l := newLab(t, 2, nil)
	l.startEdges(t, sharedFast(style, 2), "")
	b, _ := l.boxes[0], l.startReceiver(t)
	first := func(f []byte) bool {
		return toPort(portShared)(f) && isIPv4(f) && binary.BigEndian.Uint16(f[ethernet+20:]) == firstSource
	}
	between, behind := capture(t, b.ns, rightWAN, first), capture(t, l.b, hostIface, first)
	sent := l.startNumbered(t, firstSource)
	for _, x := range l.boxes {
		x.sharedSessions(t, portShared, become[0], 1)
	}
	marked := func(f []byte) bool { return dscpOf(f) == 26 }
	waitFrame(t, between, "the first sender is marked between the boxes", marked)
	waitFrame(t, behind, "the first sender is marked at B", marked)
	setup := b.waitFlow(t, firstSource, "reserved", func(r console.FlowRow) bool { return r.SetupUS > 0 }).SetupUS
	begin := sent.Load() + 200 // what left before is seen by then

	l.startSource(t, 1, 10_000)
	for _, senders := range []int{2, 1, 2, 1} {
		b.write(t, l.reliableEdge(0, sharedFast(style, senders)))
		b.signal(t, unix.SIGHUP)
		for _, x := range l.boxes {
			x.sharedSessions(t, portShared, become[1], senders)
		}
		time.Sleep(1200 * time.Millisecond) // longer than what was torn down may live on
	}
	end := sent.Load()
	for name, c := range map[string]*traffic.Capture{"between the boxes": between, "at B": behind} {
		waitFrame(t, c, name, func(f []byte) bool { return numberOf(f) > end })
		seen, bare := map[int64]bool{}, []int64{}
		for _, f := range captured(t, c) {
			if n := numberOf(f.Data); n >= begin && n < end {
				seen[n] = true
				if !marked(f.Data) {
					bare = append(bare, n)
				}
			}
		}
		if end-begin < 1000 || int64(len(seen)) != end-begin || len(bare) != 0 {
			t.Errorf("%s: %d packets of %d, unmarked %v", name, len(seen), end-begin, bare)
		}
	}
	// A treatment that had been given back would have been set up anew.
	if row, err := b.flow(t, firstSource); err != nil || row.SetupUS != setup {
		t.Errorf("set up in %d us, %v, before in %d", row.SetupUS, err, setup)
	}
	if c := b.counted(t, firstSource); c.ExceedPackets != 0 || c.Packets == 0 {
		t.Errorf("the first sender: %+v", c)
	}
}

// sharedFast is shared with room for a packet every half millisecond.
func sharedFast(style string, sources int) string {
	return strings.Replace(shared(style, sources), "rate: 400kbit, burst: 10kB", "rate: 4mbit, burst: 64kB", 1)
}

// startNumbered sends small packets as fast as the gaps that it is to find are
// short, each with its number, until the test ends. It counts those sent.
func (l *lab) startNumbered(t *testing.T, port uint16) *atomic.Int64 {
	t.Helper()
	var c *net.UDPConn
	err := l.a.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(at(addrA, port)), net.UDPAddrFromAddrPort(at(addrB, portShared)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sent, stop, done := &atomic.Int64{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for packet := make([]byte, 72); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			binary.BigEndian.PutUint64(packet, uint64(sent.Load()))
			if _, err := c.Write(packet); err == nil {
				sent.Add(1)
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done; _ = c.Close() })
	return sent
}

// numberOf is the number of a packet of startNumbered.
func numberOf(f []byte) int64 { return int64(binary.BigEndian.Uint64(f[ethernet+28:])) }

// A second connection to the same port is a second sender of the session. With
// auto it gets a reservation of its own, and the first one's cheating goes on
// over the change of style; with wf they share, and nobody is cheated. No byte
// is lost either way.
func TestSecondConnectionOfASession(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"auto", "wf"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			policies := fmt.Sprintf(sharedTCP, style)
			l.startEdges(t, policies, "")
			b := l.boxes[0]
			listener := listen(t, l.b, at(addrB, portReliable))
			open := func() (from, to *net.TCPConn, port uint16) {
				t.Helper()
				from, err := tryDial(t.Context(), l.a, at(addrB, portReliable))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = from.Close() })
				to, err = listener.AcceptTCP()
				if err = errors.Join(err, from.SetDeadline(time.Now().Add(40*time.Second)), to.SetDeadline(time.Now().Add(40*time.Second))); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = to.Close() })
				return from, to, uint16(from.LocalAddr().(*net.TCPAddr).Port)
			}
			from, to, one := open()
			enough := sendOn(from, to, 1)
			b.waitFlow(t, one, "cheated", isState(console.FlowCheated))
			b.sharedSessions(t, portReliable, "wf", 1)

			from2, to2, two := open()
			data2 := send(from2, to2, random(2, 1_000_000))
			if style == "auto" {
				for _, x := range l.boxes {
					x.sharedSessions(t, portReliable, "ff", 2)
				}
				b.waitFlow(t, two, "cheated", isState(console.FlowCheated))
				time.Sleep(1200 * time.Millisecond) // longer than what was torn down may live on
				row, err := b.flow(t, one)
				if err != nil || row.State != console.FlowCheated || strings.Contains(row.Reason, "given back") || strings.Contains(row.Reason, "drain") {
					t.Errorf("the first connection: %+v, %v", row, err)
				}
				if st, err := b.Stats(t.Context()); err != nil || st.Cheat.Started != 2 || st.Cheat.Ended != 0 {
					t.Errorf("cheating began %d times and ended %d times, %v; want 2 and 0", st.Cheat.Started, st.Cheat.Ended, err)
				}
			} else {
				b.oneClass(t, portReliable, "wf", 2)
				for _, port := range []uint16{one, two} {
					b.waitFlow(t, port, "shares, and says so", func(r console.FlowRow) bool {
						return r.State == console.FlowManaged && strings.Contains(r.Reason, "2 senders share the reservation")
					})
				}
			}
			enough().wait(t)
			data2.wait(t)
		})
	}
}
