package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// bothWays are two policies for a port: of what goes to it and what comes from it.
func bothWays(port uint16, rate, burst, tcp string) string {
	s := ""
	for _, dir := range []string{"to", "from"} {
		s += fmt.Sprintf(`
  - name: %s%d
    match: {protocol: tcp, %s_port: %d}
    reserve: {role: both, service: controlled-load, tspec: {rate: %s, burst: %s, max_packet: 1500B}}
    mark: af31
    tcp: %s
`, dir, port, dir, port, rate, burst, tcp)
	}
	return s
}

// cheatedSoon waits until a box treats the data from an address of a port's
// connection, for a test's other goroutines.
func (b *box) cheatedSoon(t *testing.T, src netip.Addr, port uint16) error {
	var row console.FlowRow
	var err error
	for range 400 {
		if row, err = b.flowFrom(t, src, port); err == nil && row.State == console.FlowCheated {
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("%s: the flow with port %d is not cheated: %+v", b.name, port, row), err)
}

// Programs talk over connections that are treated in either direction, in each
// mode: HTTP/1.1 and TLS with a connection that is kept, and an interactive
// session that ends by half-closing. Both ways lose, also in bursts, reorder and
// duplicate; but with `realtime`, which keeps nothing, they only duplicate.
func TestStacksTalk(t *testing.T) {
	t.Parallel()
	bad := emulator.Params{Loss: 0.01, Burst: &burstLoss, Reorder: 0.02, ReorderDelay: 4 * time.Millisecond, Duplicate: 0.01}
	for _, tt := range []struct {
		name  string
		modes []string
		way   emulator.Params
	}{
		{"lossy", []string{"reliable", "pace"}, bad},
		{"lossless", []string{"realtime"}, emulator.Params{Duplicate: 0.01}},
	} {
		for i, rtt := range []time.Duration{40 * time.Millisecond, time.Millisecond, 300 * time.Millisecond} {
			if i > 0 && soak(0, 1) == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v", tt.name, rtt), func(t *testing.T) { talk(t, rtt, tt.way, tt.modes) })
		}
	}
}

func talk(t *testing.T, rtt time.Duration, way emulator.Params, modes []string) {
	way.Delay = rtt / 2
	l := newLab(t, 2, &wire.Config{AB: way, BA: way, Seed: 11})
	policies, port := "", uint16(6101)
	type spoken struct {
		mode, kind string
		port       uint16
	}
	var all []spoken
	for _, mode := range modes {
		for _, kind := range []string{"http", "tls", "shell"} {
			policies += bothWays(port, "1.5mbit", "32kB", mode)
			all = append(all, spoken{mode, kind, port})
			port++
		}
	}
	l.startEdges(t, policies, "")
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			c := conversation{
				client: l.a, server: l.b, addr: at(addrB, s.port), cc: []string{"cubic", "reno", "bbr"}[i%3],
				rounds: soak(12, 60), ask: 150_000, tell: 150_000, seed: uint64(100 * i),
				ready: func() error {
					err := l.boxes[0].cheatedSoon(t, addrA, s.port)
					if s.mode != "pace" { // of a connection one direction is paced
						err = errors.Join(err, l.boxes[1].cheatedSoon(t, addrB, s.port))
					}
					return err
				},
			}
			begin := time.Now()
			var took []time.Duration
			var err error
			if s.kind == "shell" {
				took, err = c.shell(t.Context())
			} else {
				err = c.web(t.Context(), s.kind == "tls")
			}
			if err != nil {
				t.Errorf("%s, %s: %v", s.mode, s.kind, err)
				return
			}
			said := ""
			if len(took) > 0 {
				slices.Sort(took)
				half := took[len(took)/2]
				said = fmt.Sprintf("; echoes after %v, at most %v", half, took[len(took)-1])
				// Of all echoes half are not late, whatever some packets suffer.
				if half > 2*rtt+100*time.Millisecond {
					t.Errorf("%s: half of the echoes take more than %v", s.mode, half)
				}
			}
			t.Logf("%s, %s: %v%s", s.mode, s.kind, time.Since(begin).Round(time.Millisecond), said)
		})
	}
	wg.Wait()
}

