package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// drainPolicies are for many connections at once, each with its own reservation.
const drainPolicies = `
  - name: realtime
    match: {protocol: tcp, to_port: 5001}
    reserve: {role: both, service: controlled-load, tspec: {rate: 400kbit, burst: 16kB, max_packet: 1500B}}
    mark: af31
    tcp: realtime
  - name: reliable
    match: {protocol: tcp, to_port: 5002}
    reserve: {role: both, service: controlled-load, tspec: {rate: 400kbit, burst: 16kB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
`

// survivor is a connection from A to B that lives over a restart of a box.
type survivor struct {
	a, b *net.TCPConn
	kind string
	what string
	seed uint64
	err  error
}

// acceptor hands out the connections that a listener gets, by their remote end.
type acceptor struct {
	mu   sync.Mutex
	come map[netip.AddrPort]chan *net.TCPConn
}

func newAcceptor(t *testing.T, l *lab, addr netip.AddrPort) *acceptor {
	t.Helper()
	a := &acceptor{come: map[netip.AddrPort]chan *net.TCPConn{}}
	ln := listen(t, l.b, addr)
	go func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			a.of(c.RemoteAddr().(*net.TCPAddr).AddrPort()) <- c
		}
	}()
	return a
}

func (a *acceptor) of(remote netip.AddrPort) chan *net.TCPConn {
	a.mu.Lock()
	defer a.mu.Unlock()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if a.come[remote] == nil {
		a.come[remote] = make(chan *net.TCPConn, 1)
	}
	return a.come[remote]
}

// drainKinds are what connections do while a box is restarted.
var drainKinds = []string{"bulk", "idle", "asked", "told", "talk", "slow"}

// negotiated are what hosts may agree on in their handshakes.
var negotiated = []struct {
	name, key, value, usual string
}{
	{"usual", "", "", ""},
	{"no time stamps", "net/ipv4/tcp_timestamps", "0", "1"},
	{"no SACK", "net/ipv4/tcp_sack", "0", "1"},
	{"no scaling", "net/ipv4/tcp_window_scaling", "0", "1"},
	{"ECN", "net/ipv4/tcp_ecn", "1", "2"},
}

// openSurvivors opens n connections of all kinds, in both modes, with all that hosts
// may agree on.
func openSurvivors(t *testing.T, l *lab, n int, ports []uint16, to map[uint16]*acceptor) []*survivor {
	t.Helper()
	all := make([]*survivor, n)
	limit := make(chan struct{}, 16)
	for v, how := range negotiated {
		set := func(value string) {
			if how.key == "" {
				return
			}
			if err := errors.Join(l.a.Sysctl(how.key, value), l.b.Sysctl(how.key, value)); err != nil {
				t.Fatal(err)
			}
		}
		set(how.value)
		var wg sync.WaitGroup
		for i := v; i < n; i += len(negotiated) {
			port := ports[i%len(ports)]
			all[i] = &survivor{kind: drainKinds[i/len(ports)%len(drainKinds)], seed: uint64(i)}
			all[i].what = fmt.Sprintf("%s to port %d, %s", all[i].kind, port, how.name)
			wg.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				all[i].err = all[i].open(t, l, at(addrB, port), to[port])
			})
		}
		wg.Wait()
		set(how.usual)
	}
	for _, c := range all {
		if c.err != nil {
			t.Fatalf("%s: %v", c.what, c.err)
		}
		t.Cleanup(func() { _, _ = c.a.Close(), c.b.Close() })
	}
	return all
}

func (c *survivor) open(t *testing.T, l *lab, addr netip.AddrPort, to *acceptor) error {
	conn, err := tryDial(within(t, time.Minute), l.a, addr)
	if err != nil {
		return err
	}
	c.a = conn
	select {
	case c.b = <-to.of(conn.LocalAddr().(*net.TCPAddr).AddrPort()):
	case <-time.After(10 * time.Second):
		return errors.Join(errors.New("it was not accepted"), conn.Close())
	}
	deadline := time.Now().Add(patience)
	return errors.Join(c.a.SetDeadline(deadline), c.b.SetDeadline(deadline))
}

