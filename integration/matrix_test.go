package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
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
	kind                string // bulk, short or requests
	sack, ts, scale     bool
	ecn, offload, ipv6  bool
	rtt                 time.Duration
	lossThere, lossBack float64
	reorder, duplicate  float64
}

func (c combination) String() string {
	return fmt.Sprintf("%s %s %s sack=%v ts=%v scale=%v ecn=%v offload=%v ipv6=%v rtt=%v loss=%g/%g reorder=%g dup=%g",
		c.mode, c.cc, c.kind, c.sack, c.ts, c.scale, c.ecn, c.offload, c.ipv6, c.rtt, c.lossThere, c.lossBack, c.reorder, c.duplicate)
}

// combinations draws n of them. The kinds and the congestion controls take
// turns, the rest is random.
func combinations(seed uint64, n int) []combination {
	g := rand.New(rand.NewPCG(seed, 7))
	chance := func(p float64) bool { return g.Float64() < p }
	var out []combination
	for i := range n {
		c := combination{
			mode: "reliable", cc: []string{"cubic", "reno", "bbr"}[i%3], kind: []string{"bulk", "short", "bulk", "requests"}[i%4],
			sack: chance(0.75), ts: chance(0.75), scale: chance(0.85), ecn: chance(0.5), offload: chance(0.6), ipv6: chance(0.4),
			rtt: []time.Duration{1, 10, 50, 200, 600}[g.IntN(5)] * time.Millisecond,
		}
		if chance(0.3) {
			c.mode = "realtime" // a hole stays a hole: the way there loses nothing
		} else {
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
	seed, n := uint64(1), soak(8, 120)
	if n > 8 {
		seed = uint64(time.Now().Unix())
	}
	if s, err := strconv.ParseUint(os.Getenv("QOSPROXY_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d", seed)
	for i, c := range combinations(seed, n) {
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			t.Logf("seed %d: %s", seed, c)
			c.run(t, seed+uint64(i))
		})
	}
}

func (c combination) run(t *testing.T, seed uint64) {
	there := emulator.Params{Delay: c.rtt / 2, Loss: c.lossThere, Reorder: c.reorder, ReorderDelay: 3 * time.Millisecond, Duplicate: c.duplicate}
	back := there
	back.Loss = c.lossBack
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
	l.startEdges(t, usualPolicies, "")
	port, addr := uint16(portReliable), addrB
	if c.mode == "realtime" {
		port = portRealtime
	}
	if c.ipv6 {
		addr = addrB6
	}
	begin := time.Now()
	switch c.kind {
	case "bulk":
		source, sink := connect(t, l.a, l.b, at(addr, port))
		c.prepare(t, source, sink)
		there := send(source, sink, random(seed, soak(1_500_000, 6_000_000)))
		back := send(sink, source, random(seed+1, 20_000))
		there.wait(t)
		back.wait(t)
	case "short":
		c.short(t, l, at(addr, port).String(), soak(40, 500), seed)
	case "requests":
		source, sink := connect(t, l.a, l.b, at(addr, port))
		c.prepare(t, source, sink)
		c.requests(t, source, sink, soak(10, 50))
	}
	st, err := l.boxes[0].Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.kind == "bulk" && (st.Cheat.Started == 0 || st.Cheat.FakeAcks == 0) {
		t.Errorf("the connection was never cheated: %+v", st.Cheat)
	}
	t.Logf("%.1f s; %d cheated, %d fake ACKs, %d sent again by the box", time.Since(begin).Seconds(), st.Cheat.Started, st.Cheat.FakeAcks, st.Cheat.Retransmits)
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
	ln := listen(t, l.b, mustAddrPort(t, addr))
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
	defer func() { _ = conn.Close() }()
	if err := errors.Join(c.choose(conn), conn.SetDeadline(time.Now().Add(2*time.Minute))); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		wrote <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, <-wrote); err != nil {
		return fmt.Errorf("after %d bytes: %w", len(got), err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes came back, and they are not those sent", len(got))
	}
	return nil
}

// requests has small questions answered, one after the other, as HTTP/1.1 with
// keep-alive does.
func (c combination) requests(t *testing.T, client, server *net.TCPConn, n int) {
	const ask, answer = 300, 5000
	go func() {
		b := make([]byte, ask)
		for i := range n {
			if _, err := io.ReadFull(server, b); err != nil || !bytes.Equal(b, random(uint64(i), ask)) {
				return // the client misses its answer
			}
			if _, err := server.Write(random(uint64(1000+i), answer)); err != nil {
				return
			}
		}
	}()
	b := make([]byte, answer)
	for i := range n {
		if _, err := client.Write(random(uint64(i), ask)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, b); err != nil || !bytes.Equal(b, random(uint64(1000+i), answer)) {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
}
