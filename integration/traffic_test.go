package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// listen opens a TCP listener inside a namespace.
func listen(t *testing.T, ns *netns.NetNS, addr netip.AddrPort) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = config.Listen(t.Context(), "tcp", addr.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// tryDial connects from inside a namespace.
func tryDial(ctx context.Context, ns *netns.NetNS, addr netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: 8 * time.Second}
	var c net.Conn
	err := ns.Do(func() (err error) {
		c, err = dialer.DialContext(ctx, "tcp", addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// connect returns both ends of a connection, the dialler's first.
func connect(t *testing.T, from, to *netns.NetNS, addr netip.AddrPort) (dialled, accepted *net.TCPConn) {
	t.Helper()
	l := listen(t, to, addr)
	dialled, err := tryDial(t.Context(), from, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close() })
	if err := l.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	// Nothing may hang for longer than a scenario.
	for _, c := range []*net.TCPConn{dialled, accepted} {
		if err := c.SetDeadline(time.Now().Add(25 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return dialled, accepted
}

// random returns n bytes that only this seed has.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b) // documented never to fail
	return b
}

// transfer is data on its way over a connection.
type transfer struct {
	sent, received chan error
	got            hashed
	want           [32]byte
}

type hashed struct {
	sum   [32]byte
	bytes int
	ended time.Time
}

// send writes data on one end, half-closes it, and reads the other end to its
// end, both in the background.
func send(from, to *net.TCPConn, data []byte) *transfer {
	tr := &transfer{sent: make(chan error, 1), received: make(chan error, 1), want: sha256.Sum256(data)}
	go func() {
		_, err := from.Write(data)
		tr.sent <- errors.Join(err, from.CloseWrite())
	}()
	go tr.receive(to)
	return tr
}

func (tr *transfer) receive(to *net.TCPConn) {
	h := sha256.New()
	n, err := io.Copy(h, to)
	tr.got.bytes, tr.got.ended = int(n), time.Now()
	h.Sum(tr.got.sum[:0])
	tr.received <- err
}

// sendOn is send for as long as it takes: until the returned function is called.
func sendOn(from, to *net.TCPConn, seed byte) (enough func() *transfer) {
	tr := &transfer{sent: make(chan error, 1), received: make(chan error, 1)}
	stop := make(chan struct{})
	go func() {
		h, piece, err := sha256.New(), make([]byte, 1<<15), error(nil)
		for data, over := rand.NewChaCha8([32]byte{seed}), false; err == nil && !over; {
			_, _ = data.Read(piece) // documented never to fail
			_, _ = h.Write(piece)   // the same
			_, err = from.Write(piece)
			select {
			case <-stop:
				over = true
			default:
			}
		}
		h.Sum(tr.want[:0])
		tr.sent <- errors.Join(err, from.CloseWrite())
	}()
	go tr.receive(to)
	return func() *transfer {
		close(stop)
		return tr
	}
}

// wait ends when both sides are done, and fails the test unless every byte arrived.
func (tr *transfer) wait(t *testing.T) {
	t.Helper()
	if err := errors.Join(<-tr.sent, <-tr.received); err != nil {
		t.Errorf("transfer after %d bytes: %v", tr.got.bytes, err)
		return
	}
	if !bytes.Equal(tr.got.sum[:], tr.want[:]) {
		t.Errorf("%d bytes arrived, and they are not those sent", tr.got.bytes)
	}
}

// tcpInfo asks the kernel about a connection.
func tcpInfo(t *testing.T, c *net.TCPConn) *unix.TCPInfo {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	controlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err := errors.Join(controlErr, err); err != nil {
		t.Fatal(err)
	}
	return info
}

// within bounds a scenario's traffic.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := rig.Within(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
