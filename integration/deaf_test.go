package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// ringBox is the box's address on the segment.
var ringBox = netip.MustParseAddr("10.3.0.1")

// messagesIn takes the messages out of a frame, and out of a Bundle in it.
func messagesIn(f []byte) (list []*wire.Message) {
	parts := [][]byte{payloadOf(f)}
	if wire.MsgType(parts[0][1]) == wire.Bundle {
		_, subs, err := wire.SplitBundle(parts[0])
		if err != nil {
			return nil
		}
		parts = subs
	}
	for _, b := range parts {
		if m, err := (wire.Options{RefreshReduction: true}).Parse(b); err == nil {
			list = append(list, m)
		}
	}
	return list
}

// copies counts how often each of a box's RESVs came to a peer after a time, by
// MESSAGE_ID.
func (p *peer) copies(t *testing.T, from time.Time) map[wire.MessageID]int {
	t.Helper()
	out := map[wire.MessageID]int{}
	frames := captured(t, p.heard)
	for _, f := range frames {
		if f.Outgoing || f.At.Before(from) {
			continue
		}
		for _, m := range messagesIn(f.Data) {
			if m.Type == wire.Resv && m.MessageID != nil {
				id := *m.MessageID
				id.AckDesired = false
				out[id]++
			}
		}
	}
	return out
}

// capable makes a PATH one of a neighbour that speaks RFC 2961.
func capable(id uint32) func(*wire.Message) {
	return func(m *wire.Message) {
		lasting(m)
		m.Flags = wire.RefreshReduction
		m.MessageID = &wire.MessageID{Epoch: 77, ID: id, AckDesired: true}
	}
}

// lasting is a refresh period that outlasts the test.
func lasting(m *wire.Message) { m.TimeValues.Refresh = 30_000 }

// acknowledge answers all that has come to a peer since a time.
func (p *peer) acknowledge(t *testing.T, from time.Time) {
	t.Helper()
	m := &wire.Message{Type: wire.Ack, Flags: wire.RefreshReduction}
	for id := range p.copies(t, from) {
		m.Acks = append(m.Acks, wire.MessageIDAck{Epoch: id.Epoch, ID: id.ID})
	}
	if len(m.Acks) == 0 {
		return
	}
	if err := p.Send(packetOf(t, m, p.addr, ringBox)); err != nil {
		t.Fatal(err)
	}
}

// reserveAt sets up a session of a peer's and returns how long it took until the
// box's RESV came back to it.
func (n *ring) reserveAt(t *testing.T, p *peer, dport uint16, lih uint32, change ...func(*wire.Message)) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := p.Send(p.path(t, dport, 4000, append(change, lasting)...)); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 8*time.Second)
	wait := func(at *peer, kind wire.MsgType) {
		t.Helper()
		if _, err := at.heard.Wait(ctx, func(f traffic.Frame) bool {
			return !f.Outgoing && !f.At.Before(begin) && slices.ContainsFunc(messagesIn(f.Data), func(m *wire.Message) bool { return m.Type == kind && m.Session.DstPort == dport })
		}); err != nil {
			t.Fatalf("no %v for port %d: %v", kind, dport, err)
		}
	}
	wait(&n.down, wire.Path)
	if err := n.down.Send(n.resv(t, p.addr, dport, 4000, lih, lasting)); err != nil {
		t.Fatal(err)
	}
	wait(p, wire.Resv)
	return time.Since(begin)
}

