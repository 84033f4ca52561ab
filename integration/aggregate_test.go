package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const (
	portCarried = 5101 // and on: calls in an aggregate, 80 kbit/s each
	// Senders are declared by hand, receivers answered for by policy. The aggregates'
	// blocks are of five calls.
	carriedPolicies = `
  - name: calls
    match: {protocol: udp, to_port: 5101-5199}
    reserve: {role: receiver, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
    mark: af31
`
	intoTheRegion = ", aggregate: {step: 400kbit, high: 90%, low: 50%, hold: 3s}"
)

// region is an aggregator, a router inside and a deaggregator (RFC 3175).
func region(t *testing.T, reliable bool, inside string) *lab {
	t.Helper()
	l := newLab(t, 3, nil)
	acrossTheRegion(t, l)
	var list []string
	for i := range l.boxes {
		c := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: "  []\n", secured: inside}
		if i != 1 {
			c = l.edge(i, carriedPolicies, "")
			c.secured = intoTheRegion
		}
		c.reliable = reliable
		list = append(list, c.String())
	}
	l.startAll(t, list...)
	return l
}

// inside are the reservations of the router inside.
func (l *lab) inside(t *testing.T) (list []console.SessionRow) {
	t.Helper()
	rows, err := l.boxes[1].Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State == console.SessionReserved {
			list = append(list, r)
		}
	}
	return list
}

// waitInside waits until the router inside has one reservation, of a size; 0: none.
func (l *lab) waitInside(t *testing.T, bps float64) {
	t.Helper()
	eventually(t, 15*time.Second, fmt.Sprintf("one aggregate of %.0f bit/s", bps), func() error {
		list := l.inside(t)
		switch {
		case bps == 0 && len(list) == 0:
			return nil
		case len(list) != 1 || list[0].Format != "aggregate" || list[0].FlowSpec == nil || list[0].FlowSpec.R*8 != bps:
			return fmt.Errorf("the router inside has %+v", list)
		}
		return nil
	})
}

// changes is how often the aggregate has changed, as the deaggregator counts.
func (l *lab) changes(t *testing.T) uint64 {
	t.Helper()
	s, err := l.boxes[2].Stats(t.Context())
	if err != nil || s.RSVP.Aggregation == nil {
		t.Fatalf("%+v, %v", s.RSVP.Aggregation, err)
	}
	return s.RSVP.Aggregation.Changes
}

// begin declares the sender of a call by hand, and returns the reservation's number.
func (l *lab) begin(t *testing.T, f family, n int) string {
	t.Helper()
	out := l.boxes[0].must(t, "reserve", "udp", at(f.src, portSource).String(), at(f.dst, uint16(portCarried+n)).String(),
		"--bandwidth", "80kbit", "--burst", "1500B", "--no-wait", "--json")
	var row console.ReservationRow
	if err := json.Unmarshal([]byte(out), &row); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return row.ID
}

// Calls from A to B across a region. The router inside has one
// reservation however many they are; end-to-end messages that routers look at are seen
// there as protocol 134 alone; packets have the aggregate's mark; and the aggregate
// changes when a water mark is passed and not before.
func TestAggregationRFC3175(t *testing.T) {
	roottest.Need(t)
	t.Parallel()
	for name, c := range map[string]struct {
		reliable bool
		inside   string
	}{
		"RFC 2205": {false, ""}, "RFC 2961, by DSCP inside": {true, ", classify: dscp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aggregation(t, c.reliable, c.inside)
		})
	}
}