// run is the connection's life from when all are treated, and returns when both
// ends have had all that was sent and have closed.
func (c *survivor) run(restarted <-chan struct{}) (err error) {
	defer func() {
		if err != nil {
			_, _ = c.a.Close(), c.b.Close()
		}
	}()
	switch c.kind {
	case "bulk": // in the middle of a transfer
		return errors.Join(c.carries(c.a, c.b, random(c.seed, 150_000), 0), c.ends(c.b, c.a))
	case "slow": // the receiver reads now and then: its window is shut at times
		return errors.Join(c.carries(c.a, c.b, random(c.seed, 120_000), 8<<10), c.ends(c.b, c.a))
	case "idle":
		if err := c.echo(2000); err != nil {
			return fmt.Errorf("before: %w", err)
		}
		<-restarted
		if err := c.echo(3000); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	case "asked": // the client has said all, and half-closed; the answer takes its time
		if err := c.carries(c.a, c.b, random(c.seed, 20_000), 0); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		return c.dribble(restarted)
	case "told": // the server has said all, and half-closed; the client goes on
		if err := c.carries(c.b, c.a, random(c.seed, 20_000), 0); err != nil {
			return fmt.Errorf("greeting: %w", err)
		}
		return c.carries(c.a, c.b, random(c.seed+1, 150_000), 0)
	case "talk":
		for over := false; !over; {
			select {
			case <-restarted:
				over = true
			case <-time.After(50 * time.Millisecond):
			}
			if err := c.echo(100); err != nil {
				return err
			}
		}
	}
	return errors.Join(c.ends(c.a, c.b), c.ends(c.b, c.a))
}

// carries sends data from one end to the other, which must be all that comes, and
// half-closes. A positive piece has the reader pause after each so many bytes.
func (c *survivor) carries(from, to *net.TCPConn, data []byte, piece int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- errors.Join(err, from.CloseWrite())
	}()
	h := sha256.New()
	n, err := int64(0), error(nil)
	for piece > 0 && err == nil {
		var m int64
		m, err = io.CopyN(h, to, piece)
		n += m
		time.Sleep(100 * time.Millisecond)
	}
	if piece == 0 {
		n, err = io.Copy(h, to)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, len(data), err)
	}
	if sha256.Sum256(data) != [32]byte(h.Sum(nil)) {
		return fmt.Errorf("%d bytes arrived of %d, and they are not those sent", n, len(data))
	}
	return nil
}

// ends half-closes an end, which the other one must see.
func (c *survivor) ends(from, to *net.TCPConn) error {
	if err := from.CloseWrite(); err != nil {
		return err
	}
	var one [1]byte
	if n, err := to.Read(one[:]); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("%d bytes and %w where the end should be", n, err)
	}
	return nil
}

// echo sends bytes there and back.
func (c *survivor) echo(n int) error {
	data, got := random(c.seed+uint64(n), n), make([]byte, n)
	for _, way := range [][2]*net.TCPConn{{c.a, c.b}, {c.b, c.a}} {
		if _, err := way[0].Write(data); err != nil {
			return err
		}
		if _, err := io.ReadFull(way[1], got); err != nil {
			return err
		}
		if !bytes.Equal(got, data) {
			return errors.New("what arrives is not what was sent")
		}
	}
	return nil
}

// dribble has the server answer in small pieces until the restart is over, and
// the client read them all.
func (c *survivor) dribble(restarted <-chan struct{}) error {
	piece, got := random(c.seed, 700), make([]byte, 700)
	for over := false; !over; {
		select {
		case <-restarted:
			over = true
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := c.b.Write(piece); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if _, err := io.ReadFull(c.a, got); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if !bytes.Equal(got, piece) {
			return errors.New("the answer is not what was sent")
		}
	}
	return c.ends(c.b, c.a)
}

// Restarts of either box hurt no connection, whatever it does at the time, was
// agreed on in its handshake or is made of it by the box: those that the box
// speaks for are given back to their ends, and the next process leaves alone what
// it meets in the middle.
func TestStopBreaksNoConnection(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		name  string
		ports []uint16
		way   emulator.Params
	}{
		{"clean way", []uint16{portRealtime, portReliable}, emulator.Params{Delay: 10 * time.Millisecond}},
		// A hole of realtime stays a hole: it is for ways that lose nothing.
		{"lossy way", []uint16{portReliable}, emulator.Params{Delay: 10 * time.Millisecond, Loss: 0.005, Reorder: 0.01, ReorderDelay: 3 * time.Millisecond}},
	} {
		if i >= soak(1, 2) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) { stopBreaksNothing(t, newLab, tt.ports, tt.way) })
		if soak(0, 1) == 1 && formOf(t) == routed { // once is enough
			t.Run(tt.name+", bridged", func(t *testing.T) { stopBreaksNothing(t, newBridgedLab, tt.ports, tt.way) })
		}
	}
}

