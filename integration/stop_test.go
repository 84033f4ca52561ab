package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// SIGTERM gives cheated connections back to their ends, which complete without
// the box, and leaves the kernel as it was found.
func TestStopLeavesNothing(t *testing.T) {
	l := newLab(t, 2, nil)
	before := l.snapshot(t)
	one := l.edge(0, usualPolicies, "")
	one.capacity = "30mbit" // room for both
	l.startAll(t, one.String(), l.edge(1, usualPolicies, "").String())
	endVoice := l.talk(t, portVoice, 13*time.Second)
	var transfers []*transfer
	for i, c := range bothModes {
		source, sink := l.open(t, c)
		transfers = append(transfers, send(source, sink, random(uint64(i), 8_000_000)))
	}
	for _, c := range bothModes {
		l.boxes[0].waitFlow(t, c.port, "cheated", func(r console.FlowRow) bool {
			return r.State == console.FlowCheated && r.FakeAcks > 100
		})
	}
	l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	if added := before.Added(l.snapshot(t)); len(added) == 0 {
		t.Error("the boxes work and nothing is in the kernel: the snapshot is blind")
	}
	begin := time.Now()
	l.boxes[0].stop(t)
	t.Logf("box 1 stopped within %s", time.Since(begin).Round(time.Millisecond))
	l.boxes[1].stop(t)
	after := l.snapshot(t)
	if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) != 0 {
		t.Errorf("left in the kernel: %q; taken away: %q", added, gone)
	}
	for _, tr := range transfers {
		tr.wait(t)
	}
	// What stands in a queue when the kernel removes it is lost, as with any
	// change of a queueing discipline: TCP sends it again, voice does not.
	if c := endVoice(); c.lost > c.sent/5 || c.again != 0 {
		t.Errorf("voice: %+v", c)
	}
}

// tables lists what a box has of nftables.
func (l *lab) tables(t *testing.T, b *box) []string {
	t.Helper()
	var found []string
	for line := range l.snapshot(t) {
		if strings.HasPrefix(line, "table "+b.ns.Name()) {
			found = append(found, line)
		}
	}
	return found
}

// A box that is killed takes its queue rules along, so that packets pass; the
// treatment of reserved flows outlives it for on_crash and then ends by itself.
func TestKill(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one := strings.Replace(l.edge(0, usualPolicies, "").String(), "on_crash: 5s", "on_crash: 2s", 1)
	two := l.edge(1, usualPolicies, "").String()
	l.startAll(t, one, two)
	b := l.boxes[0]
	onWire := capture(t, b.ns, rightWAN, toPort(portVoice))
	end := l.talk(t, portVoice, 14*time.Second)
	source, sink := connect(t, l.a, l.b, at(addrB, portOther))
	other := send(source, sink, random(9, 12_000_000))
	b.waitSession(t, portVoice, console.SessionReserved)
	if len(l.tables(t, b)) == 0 {
		t.Fatal("a running box has no table")
	}

	b.kill(t)
	killed := time.Now()
	eventually(t, 3*time.Second, "the queue table goes", func() error {
		if left := l.tables(t, b); len(left) > 0 {
			return fmt.Errorf("left: %q", left)
		}
		return nil
	})
	waitVoice := func(what string, want uint8) time.Time {
		t.Helper()
		from := time.Now()
		ctx := within(t, 8*time.Second)
		frame, err := onWire.Wait(ctx, frameAfter(from, func(f []byte) bool { return dscpOf(f) == want }))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return frame.At
	}
	if at := waitVoice("marked after the box died", dscp.VoiceAdmit); at.Sub(killed) > 1500*time.Millisecond {
		t.Logf("a loaded machine: the first look was %s after the kill", at.Sub(killed))
	}
	ended := waitVoice("no longer marked after on_crash", 0)
	if lived := ended.Sub(killed); lived > 6*time.Second {
		t.Errorf("the treatment lived %s, on_crash is 2 s", lived)
	}

	b.start(t, one)
	b.waitSession(t, portVoice, console.SessionReserved)
	waitVoice("marked by the next process", dscp.VoiceAdmit)
	cheated, cheatedSink := l.open(t, cheatable{"reliable", portReliable, false})
	tr := send(cheated, cheatedSink, random(10, 1_500_000))
	b.waitFlow(t, portReliable, "cheated", isState(console.FlowCheated))
	tr.wait(t)
	other.wait(t)
	end().check(t)
}

