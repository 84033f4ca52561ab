package integration

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/console"
)

var bothModes = []cheatable{{"realtime", portRealtime, false}, {"reliable", portReliable, false}}

// The receiver may answer after the source's FIN (RFC 9293 section 3.6), and
// the answer passes a cheated connection.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, c := range bothModes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			l.startEdges(t, usualPolicies, "")
			source, sink := l.open(t, c)
			l.boxes[0].waitFlow(t, c.port, "cheated", isState(console.FlowCheated))
			send(source, sink, random(1, 1_000_000)).wait(t)
			answer := random(2, 300_000)
			wrote := make(chan error, 1)
			go func() {
				_, err := sink.Write(answer)
				wrote <- errors.Join(err, sink.Close())
			}()
			got, err := io.ReadAll(source)
			if err := errors.Join(err, <-wrote); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, answer) {
				t.Errorf("%d bytes of answer, want %d", len(got), len(answer))
			}
			l.boxes[0].waitNoSession(t, c.port)
		})
	}
}

// A receiver's RST ends the source's connection, whatever was faked before.
func TestResetReachesSource(t *testing.T) {
	t.Parallel()
	for _, c := range bothModes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			l.startEdges(t, usualPolicies, "")
			source, sink := l.open(t, c)
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(source, endless{})
				ended <- err
			}()
			go func() { _, _ = io.CopyN(io.Discard, sink, 400_000) }()
			l.boxes[0].waitFlow(t, c.port, "cheated", isState(console.FlowCheated))
			if err := errors.Join(sink.SetLinger(0), sink.Close()); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("the source ended with %v, want a reset", err)
				}
			case <-time.After(8 * time.Second):
				t.Error("the source does not learn of the reset")
			}
			l.boxes[0].waitNoSession(t, c.port)
		})
	}
}

// endless is a reader of zeros.
type endless struct{}

// Read implements io.Reader.
func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A box never accepts a connection for a host.
func TestClosedPortIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startEdges(t, usualPolicies, "")
	for _, port := range []uint16{portRealtime, portReliable} {
		conn, err := tryDial(within(t, 5*time.Second), l.a, at(addrB, port))
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("port %d: %v, want connection refused", port, err)
		}
		l.boxes[0].waitNoSession(t, port)
	}
}

// A receiver that does not read stops the source: the box takes no more than
// its limits, and all goes on when the receiver reads again.
func TestStalledReceiver(t *testing.T) {
	t.Parallel()
	for _, c := range bothModes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			const limit = 1_000_000
			// Without prediction the receiver's window is honoured.
			extra := "tcp: {window: honour}\nlimits: {buffered_per_flow: 1MB, max_unacked: 1MB}"
			l.startEdges(t, usualPolicies, extra)
			source, sink := l.open(t, c)
			if err := errors.Join(source.SetWriteBuffer(100_000), sink.SetReadBuffer(100_000)); err != nil {
				t.Fatal(err)
			}
			const size = 2_000_000
			data := random(3, size)
			sent := make(chan error, 1)
			go func() {
				_, err := source.Write(data)
				sent <- errors.Join(err, source.CloseWrite())
			}()
			l.boxes[0].waitFlow(t, c.port, "cheated", isState(console.FlowCheated))
			// It stops: two looks a second apart see the same.
			var acked uint64
			eventually(t, 8*time.Second, "the source stops", func() error {
				now := tcpInfo(t, source).Bytes_acked
				time.Sleep(time.Second)
				acked = tcpInfo(t, source).Bytes_acked
				if acked != now {
					return errors.New("it still sends")
				}
				return nil
			})
			const kernel = 500_000 // what B's kernel may hold
			if acked > limit+kernel {
				t.Errorf("%d bytes acknowledged to the source, of which none is read", acked)
			}
			got, err := io.ReadAll(sink)
			if err := errors.Join(err, <-sent); err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, and they are not those sent", len(got))
			}
			t.Logf("the source stopped at %d bytes", acked)
		})
	}
}
