package nfq_test

import (
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// streamBlock is what a stream repeats.
var streamBlock = func() []byte {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i*i>>3 + i>>11)
	}
	return b
}()

func streamSum(total int) uint32 {
	h := crc32.NewIEEE()
	for range total / len(streamBlock) {
		_, _ = h.Write(streamBlock) // a hash never fails
	}
	return h.Sum32()
}

// stream sends total bytes over TCP from source to sink, and returns the sum
// and the number of those that arrived.
func (l *lab) stream(t testing.TB, dst netip.Addr, total int) (uint32, int) {
	t.Helper()
	h := crc32.NewIEEE()
	n := l.tcp(t, dst, total, h)
	return h.Sum32(), n
}

func (l *lab) tcp(t testing.TB, dst netip.Addr, total int, into io.Writer) int {
	t.Helper()
	var listener net.Listener
	must(t, l.Sink.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(dst, 0)))
		return err
	}))
	defer func() { must(t, listener.Close()) }()
	var conn net.Conn
	must(t, l.Source.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", listener.Addr().String(), 3*time.Second)
		return err
	}))
	sent := make(chan error, 1)
	go func() {
		var err error
		for range total / len(streamBlock) {
			if _, err = conn.Write(streamBlock); err != nil {
				break
			}
		}
		sent <- errors.Join(err, conn.Close())
	}()
	peer, err := listener.Accept()
	must(t, err)
	must(t, peer.SetDeadline(time.Now().Add(30*time.Second)))
	n, err := io.CopyBuffer(into, struct{ io.Reader }{peer}, make([]byte, 1<<20))
	if err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	must(t, errors.Join(peer.Close(), <-sent))
	return int(n)
}
