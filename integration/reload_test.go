package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

const (
	portMarked = 6000
	af11       = 10 // RFC 2597 section 6
)

const markPolicy = `
  - name: marked
    match: {protocol: udp, to_port: 6000}
    mark: af11
`

// A bad file is refused with its error's place and changes nothing; a good one
// is taken; neither disturbs what is reserved.
func TestReload(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startPlainEdges(t, usualPolicies)
	b := l.boxes[0]
	b.expected = []string{`"level":"error"`} // of the refused reload
	onWire := capture(t, b.ns, rightWAN, toPort(portVoice))
	end := l.talk(t, portVoice, 13*time.Second)
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := send(source, sink, random(7, 6_000_000))
	b.waitSession(t, portVoice, console.SessionReserved)
	b.waitFlow(t, portReliable, "cheated", isState(console.FlowCheated))
	time.Sleep(100 * time.Millisecond) // packets that left before the reservation are seen
	before := captured(t, onWire)

	good := l.edge(0, usualPolicies+markPolicy, "").String()
	bad := strings.Replace(good, "mark: af11", "mrak: af11", 1)
	line := strings.Count(bad[:strings.Index(bad, "mrak")], "\n") + 1
	b.write(t, bad)
	b.signal(t, unix.SIGHUP)
	place := fmt.Sprintf("box.yaml:%d:5: ", line)
	eventually(t, 5*time.Second, "the refusal is told", func() error {
		st, err := b.Status(t.Context())
		if err == nil && (st.Reload.Failed != 1 || st.Reload.OK || !strings.Contains(st.Reload.Error, place) || st.Policies != 4) {
			err = fmt.Errorf("status %+v", st)
		}
		if err == nil && !strings.Contains(b.proc.Stderr(), place) {
			err = fmt.Errorf("the log does not say %q", place)
		}
		return err
	})

	b.write(t, good)
	b.signal(t, unix.SIGHUP)
	eventually(t, 5*time.Second, "the good file is taken", func() error {
		st, err := b.Status(t.Context())
		if err == nil && (st.Reload.Count != 2 || !st.Reload.OK || st.Policies != 5) {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})
	marked := capture(t, b.ns, rightWAN, toPort(portMarked))
	c := dialUDP(t, l.a, at(addrB, portMarked))
	listenUDP(t, l.b, at(addrB, portMarked))
	for range 5 {
		if _, err := c.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	waitFrame(t, marked, "marked by the new policy", func(f []byte) bool { return dscpOf(f) == af11 })

	if row, err := b.flow(t, portReliable); err != nil || row.State != console.FlowCheated {
		t.Errorf("the cheated flow after the reload: %+v, %v", row, err)
	}
	data.wait(t)
	end().check(t)
	frames := captured(t, onWire)
	for _, f := range frames[len(before):] {
		if dscpOf(f.Data) != dscp.VoiceAdmit {
			t.Fatalf("a voice packet has DSCP %d after the reload", dscpOf(f.Data))
		}
	}
	if st, err := b.Stats(t.Context()); err != nil || st.Shaper.ExceedPackets+st.Shaper.DroppedPackets != 0 {
		t.Errorf("shaper %+v, %v", st.Shaper, err)
	}
}

// A reload that takes a policy away gives its connections back to their ends
// and ends their reservations; what the policy did not have is not disturbed.
func TestReloadRemovesPolicy(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, badWAN(8)) // so that bytes are in the box's hand
	l.startPlainEdges(t, usualPolicies)
	b := l.boxes[0]
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := send(source, sink, random(8, 3_000_000))
	end := l.talk(t, portVoice, 12*time.Second)
	b.waitFlow(t, portReliable, "sent again by the box", func(r console.FlowRow) bool { return r.Retransmits > 2 })
	b.waitSession(t, portVoice, console.SessionReserved)
	b.write(t, l.edge(0, voicePolicy, "").String())
	if st, err := b.Reload(t.Context()); err != nil || st.Policies != 1 {
		t.Fatalf("reload: %+v, %v", st, err)
	}
	b.waitNoSession(t, portReliable)
	l.boxes[1].waitNoSession(t, portReliable)
	eventually(t, 8*time.Second, "the link has the voice's reservation alone", func() error {
		links, err := b.Links(t.Context())
		if row := linkRow(links, rightWAN); err == nil && row.ReservedBPS != 80_000 {
			err = fmt.Errorf("reserved %d bit/s", row.ReservedBPS)
		}
		return err
	})
	data.wait(t)
	if row := b.waitSession(t, portVoice, console.SessionReserved); row.AgeS > 10 {
		t.Errorf("voice session %+v", row)
	}
	if c := end(); c.lost > c.sent/10 {
		t.Errorf("voice over a WAN that loses 1%%: %+v", c)
	}
	for _, b := range l.boxes {
		b.stop(t)
	}
}
