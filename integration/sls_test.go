package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// soldLevels are two service levels of the network; the second is that of the
// reservations of usualPolicies.
func soldLevels(af31 string) string {
	return ", sls: [{class: voice-admit, rate: 160kbit, burst: 1600B}, {class: af31, " + af31 + "}]"
}

// soldOut waits until a connection is refused by its level, and returns what the
// sender's box says.
func (b *box) soldOut(t *testing.T, port uint16, why string) console.FlowRow {
	t.Helper()
	row := b.waitSession(t, port, console.SessionRejected)
	if !strings.Contains(row.Error, why) || row.Class != "" {
		t.Errorf("%s: session %+v, want the error %q and no class", b.name, row, why)
	}
	return b.waitFlow(t, port, "not reserved, with the reason", func(r console.FlowRow) bool {
		return r.ReservedBPS == 0 && strings.Contains(r.Reason, "no reservation") && strings.Contains(r.Reason, why)
	})
}

func (b *box) reload(t *testing.T, file string) {
	t.Helper()
	b.write(t, file)
	if _, err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// level is the row of af31 of the sender's box.
func (b *box) level(t *testing.T) (row console.LevelRow) {
	t.Helper()
	links, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range linkRow(links, rightWAN).Levels {
		if l.PHB == "af31" {
			return l
		}
	}
	return row
}

// RFC 2998 section 4.1.1, steps 8 and 9: a reservation over what is left of its
// service level is refused by ResvErr with code 1 value 2, though the link has
// room, and the rows of its connection say why. Another level, a reload, or the
// time of day change what the level has and disturb nothing that is reserved.
func TestReservationOverItsLevelRFC2998Section4_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	one, two := l.edge(0, usualPolicies, ""), l.edge(1, usualPolicies, "")
	one.capacity = "50mbit"
	with := func(af31 string) string {
		c := one
		c.secured = soldLevels(af31)
		return c.String()
	}
	l.startAll(t, with("rate: 9mbit, burst: 128kB"), two.String())
	near := l.boxes[0]

	first, firstSink := l.open(t, cheatable{"realtime", portRealtime, false})
	pass(t, first, firstSink, random(1, 100_000))
	reserved := near.waitSession(t, portRealtime, console.SessionReserved)

	second, secondSink := l.open(t, cheatable{"reliable", portReliable, false})
	pass(t, second, secondSink, random(2, 100_000))
	near.soldOut(t, portReliable, "service level af31 of "+rightWAN+" has 125000 of 1125000 bytes/s left, asked for are 1000000")
	refusal, _ := waitMessage(t, rsvp, wire.ResvErr)
	if e := refusal.ErrorSpec; e == nil || e.Code != wire.ErrAdmission || e.Value != wire.AdmissionBandwidth {
		t.Errorf("ResvErr %+v, want code 1 value 2", e)
	}
	if row := l.boxes[1].waitSession(t, portReliable, console.SessionRejected); !strings.Contains(row.Error, "code 1 value 2") {
		t.Errorf("the receiver's box says %q", row.Error)
	}
	if got := near.level(t); got.State != console.LevelOpen || got.GrantedBPS != reservedRate || got.LimitBPS != 9_000_000 || got.FreeBPS != 1_000_000 || got.GrantedBurst != 64_000 {
		t.Errorf("level %+v", got)
	}
	// The level of calls has room.
	end := l.talk(t, portVoice, 2*time.Second)
	near.waitSession(t, portVoice, console.SessionReserved)
	end()

	near.reload(t, with("rate: 17mbit, burst: 128kB"))
	near.waitSession(t, portReliable, console.SessionReserved)
	if got := near.level(t); got.GrantedBPS != 2*reservedRate {
		t.Errorf("level %+v", got)
	}

	closed := time.Now().Add(2 * time.Hour)
	hour := func(t time.Time) string { return t.Format("15:04") }
	near.reload(t, with(fmt.Sprintf("rate: 17mbit, burst: 128kB, from: %q, until: %q", hour(closed), hour(closed.Add(time.Hour)))))
	if got := near.level(t); got.State != console.LevelClosed || got.GrantedBPS != 2*reservedRate || got.FreeBPS != 0 || len(got.Times) != 1 {
		t.Errorf("level %+v", got)
	}
	third, thirdSink := l.open(t, cheatable{"reverse", portReverse, true})
	pass(t, third, thirdSink, random(3, 100_000))
	near.waitFlow(t, portReverse, "not reserved, with the reason", func(r console.FlowRow) bool {
		return r.ReservedBPS == 0 && strings.Contains(r.Reason, "nothing at this time of day")
	})
	// The first one has been through all that in its class.
	if now := near.waitSession(t, portRealtime, console.SessionReserved); now.Class != reserved.Class || now.Sport != reserved.Sport || now.AgeS < reserved.AgeS {
		t.Errorf("the first reservation was %+v, now %+v", reserved, now)
	}
	pass(t, first, firstSink, random(4, 300_000))
	pass(t, second, secondSink, random(5, 300_000))
}

// pass sends data over a connection that stays open.
func pass(t *testing.T, from, to *net.TCPConn, data []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { _, err := from.Write(data); sent <- err }()
	got := make([]byte, len(data))
	if err := to.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the data did not pass: %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}