type labMaker = func(t *testing.T, boxes int, wan *wire.Config) *lab

func stopBreaksNothing(t *testing.T, newLab labMaker, ports []uint16, way emulator.Params) {
	n, rounds := soak(60, 200), soak(1, 5)
	l := newLab(t, 2, &wire.Config{AB: way, BA: way, Seed: 21})
	var configs []string
	for i := range l.boxes {
		c := l.edge(i, drainPolicies, "")
		c.reliable, c.capacity = true, "200mbit"
		text := c.String()
		if i > 0 && l.forms[i] == bridged {
			// A bridge that goes with its box takes the path along, and with it what is on
			// its way: realtime, of the other box, could not bring that again.
			text = "on_stop: keep\n" + text
		}
		configs = append(configs, text)
	}
	l.startAll(t, configs...)
	to := map[uint16]*acceptor{}
	for _, port := range ports {
		to[port] = newAcceptor(t, l, at(addrB, port))
	}
	total, broken := 0, 0
	for round := range rounds {
		all := openSurvivors(t, l, n, ports, to)
		eventually(t, 30*time.Second, "all are cheated", func() error {
			st, err := l.boxes[0].Status(t.Context())
			if err == nil && st.Flows.Cheated < n {
				err = fmt.Errorf("%d of %d", st.Flows.Cheated, n)
			}
			return err
		})
		restarted := make(chan struct{})
		var wg sync.WaitGroup
		for _, c := range all {
			wg.Go(func() { c.err = c.run(restarted) })
		}
		born, newborn := atomic.Int64{}, make(chan error, 1)
		go func() { newborn <- l.keepOpening(t, ports, to, restarted, &born) }()
		time.Sleep(time.Second) // every kind is in the middle of what it does
		for i := range l.boxes {
			b := l.boxes[(i+round)%2]
			begin := time.Now()
			b.stop(t)
			stopped := time.Now()
			b.start(t, configs[(i+round)%2])
			t.Logf("%s stopped within %s, back after %s more", b.name, stopped.Sub(begin).Round(time.Millisecond), time.Since(stopped).Round(time.Millisecond))
		}
		close(restarted)
		wg.Wait()
		for _, c := range all {
			total++
			if c.err != nil {
				broken++
				t.Errorf("%s: %v", c.what, c.err)
			}
		}
		if err := <-newborn; err != nil {
			t.Errorf("connections that are opened meanwhile: %v", err)
		}
		t.Logf("%d connections opened meanwhile", born.Load())
	}
	t.Logf("%d of %d connections broken in %d restarts", broken, total, 2*rounds)
}

// keepOpening opens one short connection after the other.
func (l *lab) keepOpening(t *testing.T, ports []uint16, to map[uint16]*acceptor, until <-chan struct{}, n *atomic.Int64) error {
	for i := 0; ; i++ {
		select {
		case <-until:
			return nil
		default:
		}
		port := ports[i%len(ports)]
		c := &survivor{seed: uint64(i)}
		err := c.open(t, l, at(addrB, port), to[port])
		if err == nil {
			err = errors.Join(c.echo(4000), c.ends(c.a, c.b), c.ends(c.b, c.a), c.a.Close(), c.b.Close())
		}
		if err != nil {
			return fmt.Errorf("number %d to port %d: %w", i, port, err)
		}
		n.Add(1)
	}
}