func aggregation(t *testing.T, reliable bool, inner string) {
	l := region(t, reliable, inner)
	l.watch(t, leftWAN, rightWAN)
	inside := capture(t, l.boxes[1].ns, leftWAN, func(f []byte) bool {
		return isIPv4(f) && (f[ethernet+9] == packet.ProtoRSVP || f[ethernet+9] == packet.ProtoRSVPE2E)
	})
	calls := capture(t, l.boxes[1].ns, rightWAN, toPort(portCarried))
	others := capture(t, l.boxes[1].ns, rightWAN, toPort(portOther))

	l.streamEvery(t, 20*time.Millisecond, portSource, portCarried)
	l.streamEvery(t, 20*time.Millisecond, portSource+1, portOther)
	ids := []string{l.begin(t, ipv4, 0)}
	l.boxes[0].waitSession(t, portCarried, console.SessionReserved)
	for n := 1; n < 4; n++ {
		ids = append(ids, l.begin(t, ipv4, n))
	}
	for n := range 4 {
		for _, i := range []int{0, 2} {
			row := l.boxes[i].waitSession(t, uint16(portCarried+n), console.SessionReserved)
			if a := row.Aggregate; a == nil || a.PHB != "af31" {
				t.Errorf("box %d: %+v rides in %+v", i+1, row, row.Aggregate)
			}
		}
	}
	l.waitInside(t, 400_000)
	if n := l.changes(t); n != 1 {
		t.Errorf("%d changes of the aggregate for four calls", n)
	}
	ids = append(ids, l.begin(t, ipv4, 4)) // the fifth: 400 kbit/s of 400
	l.boxes[0].waitSession(t, portCarried+4, console.SessionReserved)
	l.waitInside(t, 800_000)
	for n := 5; n < 9; n++ {
		ids = append(ids, l.begin(t, ipv4, n))
		l.boxes[0].waitSession(t, uint16(portCarried+n), console.SessionReserved)
	}
	l.waitInside(t, 800_000)
	if n := l.changes(t); n != 2 {
		t.Errorf("%d changes of the aggregate for nine calls", n)
	}
	l.checkRows(t, 9)
	l.checkClass(t, inner != "")
	l.checkInside(t, inside)
	marked(t, calls, dscp.AF31)
	marked(t, others, dscp.Default)

	// They end; the aggregate shrinks when it has been too large for a while, and goes
	// with the last.
	for _, id := range ids[1:] {
		l.boxes[0].must(t, "release", id)
	}
	l.waitInside(t, 400_000)
	if n := l.changes(t); n != 3 {
		t.Errorf("%d changes of the aggregate so far", n)
	}
	l.boxes[0].must(t, "release", ids[0])
	l.nothingLeft(t)
	if n := l.changes(t); n != 4 {
		t.Errorf("%d changes of the aggregate in all", n)
	}
}

// nothingLeft waits until no box has a session, nor anything reserved.
func (l *lab) nothingLeft(t *testing.T) {
	t.Helper()
	for _, b := range l.boxes {
		eventually(t, 15*time.Second, b.name+" has nothing left", func() error {
			rows, err := b.Sessions(t.Context())
			links, failed := b.Links(t.Context())
			for _, k := range links {
				if k.ReservedBPS != 0 || k.Reservations != 0 {
					failed = errors.Join(failed, fmt.Errorf("%+v", k))
				}
			}
			if len(rows) > 0 {
				failed = errors.Join(failed, fmt.Errorf("%+v", rows))
			}
			return errors.Join(err, failed)
		})
	}
}

