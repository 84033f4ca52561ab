package integration

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A reservation beyond what the link may grant is refused with a reason, its
// flow passes as best effort, and it is granted when there is room again.
func TestAdmission(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	one, two := l.edge(0, usualPolicies, ""), l.edge(1, usualPolicies, "")
	one.capacity = "12mbit" // 80% of it are 9.6: one of 8, and not two
	l.startAll(t, one.String(), two.String())

	first, firstSink := l.open(t, cheatable{"realtime", portRealtime, false})
	firstData := send(first, firstSink, random(1, 3_000_000))
	l.boxes[0].waitSession(t, portRealtime, console.SessionReserved)

	second, secondSink := l.open(t, cheatable{"reliable", portReliable, false})
	data, wrote := random(2, 300_000), make(chan error, 1)
	go func() { // more than may fit into the sockets' buffers
		_, err := second.Write(data)
		wrote <- err
	}()
	row := l.boxes[0].waitSession(t, portReliable, console.SessionRejected)
	if row.Error == "" || row.Class != "" {
		t.Errorf("rejected session %+v, want an error and no class", row)
	}
	refusal, _ := waitMessage(t, rsvp, wire.ResvErr)
	if refusal.ErrorSpec == nil || refusal.ErrorSpec.Code != wire.ErrAdmission {
		t.Errorf("ResvErr %+v, want an admission control failure (RFC 2205 Appendix B)", refusal.ErrorSpec)
	}
	flow := l.boxes[0].waitFlow(t, portReliable, "not reserved, with the reason", func(r console.FlowRow) bool {
		return r.State == console.FlowWatched && strings.Contains(r.Reason, "no reservation")
	})
	if flow.ReservedBPS != 0 {
		t.Errorf("flow %+v", flow)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(secondSink, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the refused flow's data did not pass: %v", err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if links, err := l.boxes[0].Links(t.Context()); err != nil || linkRow(links, rightWAN).ReservedBPS != reservedRate {
		t.Errorf("links %+v, %v: want one reservation", links, err)
	}

	firstData.wait(t)
	_ = first.Close()
	_ = firstSink.Close()
	l.boxes[0].waitNoSession(t, portRealtime)
	l.boxes[0].waitSession(t, portReliable, console.SessionReserved)
	// The cheat starts late, in the middle of the connection.
	send(second, secondSink, random(3, 500_000)).wait(t)
	st, err := l.boxes[0].Stats(t.Context())
	if err != nil || st.Admission.Refused == 0 || st.Admission.Granted != 2 {
		t.Errorf("admission %+v, %v", st.Admission, err)
	}
}

func linkRow(links []console.LinkRow, name string) console.LinkRow {
	for _, row := range links {
		if row.Name == name {
			return row
		}
	}
	return console.LinkRow{}
}

// threeBoxes are two edges and a transit router, which has no host.
func (l *lab) threeBoxes(middle string) []string {
	transit := config{network: []string{leftWAN, rightWAN}, capacity: middle, policies: "  []\n"}
	return []string{l.edge(0, usualPolicies, "").String(), transit.String(), l.edge(2, usualPolicies, "").String()}
}

// A transit box reserves too, on the interface by which the data leaves.
func TestTransit(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.startAll(t, l.threeBoxes("19mbit")...)
	heard := capture(t, l.b, hostIface, toPort(portVoice))
	end := l.talk(t, portVoice, 12*time.Second)
	hopAddr := func(i, end int) string { v4, _ := hop(i, end); return v4.String() }
	for i, want := range []struct{ role, prev, next, iface string }{
		{"sender-proxy", "", hopAddr(0, 2), rightWAN},
		{"transit", hopAddr(0, 1), hopAddr(1, 2), rightWAN},
		{"receiver-proxy", hopAddr(1, 1), "", lanIface},
	} {
		row := l.boxes[i].waitSession(t, portVoice, console.SessionReserved)
		if row.Role != want.role || row.PrevHop != want.prev || row.NextHop != want.next || row.Interface != want.iface || (row.Class == "") != (want.iface == lanIface) {
			t.Errorf("box %d: %+v, want %+v", i+1, row, want)
		}
		links, err := l.boxes[i].Links(t.Context())
		if got := linkRow(links, want.iface); err != nil || (want.iface != lanIface && got.ReservedBPS != 80_000) {
			t.Errorf("box %d: link %+v, %v", i+1, got, err)
		}
	}
	// The transit box marks and polices by its own treatment.
	l.boxes[1].waitFlow(t, portVoice, "treated in the middle", func(r console.FlowRow) bool { return r.ConformPackets > 20 })
	before := heardSo(t, heard)
	l.boxes[0].stop(t)
	for _, b := range l.boxes[1:] {
		b.waitNoSession(t, portVoice)
	}
	end().checkStop(t, before)
}

// A transit box without room refuses for all.
func TestTransitRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	rsvp := capture(t, l.boxes[1].ns, rightWAN, isRSVP)
	l.startAll(t, l.threeBoxes("5mbit")...)
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := send(source, sink, random(1, 300_000))
	refusal, _ := waitMessage(t, rsvp, wire.ResvErr)
	if refusal.ErrorSpec == nil || refusal.ErrorSpec.Code != wire.ErrAdmission {
		t.Errorf("ResvErr %+v", refusal.ErrorSpec)
	}
	for i, b := range l.boxes[1:] {
		row := b.waitSession(t, portReliable, console.SessionRejected)
		if row.Error == "" {
			t.Errorf("box %d: %+v, want an error", i+2, row)
		}
	}
	// The sender's box sees no RESV; the receiver's proxy tells it by PathErr
	// (RFC 5946 section 3.1).
	if row := l.boxes[0].waitSession(t, portReliable, console.SessionRejected); row.Error == "" || row.FlowSpec != nil {
		t.Errorf("box 1: %+v, want an error and no flowspec", row)
	}
	data.wait(t)
}