// A neighbour that speaks RFC 2961, has acknowledged and then stops to, and one
// whose receiving side is dead from the start while it goes on sending: each
// message to them is repeated a few times and no more (section 6.2), what waits
// for them is bounded, and neither a fourth's session nor the time that it takes to
// set up new ones is disturbed.
func TestDeafNeighboursRFC2961Section6(t *testing.T) {
	const (
		each = 40 // sessions of each
		most = 8  // transmissions of one message: after 50 ms, doubled up to 2 s
	)
	c := config{network: []string{"seg0", rightWAN}, capacity: "19mbit", policies: "  []\n", reliable: true}
	n := newRing(t, c)
	box := n.boxes[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kept := n.keep(ctx, t, &n.quiet, portQuiet)
	p, err := box.RSVPReservations(t.Context())
	if err != nil || len(p) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	path, _ := waitMessage(t, n.down.heard, wire.Path)
	lih := path.Hop.LIH
	neighbour := func(at *peer) (row console.RSVPNeighborRow) {
		t.Helper()
		rows, err := box.RSVPNeighbors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Address == at.addr.String() {
				return r
			}
		}
		return row
	}

	// The one proves that it can, and is then silent; the other never says a word of
	// what it hears.
	begin := time.Now()
	n.reserveAt(t, &n.deaf, 20_000, lih, capable(1))
	eventually(t, 8*time.Second, "it acknowledges", func() error {
		n.deaf.acknowledge(t, begin)
		if r := neighbour(&n.deaf); r.Reduction != console.ReductionYes || r.Unacked != 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	silent := time.Now()
	for i := range uint16(each) {
		for j, at := range []*peer{&n.deaf, &n.newborn} {
			port := 21_000 + i + uint16(j)*1000
			if err := at.Send(at.path(t, port, 4000, capable(uint32(100+i)))); err != nil {
				t.Fatal(err)
			}
			box.waitPath(t, port)
			if err := n.down.Send(n.resv(t, at.addr, port, 4000, lih, lasting)); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, 8*time.Second, "all are reserved", func() error {
		rows, err := box.Sessions(t.Context())
		got := 0
		for _, r := range rows {
			if r.State == console.SessionReserved {
				got++
			}
		}
		if err == nil && got != 2*each+2 {
			err = fmt.Errorf("%d of %d", got, 2*each+2)
		}
		return err
	})

	// While messages to them are repeated others are set up as ever.
	var slowest time.Duration
	unacked := 0
	for i := range uint16(10) {
		slowest = max(slowest, n.reserveAt(t, &n.quiet, 30_000+i, lih))
		for _, at := range []*peer{&n.deaf, &n.newborn} {
			unacked = max(unacked, neighbour(at).Unacked)
		}
	}
	if slowest > time.Second {
		t.Errorf("setting up a session took %v beside deaf neighbours", slowest)
	}
	t.Logf("the slowest of 10 set-ups took %v, up to %d messages waited for one neighbour", slowest, unacked)
	// One for each session, and what is sent beside: no more than before the ten set-ups.
	if unacked == 0 || unacked > each+4 {
		t.Errorf("%d messages wait for one neighbour, with %d sessions", unacked, each)
	}
	resident := box.resident(t)
	eventually(t, 20*time.Second, "the box gives up repeating", func() error {
		for _, at := range []*peer{&n.deaf, &n.newborn} {
			if r := neighbour(at); r.Unacked != 0 {
				return fmt.Errorf("%+v", r)
			}
		}
		return nil
	})
	given := time.Now()
	time.Sleep(soak(3*time.Second, time.Minute)) // there is nothing more to come but refreshes
	for _, at := range []*peer{&n.deaf, &n.newborn} {
		// Refreshes have the identifier of what they refresh: one in [0.5, 1.5] s.
		for _, span := range []struct {
			from     time.Time
			repeated int
		}{{silent, most}, {given, 0}} {
			worst, total := 0, 0
			for _, copies := range at.copies(t, span.from) {
				worst, total = max(worst, copies), total+copies
			}
			took := time.Since(span.from)
			t.Logf("%s: %d messages in %v for %d sessions, one of them %d times", at.addr, total, took.Round(time.Millisecond), each, worst)
			if bound := span.repeated + int(2*took.Seconds()) + 2; worst > bound || total == 0 || total > (each+1)*bound {
				t.Errorf("%s: one message came %d times in %v, all together %d; at most %d and %d", at.addr, worst, took, total, bound, (each+1)*bound)
			}
		}
		if r := neighbour(at); r.Unacked != 0 || r.Summary > each+1 {
			t.Errorf("what is kept for it: %+v", r)
		}
	}
	// What is kept is held to above. This finds only what grows without any bound: a
	// small heap is let grow to five times what is live (pkg/heap).
	if grown := box.resident(t) - resident; grown > 64<<20 {
		t.Errorf("the process has grown by %d bytes", grown)
	}
	to := time.Now()
	for _, side := range []struct {
		p    *peer
		kind wire.MsgType
	}{{&n.down, wire.Path}, {&n.quiet, wire.Resv}} {
		if longest := n.longestGap(t, side.p, side.kind, begin, to); longest > 2500*time.Millisecond {
			t.Errorf("no %s of the quiet session for %s", side.kind, longest)
		}
	}
	box.waitSession(t, portQuiet, console.SessionReserved)
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
}

// waitPath waits for path state of a session to a port.
func (b *box) waitPath(t *testing.T, port uint16) {
	t.Helper()
	eventually(t, 8*time.Second, fmt.Sprintf("PATH to port %d", port), func() error {
		rows, err := b.Sessions(t.Context())
		if err == nil && !slices.ContainsFunc(rows, func(r console.SessionRow) bool { return r.Dport == port }) {
			err = fmt.Errorf("%d sessions without it", len(rows))
		}
		return err
	})
}

// resident is how much memory a box's process has, in bytes.
func (b *box) resident(t *testing.T) (bytes int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.proc.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