// The same over IPv6 (RFC 3175 sections 3.3 to 3.5, RFC 2711): the edges are named by
// their global addresses. (tshark does not know that session's C-Type.) And a router inside that loses all it knows takes the
// reservation of every call along (section 2.10), until it has that of the aggregate again.
func TestAggregationOverIPv6RFC3175(t *testing.T) {
	roottest.Need(t)
	t.Parallel()
	l := region(t, true, "")
	inside := capture(t, l.boxes[1].ns, leftWAN, func(f []byte) bool {
		return isIPv6(f) && f[ethernet+6] == packet.ProtoHopByHop
	})
	var ids []string
	for n := range 3 {
		ids = append(ids, l.begin(t, ipv6, n))
		for _, i := range []int{0, 2} {
			if row := l.boxes[i].waitSession(t, uint16(portCarried+n), console.SessionReserved); row.Aggregate == nil {
				t.Errorf("%+v", row)
			}
		}
	}
	l.waitInside(t, 400_000)
	hidden := 0
	frames := captured(t, inside)
	for _, f := range frames {
		switch v, err := packet.Parse(f.Data[ethernet:]); {
		case err != nil:
			t.Error(err)
		case v.Proto() == packet.ProtoRSVPE2E && v.Dst() == addrB6:
			hidden++
		case v.Dst() == addrB6:
			t.Errorf("protocol %d to B", v.Proto())
		}
	}
	if hidden < 3 {
		t.Errorf("%d hidden messages", hidden)
	}
	router := l.boxes[1]
	router.stop(t)
	eventually(t, 20*time.Second, "the calls have lost their reservation", func() error {
		for n := range 3 {
			if row, err := l.boxes[0].session(t, uint16(portCarried+n)); err != nil || row.State == console.SessionReserved {
				return fmt.Errorf("%+v, %w", row, err)
			}
		}
		return nil
	})
	router.launch(t, config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: "  []\n", reliable: true}.String())
	router.wait(t)
	for n := range 3 {
		l.boxes[0].waitSession(t, uint16(portCarried+n), console.SessionReserved)
	}
	l.waitInside(t, 400_000)
	for _, id := range ids {
		l.boxes[0].must(t, "release", id)
	}
	l.nothingLeft(t)
}

// checkRows looks at what the boxes at the edge say of the aggregate.
func (l *lab) checkRows(t *testing.T, calls int) {
	t.Helper()
	for _, i := range []int{0, 2} {
		rows, err := l.boxes[i].Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(rows, func(r console.SessionRow) bool { return r.Format == "aggregate" })
		if at < 0 {
			t.Fatalf("box %d has no aggregate: %+v", i+1, rows)
		}
		if c := rows[at].Carries; c == nil || c.Reservations != calls || c.Waiting != 0 || c.ReservedBPS != 800_000 || c.UsedBPS != uint64(calls)*80_000 {
			t.Errorf("box %d: %+v carries %+v", i+1, rows[at], c)
		}
	}
	// On the link into the region only the aggregate takes something.
	links, err := l.boxes[0].Links(t.Context())
	if row := linkRow(links, rightWAN); err != nil || row.ReservedBPS != 800_000 || row.Reservations != calls+1 {
		t.Errorf("%+v, %v", row, err)
	}
}

// checkClass looks at the class that the router inside has for the aggregate, if packets
// are classified by DSCP there.
func (l *lab) checkClass(t *testing.T, byDSCP bool) {
	t.Helper()
	row := l.inside(t)[0]
	if !byDSCP {
		if row.Class != "" {
			t.Errorf("%+v", row)
		}
		return
	}
	links, err := l.boxes[1].Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range linkRow(links, rightWAN).Classes {
		if c.Class == row.Class && row.Class != "" {
			if c.RateBPS < 800_000 || c.RateBPS > 1_200_000 || c.Packets == 0 {
				t.Errorf("class %+v", c)
			}
			return
		}
	}
	t.Errorf("%+v has class %q, which is none of %+v", row, row.Class, linkRow(links, rightWAN).Classes)
}

