package etcdtest

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Wire carries connections to one member, and can be cut: what is on its way then
// is lost, and nothing answers, as if a cable had been pulled.
type Wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// Wires returns a way of its own to each member, and their addresses.
func (c *Cluster) Wires(t testing.TB) (wires []*Wire, endpoints []string) {
	t.Helper()
	for _, m := range c.members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w := &Wire{listener: l, to: m.Client, conns: map[net.Conn]bool{}}
		go w.serve()
		t.Cleanup(w.close)
		wires = append(wires, w)
		endpoints = append(endpoints, (&url.URL{Scheme: "http", Host: l.Addr().String()}).String())
	}
	return wires, endpoints
}

// Cut pulls the cable or puts it back.
func (w *Wire) Cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if !cut {
		// Connections that lost something cannot go on.
		w.hangUp()
	}
}

func (w *Wire) hangUp() {
	for c := range w.conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func (w *Wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangUp()
}

func (w *Wire) serve() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.conns[c] = true
		w.mu.Unlock()
		go w.carry(c)
	}
}

func (w *Wire) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	var d net.Dialer
	far, err := d.DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.conns[far] = true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.copy(far, c) })
	both.Go(func() { w.copy(c, far) })
	both.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	delete(w.conns, far)
}

func (w *Wire) copy(to, from net.Conn) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		cut := w.cut
		w.mu.Unlock()
		if n > 0 && !cut {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
