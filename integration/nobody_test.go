package integration

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What hosts do where a box was killed with an open promise and none comes back:
// docs/reliability.md tells of it. The source believes delivered what the receiver
// lacks, so neither understands what the other says (RFC 9293 section 3.10.7.4:
// acknowledgements of what is acknowledged are ignored, and so are segments that
// leave a gap, but for an acknowledgement).
func TestNobodyComesBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		setUp       func(t *testing.T, x *crashed)
		source, rcv error // within seven seconds; nil: it waits
	}{
		{"idle", func(*testing.T, *crashed) {}, nil, nil},
		{"the source has more to send", func(t *testing.T, x *crashed) {
			// 5 is 13 s at least; the hosts' default of 15 is some 15 minutes.
			if err := x.a.Sysctl("net/ipv4/tcp_retries2", "3"); err != nil {
				t.Fatal(err)
			}
			if _, err := x.source.Write(random(3, 20_000)); err != nil {
				t.Fatal(err)
			}
		}, unix.ETIMEDOUT, nil},
		{"the source has keep-alives", func(t *testing.T, x *crashed) { keepAlive(t, x.source) }, unix.ETIMEDOUT, unix.ECONNRESET},
		{"the receiver has keep-alives", func(t *testing.T, x *crashed) { keepAlive(t, x.sink) }, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			x := openPromise(t, routed, bothModes[1], 20_000)
			tc.setUp(t, x)
			began := time.Now()
			for _, end := range []struct {
				name string
				c    *net.TCPConn
				want error
			}{{"source", x.source, tc.source}, {"receiver", x.sink, tc.rcv}} {
				if err := end.c.SetReadDeadline(began.Add(7 * time.Second)); err != nil {
					t.Fatal(err)
				}
				err := <-ended(end.c)
				t.Logf("the %s after %s: %v", end.name, time.Since(began).Round(100*time.Millisecond), err)
				switch {
				case end.want == nil && !errors.Is(err, os.ErrDeadlineExceeded), end.want != nil && !errors.Is(err, end.want):
					t.Errorf("the %s: %v, want %v", end.name, err, end.want)
				}
			}
		})
	}
}

// keepAlive has an end ask after a second of silence, and give up after three more.
func keepAlive(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}); err != nil {
		t.Fatal(err)
	}
}
