package integration

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// What docs/reliability.md promises of a box that hangs.
const (
	opensWithin = time.Second     // the queue rules, by themselves
	freeWithin  = 2 * time.Second // what is queued, by the watchdog
)

// inBothForms runs a scenario with routers and with bridges, side by side; below
// TestOnBridges with bridges that are there already.
func inBothForms(t *testing.T, scenario func(t *testing.T, f form)) {
	t.Helper()
	t.Parallel()
	forms := bothForms
	if formOf(t) == adopted {
		forms = []form{adopted}
	}
	for _, f := range forms {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			scenario(t, f)
		})
	}
}

// A box that hangs does not hold up what it does not hold: its queue rules
// open by themselves, with no watchdog to help. When it goes on, it works, and what it
// held arrives too.
func TestHang(t *testing.T) { inBothForms(t, hang) }

func hang(t *testing.T, f form) {
	l := newMixedLab(t, []form{f, f}, nil)
	l.startEdges(t, usualPolicies, "watchdog: false")
	b := l.boxes[0]
	b.expected = []string{`"level":"warn"`}               // that the rules were renewed late
	t.Cleanup(func() { _ = b.proc.Signal(unix.SIGCONT) }) // or it could not be stopped
	server, door := listenUDP(t, l.b, at(addrB, portVoice+1)), listen(t, l.b, at(addrB, portReliable))
	var opened figures
	for i := range trials(t, 1) {
		source, sink := l.through(t, door)
		tr := send(source, sink, random(uint64(11+i), 4_000_000))
		b.waitFlow(t, uint16(source.LocalAddr().(*net.TCPAddr).Port), "cheated", isState(console.FlowCheated))
		opened = append(opened, l.hangOnce(t, l.newComer(t, server)))
		tr.wait(t) // what passed unseen meanwhile does not confuse the engine
		if err := errors.Join(source.Close(), sink.Close()); err != nil {
			t.Error(err)
		}
	}
	opened.bound(t, "a new flow passes a box that hangs after", opensWithin)
	b.waitNoSession(t, portReliable)

	end := l.talk(t, portVoice+2, 10*time.Second)
	b.waitSession(t, portVoice+2, console.SessionReserved)
	end().check(t)
	source, sink := l.open(t, cheatable{"realtime", portRealtime, false})
	enough := sendOn(source, sink, 12)
	b.waitFlow(t, portRealtime, "cheated", isState(console.FlowCheated))
	enough().wait(t)
}

// hangOnce stops the first box for more than three seconds, and returns when the
// packets of a new flow passed it.
func (l *lab) hangOnce(t *testing.T, p *newcomer) time.Duration {
	t.Helper()
	b := l.boxes[0]
	stopped := b.halt(t)
	for time.Since(stopped) < 3200*time.Millisecond {
		p.send(t)
		p.read(t, 20*time.Millisecond)
	}
	p.read(t, 300*time.Millisecond) // what is on its way
	if !b.isStopped(t) {
		t.Error("it goes on, though nobody has told it to")
	}
	if len(p.got) == 0 {
		t.Fatal("nothing of a new flow passes a box that hangs")
	}
	if p.first == 0 {
		t.Error("the first packet was not held: the box has no rules, or does not hang")
	}
	for i := p.first; i < uint64(len(p.sent)); i++ {
		if _, ok := p.got[i]; !ok {
			t.Errorf("packet %d of a new flow is held, or lost, after packet %d has passed", i, p.first)
		}
	}
	b.signal(t, unix.SIGCONT)
	p.read(t, 5*time.Second)
	if n := p.lost(time.Time{}); n > 0 {
		t.Errorf("%d of %d packets are lost", n, len(p.sent))
	}
	return p.firstArrival.Sub(stopped)
}

// What waits in the queues of a box that was stopped by a signal is free within two
// seconds: the watchdog has it go on, and no packet is lost.
func TestStoppedBoxIsToldToGoOn(t *testing.T) { inBothForms(t, toldToGoOn) }

func toldToGoOn(t *testing.T, f form) {
	l := newMixedLab(t, []form{f, f}, nil)
	l.startEdges(t, usualPolicies, "")
	b := l.boxes[0]
	b.expected = []string{`"level":"warn"`}
	server := listenUDP(t, l.b, at(addrB, portVoice))
	n, pause := trials(t, 3), 300*time.Millisecond
	if n > 3 {
		pause = 2700 * time.Millisecond // a fourth one in ten seconds would be its end
	}
	var held figures
	for range n {
		p := l.newComer(t, server)
		stopped := b.halt(t)
		p.isQueued(t, b)
		p.read(t, 5*time.Second)
		if len(p.got) == 0 {
			t.Fatal("what was queued is lost")
		}
		held = append(held, p.firstArrival.Sub(stopped))
		time.Sleep(pause)
	}
	held.bound(t, "what waits in the queue of a stopped box is free after", freeWithin)
	if text := b.proc.Stderr(); !strings.Contains(text, "told to go on") {
		t.Errorf("the log does not say so: %s", text)
	}
}

