package integration

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// combination is one way in which two Linux hosts may speak TCP, and the path
// between them.
type combination struct {
	mode                string // of the policy
	cc                  string
	kind                string // of traffic: one of trafficKinds
	sack, ts, scale     bool
	ecn, offload, ipv6  bool
	rtt                 time.Duration
	lossThere, lossBack float64
	reorder, duplicate  float64
	bursts              bool // of loss, on each way that loses at all
}

// trafficKinds are a transfer each way, connections of a few bytes at once,
// HTTP/1.1 on a connection that is kept, the same in TLS, an interactive session.
var trafficKinds = []string{"bulk", "short", "tls", "http", "bulk", "shell"}

// burstLoss loses some four frames in a row, after each few hundred.
var burstLoss = emulator.GilbertElliott{ToBad: 0.002, ToGood: 0.25, Loss: 1}

func (c combination) String() string {
	return fmt.Sprintf("%s %s %s sack=%v ts=%v scale=%v ecn=%v offload=%v ipv6=%v rtt=%v loss=%g/%g bursts=%v reorder=%g dup=%g",
		c.mode, c.cc, c.kind, c.sack, c.ts, c.scale, c.ecn, c.offload, c.ipv6, c.rtt, c.lossThere, c.lossBack, c.bursts, c.reorder, c.duplicate)
}

// combinations draws n of them. The kinds and the congestion controls take
// turns, the rest is random.
func combinations(seed uint64, n int) []combination {
	g := rand.New(rand.NewPCG(seed, 7))
	chance := func(p float64) bool { return g.Float64() < p }
	var out []combination
	for i := range n {
		c := combination{
			mode: "reliable", cc: []string{"cubic", "reno", "bbr"}[(i+i/len(trafficKinds))%3], kind: trafficKinds[i%len(trafficKinds)],
			sack: chance(0.75), ts: chance(0.75), scale: chance(0.85) && i%8 != 4, ecn: chance(0.5), offload: chance(0.6), ipv6: chance(0.4),
			rtt: []time.Duration{1, 10, 50, 200, 600}[g.IntN(5)] * time.Millisecond, bursts: chance(0.3),
		}
		switch x := g.Float64(); {
		case x < 0.3:
			c.mode = "realtime" // a hole stays a hole: the way there loses nothing
		case x < 0.5:
			c.mode = "pace"
			fallthrough
		default:
			c.lossThere = []float64{0, 0.001, 0.01, 0.05}[g.IntN(4)]
			if chance(0.4) {
				c.reorder, c.duplicate = 0.02, 0.01
			}
		}
		c.lossBack = []float64{0, 0.01, 0.05}[g.IntN(3)]
		out = append(out, c)
	}
	return out
}

// Real Linux stacks around the boxes, in a sample of combinations, and in all
// that `make soak` has time for: every byte arrives, both ways, whatever the
// hosts have negotiated and the path does to their packets. QOSPROXY_SEED
// repeats a run.
func TestStacksMatrix(t *testing.T) {
	roottest.Need(t)
	seed, n := uint64(1), soak(8, 100)
	if formOf(t) != routed { // once more
		n = 8
	}
	if n > 8 {
		seed = uint64(time.Now().Unix())
	}
	if s, err := strconv.ParseUint(os.Getenv("QOSPROXY_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d", seed)
	for i, c := range combinations(seed, n) {
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			if n == 8 { // all that is looked at is that every byte arrives
				t.Parallel()
			}
			t.Logf("seed %d: %s", seed, c)
			c.run(t, seed+uint64(i))
		})
	}
}