// Five hundred connections at once, of one byte to some hundred thousand, each
// with a reservation of its own. Half of them begin when all are treated, half
// while that is being made. Each gets its own bytes back.
func TestStacksCrowd(t *testing.T) {
	way := emulator.Params{Delay: 5 * time.Millisecond, Loss: 0.002, Duplicate: 0.002}
	l := newLab(t, 2, &wire.Config{AB: way, BA: way, Seed: 12})
	const policies = `
  - name: crowd
    match: {protocol: tcp, to_port: 5002}
    reserve: {role: both, service: controlled-load, tspec: {rate: 1mbit, burst: 32kB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
`
	one, two := l.edge(0, policies, ""), l.edge(1, policies, "")
	for _, c := range []*config{&one, &two} {
		c.reliable, c.capacity = true, "1gbit"
	}
	l.startAll(t, one.String(), two.String())
	const n = 500
	largest := float64(soak(150_000, 400_000))
	echoes(t, l, at(addrB, portReliable))
	begin := time.Now()
	conns := make([]*net.TCPConn, n)
	dialling := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			dialling <- struct{}{}
			conn, err := tryDial(within(t, time.Minute), l.a, at(addrB, portReliable))
			<-dialling
			if err == nil {
				conns[i], err = conn, conn.SetDeadline(time.Now().Add(patience))
			}
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	there := time.Since(begin)
	treated := make(chan struct{})
	g := rand.New(rand.NewPCG(12, 0))
	total := 0
	for i, conn := range conns {
		size := int(math.Exp(g.Float64() * math.Log(largest)))
		total += size
		wg.Go(func() {
			if i%2 == 0 {
				<-treated
			}
			if err := echoed(conn, random(uint64(i), size)); err != nil {
				t.Errorf("connection %d of %d bytes: %v", i, size, err)
			}
		})
	}
	// Those that wait are treated by then; the others may have ended.
	var cheated int
	for deadline := time.Now().Add(30 * time.Second); cheated < n/2 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		st, err := l.boxes[0].Status(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		cheated = st.Flows.Cheated
	}
	ready := time.Since(begin)
	close(treated)
	wg.Wait()
	st, err := l.boxes[0].Stats(t.Context())
	if err != nil || cheated < n/2 || st.Cheat.FakeAcks == 0 {
		t.Errorf("%d of %d treated at once; %+v, %v", cheated, n, st.Cheat, err)
	}
	t.Logf("%d connections after %v, %d treated after %v, %d bytes echoed after %v; %d fake ACKs, %d sent again by the box",
		n, there, cheated, ready, total, time.Since(begin), st.Cheat.FakeAcks, st.Cheat.Retransmits)
}

// echoed sends data over a connection that echoes, and wants it back.
func echoed(conn *net.TCPConn, data []byte) error {
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		wrote <- errors.Join(err, conn.CloseWrite())
	}()
	h := sha256.New()
	n, err := io.Copy(h, conn)
	if err := errors.Join(err, <-wrote, conn.Close()); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if want := sha256.Sum256(data); [32]byte(h.Sum(nil)) != want {
		return fmt.Errorf("%d bytes came back, and they are not those sent", n)
	}
	return nil
}

// A transfer larger than any buffer on its way, as fast as the boxes can: 64 MB,
// or a gigabyte in `make soak`.
func TestStacksLarge(t *testing.T) {
	l := newLab(t, 2, nil)
	const policies = `
  - name: large
    match: {protocol: tcp, to_port: 5002}
    reserve: {role: both, service: controlled-load, tspec: {rate: 2gbit, burst: 1MB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
`
	one, two := l.edge(0, policies, ""), l.edge(1, policies, "")
	for _, c := range []*config{&one, &two} {
		c.reliable, c.capacity = true, "4gbit"
	}
	l.startAll(t, one.String(), two.String())
	source, sink := connect(t, l.a, l.b, at(addrB, portReliable))
	for _, c := range []*net.TCPConn{source, sink} {
		if err := c.SetDeadline(time.Now().Add(soak(time.Minute, 5*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.boxes[0].cheatedSoon(t, addrA, portReliable); err != nil {
		t.Fatal(err)
	}
	size := int64(soak(64_000_000, 1_000_000_000))
	begin := time.Now()
	type result struct {
		sum [32]byte
		n   int64
		err error
	}
	sent := make(chan result, 1)
	go func() {
		h := sha256.New()
		n, err := io.Copy(source, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{13}), size), h))
		sent <- result{[32]byte(h.Sum(nil)), n, errors.Join(err, source.CloseWrite())}
	}()
	h := sha256.New()
	n, err := io.Copy(h, sink)
	s := <-sent
	took := time.Since(begin)
	if err := errors.Join(err, s.err); err != nil || n != size || s.n != size || [32]byte(h.Sum(nil)) != s.sum {
		t.Errorf("%d of %d bytes arrived, the same ones %v: %v", n, s.n, [32]byte(h.Sum(nil)) == s.sum, err)
	}
	row, err := l.boxes[0].flow(t, portReliable)
	// As fast as the boxes can: one that does not get the processor for that lets the
	// connection go, and says so (docs/reliability.md).
	letGo := strings.Contains(row.Reason, "the box was overloaded") && strings.Contains(l.boxes[0].proc.Stderr(), "a cheat queue cannot keep up")
	if err != nil || row.FakeAcks == 0 || row.State != console.FlowCheated && !letGo {
		t.Errorf("the connection was not cheated: %+v, %v", row, err)
	}
	t.Logf("%d bytes in %v, %.0f Mbit/s; %d fake ACKs, %d sent again by the box; let go: %t",
		n, took, float64(n)*8/took.Seconds()/1e6, row.FakeAcks, row.Retransmits, letGo)
}