// A box that does not go on is killed: its queues are free, and traffic passes
// without it, reserved flows with their treatment.
func TestHangingBoxIsKilled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		form form
		hang func(t *testing.T, b *box) (end func())
	}{
		{"waits for ever", routed, freeze},
		{"waits for ever, bridged", bridged, freeze},
		{"stopped again and again", routed, stopAgain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hangsAndIsKilled(t, tt.form, tt.hang)
		})
	}
}

// freeze has a box do nothing for as long as it lives.
func freeze(t *testing.T, b *box) (end func()) {
	t.Helper()
	undo, err := rig.Freeze(b.proc)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := undo(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

// stopAgain stops a box whatever anybody tells it.
func stopAgain(t *testing.T, b *box) (end func()) {
	t.Helper()
	b.halt(t)
	p, stop := b.proc, make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_ = p.Signal(unix.SIGSTOP) // until it has ended
			}
		}
	}()
	end = sync.OnceFunc(func() { close(stop) })
	t.Cleanup(end)
	return end
}

func hangsAndIsKilled(t *testing.T, f form, hang func(*testing.T, *box) func()) {
	l := newMixedLab(t, []form{f, f}, nil)
	one, two := l.edge(0, usualPolicies, "").String(), l.edge(1, usualPolicies, "").String()
	l.startAll(t, one, two)
	b := l.boxes[0]
	b.expected = []string{`"level":"error"`} // that it is killed
	server, door := listenUDP(t, l.b, at(addrB, portVoice+1)), listen(t, l.b, at(addrB, portReliable))
	n := trials(t, 1)
	endVoice := l.talk(t, portVoice, time.Duration(n)*15*time.Second)
	b.waitSession(t, portVoice, console.SessionReserved)
	var free, passes, killed figures
	for i := range n {
		if i > 0 {
			b.start(t, one)
			b.waitSession(t, portVoice, console.SessionReserved)
		}
		k := l.hangForGood(t, l.newComer(t, server), hang)
		free, passes, killed = append(free, k.free), append(passes, k.passes), append(killed, k.killed)
		if text := b.proc.Stderr(); !strings.Contains(text, "the daemon is killed") {
			t.Errorf("the log does not say so: %s", text)
		}
		if left := l.tables(t, b); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		source, sink := l.through(t, door)
		send(source, sink, random(uint64(7+i), 100_000)).wait(t)
	}
	free.bound(t, "the queue is free after", freeWithin)
	passes.bound(t, "a later packet passes after", freeWithin)
	t.Logf("the box is killed after: %s", killed)
	endVoice().check(t)
}

// hung is what was seen of a box that hangs for good, in times from then on.
type hung struct {
	free   time.Duration // the packet that was queued has passed, or its queue is no more
	passes time.Duration // the first packet of those sent later
	killed time.Duration
}

func (l *lab) hangForGood(t *testing.T, p *newcomer, hang func(*testing.T, *box) func()) (k hung) {
	t.Helper()
	b := l.boxes[0]
	began := time.Now()
	end := hang(t, b)
	defer end()
	p.isQueued(t, b)
	for k.killed == 0 {
		p.send(t)
		p.read(t, 10*time.Millisecond)
		at, passed := p.got[0]
		if _, queues := b.waiting(t); passed {
			k.free = at.Sub(began)
		} else if !queues && k.free == 0 {
			k.free = time.Since(began)
		}
		select {
		case <-b.proc.Exited():
			k.killed = time.Since(began)
		default:
		}
		if time.Since(began) > 15*time.Second {
			t.Fatal("not killed")
		}
	}
	dead := time.Now()
	for range 20 {
		p.send(t)
		p.read(t, 5*time.Millisecond)
	}
	p.read(t, 500*time.Millisecond)
	if n := p.lost(dead); n > 0 {
		t.Errorf("%d packets are lost that were sent when the box had ended", n)
	}
	for i := uint64(1); i < uint64(len(p.sent)); i++ {
		if at, ok := p.got[i]; ok && (k.passes == 0 || at.Sub(began) < k.passes) {
			k.passes = at.Sub(began)
		}
	}
	if _, queues := b.waiting(t); queues {
		t.Error("the box has ended, and there are queues")
	}
	if k.free == 0 {
		k.free = k.killed // what it held has gone with it
	}
	return k
}
