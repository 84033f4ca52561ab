package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// crashed is a connection whose box has been killed while its source believed more
// delivered than the receiver had.
type crashed struct {
	*lab
	source, sink *net.TCPConn
	config       string
	port         uint16
}

var dark = emulator.Params{Loss: 1}

// openPromise has a source believe bytes delivered that the WAN has lost, and the
// box killed.
func openPromise(t *testing.T, f form, c cheatable, size int) *crashed {
	t.Helper()
	clear := emulator.Params{Delay: 5 * time.Millisecond}
	l := newMixedLab(t, []form{f, f}, &wire.Config{AB: clear, BA: clear, Seed: 1})
	one, two := l.edge(0, usualPolicies, ""), l.edge(1, usualPolicies, "")
	l.startAll(t, one.String(), two.String())
	x := &crashed{lab: l, config: one.String(), port: c.port}
	x.source, x.sink = l.open(t, c)
	hello := random(1, 2000)
	if _, err := x.source.Write(hello); err != nil {
		t.Fatal(err)
	}
	l.boxes[0].waitFlow(t, c.port, "cheated", isState(console.FlowCheated))
	if _, err := x.source.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(x.sink, make([]byte, 2*len(hello))); err != nil {
		t.Fatal(err)
	}
	if err := l.wan.Set(wire.AB, dark); err != nil {
		t.Fatal(err)
	}
	if _, err := x.source.Write(random(2, size)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the source believes all of it delivered", func() error {
		if n := tcpInfo(t, x.source).Unacked; n > 0 {
			return fmt.Errorf("%d segments are not acknowledged", n)
		}
		return nil
	})
	l.boxes[0].kill(t)
	if err := l.wan.Set(wire.AB, clear); err != nil {
		t.Fatal(err)
	}
	return x
}

// ended waits for an end of a connection to learn that it is broken, from within a
// read.
func ended(c *net.TCPConn) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		out <- err
	}()
	return out
}

// A box that was killed with bytes of which the source believes that they were
// delivered comes back: both ends are reset, though neither says anything.
func TestCrashResetsWhatCannotBeServed(t *testing.T) {
	t.Parallel()
	for _, f := range bothForms {
		for _, c := range bothModes {
			t.Run(f.String()+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				crashResets(t, f, c)
			})
		}
	}
}

// bothForms are those of a box that the program has made what it is.
var bothForms = []form{routed, bridged}

func crashResets(t *testing.T, f form, c cheatable) {
	x := openPromise(t, f, c, 20_000)
	back := time.Now()
	if n := len(x.boxes[0].promises(t)); n != 1 {
		t.Errorf("%d files say what was promised", n)
	}
	x.boxes[0].start(t, x.config)
	row := x.boxes[0].waitFlow(t, c.port, "looked after", func(r console.FlowRow) bool { return strings.Contains(r.Reason, "earlier process") })
	t.Logf("row: %s, %s", row.State, row.Reason)
	for name, end := range map[string]*net.TCPConn{"source": x.source, "receiver": x.sink} {
		select {
		case err := <-ended(end):
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the %s ended with %v", name, err)
			}
			t.Logf("the %s is reset %s after the start", name, time.Since(back).Round(10*time.Millisecond))
		case <-time.After(10 * time.Second):
			t.Errorf("the %s hangs", name)
		}
	}
	eventually(t, 8*time.Second, "the row goes", func() error {
		if row, err := x.boxes[0].flowFrom(t, addrA, c.port); err == nil {
			return fmt.Errorf("it is %+v", row)
		}
		return nil
	})
	x.boxes[0].stop(t)
	if files := x.boxes[0].promises(t); len(files) > 0 {
		t.Errorf("nothing is owed any more, and the record is there: %s", files)
	}
}

// What was on its way when the box was killed arrives while the next process looks
// after the connection, which goes on without help.
func TestCrashHealsWhatArrives(t *testing.T) {
	t.Parallel()
	const while, before = 0, 2500 * time.Millisecond
	for _, c := range []struct {
		f    form
		name string
		dead time.Duration
	}{
		{routed, "before it comes back", before},
		{bridged, "before it comes back", before},
		{routed, "while it comes back", while},
		{bridged, "while it comes back", while},
	}[:soak(3, 4)] {
		t.Run(c.f.String()+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			crashHeals(t, c.f, c.dead)
		})
	}
}

// crashHeals has the box dead for a while. What arrives then is acknowledged, and
// both ends have heard more of each other than the record knows: from then on they
// are idle, and answer only who asks rightly.
func crashHeals(t *testing.T, f form, dead time.Duration) {
	long := emulator.Params{Delay: 800 * time.Millisecond}
	l := newMixedLab(t, []form{f, f}, &wire.Config{AB: long, BA: emulator.Params{}, Seed: 1})
	one, two := l.edge(0, usualPolicies, "").String(), l.edge(1, usualPolicies, "").String()
	l.startAll(t, one, two)
	b := l.boxes[0]
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := random(3, 600_000)
	got := make(chan error, 1)
	go func() {
		all, err := io.ReadAll(sink)
		if err == nil && string(all) != string(data) {
			err = fmt.Errorf("%d bytes, not those sent", len(all))
		}
		got <- err
	}()
	if _, err := source.Write(data[:200_000]); err != nil {
		t.Fatal(err)
	}
	b.waitFlow(t, portReliable, "cheated", func(r console.FlowRow) bool { return r.State == console.FlowCheated && r.FakeAcks > 3 })
	if _, err := source.Write(data[200_000:400_000]); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the source believes more delivered than is", func() error {
		if n := tcpInfo(t, source).Unacked; n > 0 {
			return fmt.Errorf("%d segments are not acknowledged", n)
		}
		return nil
	})
	b.kill(t)
	time.Sleep(dead)
	b.start(t, one)
	row := b.waitFlow(t, portReliable, "given back", func(r console.FlowRow) bool {
		return strings.Contains(r.Reason, "its receiver has got everything") || strings.Contains(r.Reason, "its receiver had everything")
	})
	t.Logf("row: %s, %s", row.State, row.Reason)
	if _, err := source.Write(data[400_000:]); err != nil {
		t.Fatal(err)
	}
	if err := source.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}
