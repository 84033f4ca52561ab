package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// A box that is stopped, and whose WAN lets no data through any more, has ended soon
// after drain_timeout: it resets both ends of a connection whose source believes more
// delivered than the receiver has.
func TestDrainTimeoutResets(t *testing.T) { inBothForms(t, drainTimeoutResets) }

const (
	drainLimit = time.Second
	clearsUp   = time.Second // the kernel takes its time for classes, programs and bridges
)

func drainTimeoutResets(t *testing.T, f form) {
	var noData atomic.Bool
	clear := emulator.Params{Delay: 5 * time.Millisecond}
	l := newMixedLab(t, []form{f, f}, &wire.Config{AB: clear, BA: clear, Seed: 1, Script: func(dir wire.Direction, frame []byte) emulator.Verdict {
		return emulator.Verdict{Drop: dir == wire.AB && noData.Load() && hasTCPData(frame)}
	}})
	one := l.edge(0, usualPolicies, fmt.Sprintf("tcp: {drain_timeout: %s}", drainLimit)).String()
	l.startAll(t, one, l.edge(1, usualPolicies, "").String())
	b := l.boxes[0]
	var took, source, receiver figures
	n := trials(t, 1)
	for _, c := range bothModes {
		door := listen(t, l.b, at(addrB, c.port))
		for i := range n {
			if len(took) > 0 {
				b.start(t, one)
			}
			x := l.promise(t, door, uint64(i), &noData)
			began := time.Now()
			ends := [2]<-chan error{ended(x[0]), ended(x[1])}
			resets := make(chan [2]time.Duration, 1)
			go func() {
				var at [2]time.Duration
				for i, end := range ends {
					if err := <-end; !errors.Is(err, unix.ECONNRESET) {
						t.Errorf("%s, %s: ended with %v, want a reset", c.name, [2]string{"source", "receiver"}[i], err)
					}
					at[i] = time.Since(began)
				}
				resets <- at
			}()
			b.stop(t)
			took = append(took, time.Since(began))
			noData.Store(false)
			at := <-resets
			source, receiver = append(source, at[0]), append(receiver, at[1])
			if !strings.Contains(b.proc.Stderr(), "drain_timeout is over") {
				t.Errorf("the log does not say so: %s", b.proc.Stderr())
			}
			if early := min(took[len(took)-1], at[0], at[1]); early < drainLimit {
				t.Errorf("after %s, before drain_timeout is over", early)
			}
			if files := b.promises(t); len(files) > 0 {
				t.Errorf("nothing is owed any more, and the record is there: %s", files)
			}
		}
	}
	took.bound(t, "the box has ended after", drainLimit+clearsUp)
	source.bound(t, "the source is reset after", drainLimit)
	receiver.bound(t, "the receiver is reset after", drainLimit)
}

// promise opens a connection whose source believes bytes delivered that noData keeps
// from the receiver.
func (l *lab) promise(t *testing.T, door *net.TCPListener, seed uint64, noData *atomic.Bool) [2]*net.TCPConn {
	t.Helper()
	source, sink := l.through(t, door)
	for _, c := range []*net.TCPConn{source, sink} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	hello := random(seed, 2000)
	say := func() {
		if _, err := source.Write(hello); err != nil {
			t.Fatal(err)
		}
	}
	say()
	sport := uint16(source.LocalAddr().(*net.TCPAddr).Port)
	l.boxes[0].waitFlow(t, sport, "cheated", isState(console.FlowCheated))
	say()
	if _, err := io.ReadFull(sink, make([]byte, 2*len(hello))); err != nil {
		t.Fatal(err)
	}
	noData.Store(true)
	if _, err := source.Write(random(seed+1, 20_000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the source believes all of it delivered", func() error {
		if n := tcpInfo(t, source).Unacked; n > 0 {
			return fmt.Errorf("%d segments are not acknowledged", n)
		}
		return nil
	})
	return [2]*net.TCPConn{source, sink}
}

// hasTCPData tells whether a frame is a TCP segment over IPv4 with data.
func hasTCPData(f []byte) bool {
	if !isIPv4(f) || f[ethernet+9] != 6 {
		return false
	}
	header := int(f[ethernet]&15) * 4
	if len(f) < ethernet+header+20 {
		return false
	}
	return int(binary.BigEndian.Uint16(f[ethernet+2:])) > header+int(f[ethernet+header+12]>>4)*4
}