// A box that comes back within on_crash adopts what it finds: no packet of a
// reserved flow is lost, and what it does not want any more ends (RFC 5063 section
// 4.5.2.2).
func TestRestartAdopts(t *testing.T) {
	for _, f := range inSoak() {
		t.Run(f.String(), func(t *testing.T) { restartAdopts(t, f) })
	}
}

func restartAdopts(t *testing.T, f family) {
	l := newLab(t, 2, nil)
	before := l.snapshot(t)
	one := l.edge(0, f.policies(usualPolicies), "").String()
	l.startAll(t, one, l.edge(1, f.policies(usualPolicies), "").String())
	b := l.boxes[0]
	onWire := capture(t, b.ns, rightWAN, toPort(portVoice))
	end := l.callOver(t, f, portVoice, 13*time.Second)
	b.waitSession(t, portVoice, console.SessionReserved)
	time.Sleep(100 * time.Millisecond)
	marked, _ := onWire.Frames()
	b.kill(t)
	b.start(t, one)
	session := b.waitSession(t, portVoice, console.SessionReserved)
	if session.Class == "" {
		t.Errorf("session %+v", session)
	}
	time.Sleep(time.Second)
	frames, _ := onWire.Frames()
	unmarked := 0
	for _, f := range frames[len(marked):] {
		if dscpOf(f.Data) != dscp.VoiceAdmit {
			unmarked++
		}
	}
	if unmarked > 0 {
		t.Errorf("%d of %d voice packets went unmarked about the restart", unmarked, len(frames)-len(marked))
	}
	if st, err := b.Stats(t.Context()); err != nil || st.Shaper.Treatments > 2 || st.Shaper.ClassesUsed != 1 {
		t.Errorf("shaper %+v, %v; want one class in use", st.Shaper, err)
	}
	end().check(t)
	for _, b := range l.boxes {
		b.stop(t)
	}
	if added := before.Added(l.snapshot(t)); len(added) != 0 {
		t.Errorf("left in the kernel: %q", added)
	}
}

// A box that hangs does not hold up what it does not hold: its queue rules
// open by themselves. When it goes on, it works.
func TestHang(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startEdges(t, usualPolicies, "")
	b := l.boxes[0]
	b.expected = []string{`"level":"warn"`}               // that the rules were renewed late
	t.Cleanup(func() { _ = b.proc.Signal(unix.SIGCONT) }) // or it could not be stopped
	live, liveSink := l.open(t, cheatable{"reliable", portReliable, false})
	tr := send(live, liveSink, random(11, 6_000_000))
	b.waitFlow(t, portReliable, "cheated", isState(console.FlowCheated))

	b.signal(t, unix.SIGSTOP)
	stopped := time.Now()
	// A new flow that a policy claims: its first packets wait for nobody.
	server := listenUDP(t, l.b, at(addrB, portVoice+1))
	client := dialUDP(t, l.a, at(addrB, portVoice+1))
	buf := make([]byte, 100)
	eventually(t, 6*time.Second, "a new flow passes", func() error {
		_, writeErr := client.Write([]byte("hello"))
		deadlineErr := server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := server.Read(buf)
		return errors.Join(writeErr, deadlineErr, err)
	})
	passed := time.Since(stopped)
	if passed > 4*time.Second {
		t.Errorf("a new flow passed only after %s", passed)
	}
	t.Logf("a new flow passes %s after the hang", passed.Round(10*time.Millisecond))
	time.Sleep(time.Until(stopped.Add(2 * time.Second)))
	b.signal(t, unix.SIGCONT)
	tr.wait(t) // what passed unseen meanwhile does not confuse the engine
	_ = live.Close()
	_ = liveSink.Close()
	b.waitNoSession(t, portReliable)

	end := l.talk(t, portVoice+2, 10*time.Second)
	b.waitSession(t, portVoice+2, console.SessionReserved)
	end().check(t)
	source, sink := l.open(t, cheatable{"realtime", portRealtime, false})
	again := send(source, sink, random(12, 1_000_000))
	b.waitFlow(t, portRealtime, "cheated", isState(console.FlowCheated))
	again.wait(t)
}
