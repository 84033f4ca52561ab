package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// SIGTERM gives cheated connections back to their ends, which complete without
// the box, and leaves the kernel as it was found.
func TestStopLeavesNothing(t *testing.T) {
	l := newLab(t, 2, nil)
	before := l.settled(t)
	one := l.edge(0, usualPolicies, "")
	one.capacity = "30mbit" // room for both
	l.startAll(t, one.String(), l.edge(1, usualPolicies, "").String())
	endVoice := l.talk(t, portVoice, 13*time.Second)
	transfers := l.cheatBoth(t)
	l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	notBlind(t, before, l.whole(t))
	begin := time.Now()
	l.boxes[0].stop(t)
	t.Logf("box 1 stopped within %s", time.Since(begin).Round(time.Millisecond))
	l.boxes[1].stop(t)
	after := l.whole(t)
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

// cheatBoth begins a transfer in each mode, and waits until the first box cheats both.
func (l *lab) cheatBoth(t *testing.T) (transfers []*transfer) {
	t.Helper()
	for i, c := range bothModes {
		source, sink := l.open(t, c)
		transfers = append(transfers, send(source, sink, random(uint64(i), 8_000_000)))
	}
	for _, c := range bothModes {
		l.boxes[0].waitFlow(t, c.port, "cheated", func(r console.FlowRow) bool {
			return r.State == console.FlowCheated && r.FakeAcks > 100
		})
	}
	return transfers
}

// notBlind holds that snapshots show boxes at work, by something of every kind that must
// be gone when they have ended.
func notBlind(t *testing.T, before, during rig.Snapshot) {
	t.Helper()
	added := before.Added(during)
	for _, kind := range []string{"pin ", "qdisc ", "class ", "programs ", "nft table ", "nft rule ", "nft elements "} {
		if !slices.ContainsFunc(added, func(line string) bool { return strings.HasPrefix(line, kind) }) {
			t.Errorf("the boxes work, and there is no new %s: the snapshot is blind", kind)
		}
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
	heard := heardSo(t, onWire)
	b.kill(t)
	b.start(t, one)
	session := b.waitSession(t, portVoice, console.SessionReserved)
	if session.Class == "" {
		t.Errorf("session %+v", session)
	}
	time.Sleep(time.Second)
	if wrong, all := unmarked(t, onWire, heard, dscp.VoiceAdmit); wrong > 0 || all < 40 {
		t.Errorf("%d of %d voice packets went unmarked about the restart", wrong, all)
	}
	b.lookedAtNone(t)
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

// lookedAtNone fails the test if a packet has waited until its flow was decided about.
func (b *box) lookedAtNone(t *testing.T) {
	t.Helper()
	if n := b.queued(t)["first"]; n > 0 {
		t.Errorf("%s: %d packets of a flow that was reserved before the restart have waited for a decision", b.name, n)
	}
}

// With `on_stop: keep` a box that is stopped leaves the treatment of reserved flows,
// which lose no marking until the next process has adopted it; that one leaves, when
// it is stopped cleanly, the kernel as the first one found it.
func TestKeepIsAdopted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	before := l.settledOf(t, l.wholeOwn)
	// Long enough for a restart on a busy machine.
	clean := strings.Replace(l.edge(0, usualPolicies, "").String(), "on_crash: 5s", "on_crash: 30s", 1)
	l.startAll(t, "on_stop: keep\n"+clean, l.edge(1, usualPolicies, "").String())
	b := l.boxes[0]
	onWire := capture(t, b.ns, rightWAN, toPort(portVoice))
	end := l.talk(t, portVoice, 14*time.Second)
	b.waitSession(t, portVoice, console.SessionReserved)
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := send(source, sink, random(31, 4_000_000))
	b.waitFlow(t, portReliable, "cheated", isState(console.FlowCheated))
	time.Sleep(200 * time.Millisecond)
	heard := heardSo(t, onWire)

	b.stop(t)
	left := before.Added(l.wholeOwn(t))
	if !slices.ContainsFunc(left, func(line string) bool { return strings.HasPrefix(line, "class "+b.ns.Name()) }) {
		t.Error("nothing is kept")
	}
	if tables := l.tables(t, b); len(tables) > 0 {
		t.Errorf("nobody answers the queues, and packets are still sent there: %q", tables)
	}
	time.Sleep(time.Second)
	b.start(t, clean)
	b.waitSession(t, portVoice, console.SessionReserved)
	data.wait(t)
	end().check(t)
	if wrong, all := unmarked(t, onWire, heard, dscp.VoiceAdmit); wrong > 0 || all < 40 {
		t.Errorf("%d of %d voice packets went unmarked about the restart", wrong, all)
	}
	for _, b := range l.boxes {
		b.stop(t)
	}
	after := l.wholeOwn(t)
	if added, gone := before.Added(after), after.Added(before); len(added)+len(gone) != 0 {
		t.Errorf("left in the kernel: %q; taken away: %q", added, gone)
	}
}