// checkInside looks at the messages that the router inside has seen, with our decoder
// and with tshark.
func (l *lab) checkInside(t *testing.T, c *traffic.Capture) {
	t.Helper()
	hidden, aggregates := 0, map[wire.Session]bool{}
	var frames []traffic.Frame
	seenFrames := captured(t, c)
	for _, f := range seenFrames {
		v, err := packet.Parse(f.Data[ethernet:])
		if err != nil || v.Fragment() {
			continue
		}
		if wire.IsBundle(v.Transport()) {
			continue // between neighbours; what is in it is of them alone
		}
		m, err := wire.Options{Formats: wire.AllFormats, RefreshReduction: true}.Parse(v.Transport())
		if err != nil {
			t.Errorf("%v: %x", err, f.Data)
			continue
		}
		frames = append(frames, f)
		end2end := m.Session.Dst.IsValid() && m.Session.Format == wire.FormatPorts
		switch {
		case v.Proto() == packet.ProtoRSVPE2E:
			hidden++
			if !end2end || m.Type != wire.Path && m.Type != wire.PathTear && m.Type != wire.ResvConf {
				t.Errorf("%v of %v as protocol 134", m.Type, m.Session)
			}
		case end2end && (m.Type == wire.Path || m.Type == wire.PathTear || m.Type == wire.ResvConf):
			t.Errorf("%v of %v as protocol 46", m.Type, m.Session)
		case m.Session.Format == wire.FormatAggregate:
			aggregates[m.Session.Key()] = true
		}
	}
	if hidden < 9 || len(aggregates) != 1 {
		t.Errorf("%d hidden messages, aggregates %v", hidden, aggregates)
	}
	file := filepath.Join(t.TempDir(), "inside.pcap")
	writePcap(t, file, frames)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, roottest.Tool(t, "tshark"), "-r", file, "-d", "ip.proto==134,rsvp",
		"-T", "fields", "-e", "ip.proto", "-e", "rsvp.msg", "-e", "rsvp.session.ip", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.SplitSeq(strings.TrimRight(string(out), "\n"), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) != 4 || fields[3] != "" {
			t.Errorf("tshark: %q", line)
			continue
		}
		seen[fields[0]+" "+fields[1]]++
		// 1: Path, 5: PathTear, 7: ResvConf of sessions with B.
		if slices.Contains([]string{"1", "5", "7"}, fields[1]) && (fields[2] == addrB.String()) != (fields[0] == "134") {
			t.Errorf("tshark: %q", line)
		}
	}
	if seen["134 1"] == 0 || seen["46 1"] == 0 || seen["46 2"] == 0 {
		t.Errorf("tshark sees %v", seen)
	}
}

// marked waits for packets that have a mark and those of the last moment no other.
func marked(t *testing.T, c *traffic.Capture, code uint8) {
	t.Helper()
	eventually(t, 8*time.Second, fmt.Sprintf("packets marked %s", dscp.Name(code)), func() error {
		list := captured(t, c)
		if len(list) < 20 {
			return fmt.Errorf("%d packets", len(list))
		}
		for _, f := range list[len(list)-20:] {
			if dscpOf(f.Data) != code {
				return fmt.Errorf("a packet has mark %d", dscpOf(f.Data))
			}
		}
		return nil
	})
}

// RFC 3175 section 1.4.11: the edges are neighbours of each other for the messages of
// calls, of the router inside for those of the aggregate; with INTEGRITY each proves itself
// to the other.
func TestAggregationWithKeysRFC3175Section1_4_11(t *testing.T) {
	roottest.Need(t)
	t.Parallel()
	l := newLab(t, 3, nil)
	acrossTheRegion(t, l)
	var list []string
	for i, b := range l.boxes {
		keys := ", integrity: [" + key(1, b.secret(t, "key", "a secret of the region"), "") + "]"
		c := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", policies: "  []\n", secured: keys}
		if i != 1 {
			c = l.edge(i, carriedPolicies, "")
			c.secured = intoTheRegion + keys
		}
		c.reliable = true
		list = append(list, c.String())
	}
	l.startAll(t, list...)
	id := l.begin(t, ipv4, 0)
	for _, i := range []int{0, 2} {
		if row := l.boxes[i].waitSession(t, portCarried, console.SessionReserved); row.Aggregate == nil {
			t.Errorf("%+v", row)
		}
	}
	l.waitInside(t, 400_000)
	for _, b := range l.boxes {
		if s := b.integrity(t); wrong(s) != 0 || s.Accepted == 0 || b != l.boxes[1] && s.Handshakes < 2 {
			t.Errorf("%s: %+v", b.name, s)
		}
	}
	l.boxes[0].must(t, "release", id)
	l.nothingLeft(t)
}