func (c combination) run(t *testing.T, seed uint64) {
	there := emulator.Params{Delay: c.rtt / 2, Loss: c.lossThere, Reorder: c.reorder, ReorderDelay: 3 * time.Millisecond, Duplicate: c.duplicate}
	back := there
	back.Loss = c.lossBack
	if c.bursts {
		back.Burst = &burstLoss
		if c.mode != "realtime" {
			there.Burst = &burstLoss
		}
	}
	l := newLab(t, 2, &wire.Config{AB: there, BA: back, Seed: seed})
	for _, ns := range []interface{ Sysctl(key, value string) error }{l.a, l.b} {
		flag := func(on bool) string {
			if on {
				return "1"
			}
			return "0"
		}
		err := errors.Join(
			ns.Sysctl("net/ipv4/tcp_sack", flag(c.sack)), ns.Sysctl("net/ipv4/tcp_timestamps", flag(c.ts)),
			ns.Sysctl("net/ipv4/tcp_window_scaling", flag(c.scale)), ns.Sysctl("net/ipv4/tcp_ecn", flag(c.ecn)),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	if !c.offload {
		for _, at := range []struct {
			do   func(func() error) error
			name string
		}{{l.a.Do, hostIface}, {l.b.Do, hostIface}, {l.boxes[0].ns.Do, lanIface}, {l.boxes[1].ns.Do, lanIface}} {
			if err := at.do(func() error { return noOffload(at.name) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.startEdges(t, usualPolicies+pacePolicy(portPaced, "8mbit", "pace"), "")
	port, addr := uint16(portReliable), addrB
	switch c.mode {
	case "realtime":
		port = portRealtime
	case "pace":
		port = portPaced
	}
	if c.ipv6 {
		addr = addrB6
	}
	begin := time.Now()
	switch c.kind {
	case "bulk":
		source, sink := connect(t, l.a, l.b, at(addr, port))
		c.prepare(t, source, sink)
		n := soak(1_500_000, 6_000_000)
		if c.mode == "pace" {
			n = c.bearable(n, c.lossThere)
		}
		there := send(source, sink, random(seed, n))
		back := send(sink, source, random(seed+1, 20_000))
		there.wait(t)
		back.wait(t)
	case "short":
		c.short(t, l, at(addr, port).String(), soak(40, 500), seed)
	case "http", "tls", "shell":
		talk := conversation{client: l.a, server: l.b, addr: at(addr, port), cc: c.cc, rounds: soak(6, 50), seed: seed}
		talk.ask, talk.tell = c.bearable(soak(300_000, 2_000_000), c.lossThere), c.bearable(200_000, c.lossBack)
		var err error
		if c.kind == "shell" {
			_, err = talk.shell(t.Context())
		} else {
			err = talk.web(t.Context(), c.kind == "tls")
		}
		if err != nil {
			t.Error(err)
		}
	}
	st, err := l.boxes[0].Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.kind == "bulk" && (st.Cheat.Started == 0 || c.mode != "pace" && st.Cheat.FakeAcks == 0) {
		t.Errorf("the connection was never cheated: %+v", st.Cheat)
	}
	t.Logf("%.1f s; %d cheated, %d fake ACKs, %d sent again by the box", time.Since(begin).Seconds(), st.Cheat.Started, st.Cheat.FakeAcks, st.Cheat.Retransmits)
}

// bearable is at most n bytes, and what hosts by themselves carry over a path
// that loses so much within a few seconds: a window of 1.2/sqrt(loss) segments.
func (c combination) bearable(n int, loss float64) int {
	if c.bursts {
		loss += burstLoss.ToBad
	}
	rate := 1448 * 1.2 / (c.rtt.Seconds() * math.Sqrt(max(loss, 1e-6)))
	return min(n, max(int(5*rate), 30_000))
}

// prepare sets the congestion control of connections, and gives them the time
// that a bad path takes.
func (c combination) prepare(t *testing.T, conns ...*net.TCPConn) {
	t.Helper()
	for _, conn := range conns {
		if err := errors.Join(c.choose(conn), conn.SetDeadline(time.Now().Add(2*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
}

func (c combination) choose(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, c.cc)
	})
	return errors.Join(controlErr, err)
}

// short opens n connections at once, of one byte to some ten thousand each;
// each gets its own bytes back.
func (c combination) short(t *testing.T, l *lab, addr string, n int, seed uint64) {
	echoes(t, l, mustAddrPort(t, addr))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			size := 1
			if i%4 != 0 {
				size = 1 + i*i*997%20_000
			}
			if err := c.echoOnce(t, l, addr, random(seed+uint64(i), size)); err != nil {
				t.Errorf("connection %d of %d bytes: %v", i, size, err)
			}
		})
	}
	wg.Wait()
}

// echoes has B send back all that comes to an address.
func echoes(t *testing.T, l *lab, addr netip.AddrPort) {
	ln := listen(t, l.b, addr)
	go func() {
		for {
			conn, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn) // its other end tells what is missing
				_ = conn.Close()
			}()
		}
	}()
}

func (c combination) echoOnce(t *testing.T, l *lab, addr string, data []byte) error {
	var conn *net.TCPConn
	var err error
	for range 4 { // a SYN lost over and over outlasts one attempt
		if conn, err = tryDial(within(t, time.Minute), l.a, mustAddrPort(t, addr)); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // again, if all went well
	if err := errors.Join(c.choose(conn), conn.SetDeadline(time.Now().Add(2*time.Minute))); err != nil {
		return err
	}
	return echoed(conn, data)
}
