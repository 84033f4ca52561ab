package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const (
	portHand   = 5500 // no policy has it
	portSource = 4000
)

// startBare starts both boxes without a policy.
func (l *lab) startBare(t *testing.T, capacity string) {
	t.Helper()
	l.watch(t, leftWAN, rightWAN)
	var list []string
	for i := range l.boxes {
		list = append(list, l.bare(i, capacity))
	}
	l.startAll(t, list...)
}

func (l *lab) bare(i int, capacity string) string {
	c := l.edge(i, "  []\n", "")
	c.capacity = capacity
	return c.String()
}

// cli runs the program as a client of the box.
func (b *box) cli(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(args, "-s", b.socket())...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err, exit := cmd.Run(), (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// must runs the program and fails the test unless it succeeds.
func (b *box) must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := b.cli(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("%s: qosproxy %v: exit code %d: %s%s", b.name, args, code, stdout, stderr)
	}
	return stdout
}

// waitReservation waits until a reservation by hand is in a state.
func (b *box) waitReservation(t *testing.T, id, state string) console.ReservationRow {
	t.Helper()
	var row console.ReservationRow
	eventually(t, 8*time.Second, fmt.Sprintf("%s: reservation %s %s", b.name, id, state), func() (err error) {
		if row, err = b.Reservation(t.Context(), id); err == nil && row.State != state {
			err = fmt.Errorf("it is %+v", row)
		}
		return err
	})
	return row
}

// stream sends a datagram every 5 ms from a port of A to a port of B, until the
// test ends.
func (l *lab) stream(t *testing.T, sport, dport uint16) {
	t.Helper()
	l.streamEvery(t, 5*time.Millisecond, sport, dport)
}

func (l *lab) streamEvery(t *testing.T, pause time.Duration, sport, dport uint16) {
	t.Helper()
	sink := listenUDP(t, l.b, at(addrB, dport))
	go func() {
		for buf := make([]byte, 2000); ; {
			if _, err := sink.Read(buf); err != nil {
				return // the test is over
			}
		}
	}()
	source := udpFrom(t, l.a, sport, dport)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for packet := make([]byte, 100); ; {
			_, _ = source.Write(packet) // what is lost is another test's matter
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
}

func udpFrom(t *testing.T, ns *netns.NetNS, sport, dport uint16) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := ns.Do(func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(at(addrA, sport)), net.UDPAddrFromAddrPort(at(addrB, dport)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var handFlow = []string{"udp", "10.1.0.2:4000", "10.2.0.2:5500"}

func reserve(more ...string) []string {
	return append(append([]string{"reserve"}, handFlow...), more...)
}

// Both ends of a flow that no policy knows are reserved by hand, without a
// packet of it (RFC 2205 section 3.1.3): it is marked and has its class. The
// reservation outlives the daemon, and ends when it is released.
func TestReserveByHand(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	rsvp := capture(t, one.ns, rightWAN, isRSVP)
	heard := capture(t, l.b, hostIface, toPort(portHand))
	l.startBare(t, "19mbit")
	told := follow(t, one)

	// The receiver's side waits for PATH, and says so.
	waiting := two.must(t, reserve("--bandwidth", "1mbit", "--burst", "8kB", "--mark", "ef", "--no-wait", "--owner", "ops")...)
	if !strings.Contains(waiting, "reservation 1: inactive, waiting for PATH") {
		t.Errorf("%s", waiting)
	}
	// PATH without any packet of the flow.
	out := one.must(t, reserve("--bandwidth", "1mbit", "--burst", "8kB", "--mark", "ef", "--comment", "a test")...)
	if !strings.Contains(out, "reservation 1: reserved, class 1:10, marked ef") {
		t.Errorf("%s", out)
	}
	row := one.waitReservation(t, "1", console.SessionReserved)
	if row.Role != "sender-proxy" || row.Comment != "a test" || row.PHB != "ef" || row.FlowSpec == nil || row.FlowSpec.R != 125_000 || row.TSpec.B != 8000 {
		t.Errorf("%+v", row)
	}
	far := two.waitReservation(t, "1", console.SessionReserved)
	if far.Role != "receiver-proxy" || far.Owner != "ops" || far.Reason != "" {
		t.Errorf("%+v", far)
	}
	l.stream(t, portSource, portHand)
	waitFrame(t, heard, "the flow marked ef at B", func(f []byte) bool { return dscpOf(f) == dscp.EF })
	flow := one.waitFlow(t, portHand, "counted as conforming", func(r console.FlowRow) bool { return r.ConformPackets > 50 })
	if flow.State != console.FlowManaged || flow.Policy != "by-hand:1" || flow.Class != "1:10" || flow.ReservedBPS != 1_000_000 {
		t.Errorf("%+v", flow)
	}
	if q := one.queued(t); q["first"]+q["cheat"] != 0 {
		t.Errorf("packets went to user space: %v", q)
	}

	checkRSVPViews(t, one)
	for _, want := range []string{"session path", "session reserved", "reservation 1 made inactive", "reservation 1 state reserved"} {
		told(want)
	}

	// A reload of the configuration does not touch it.
	one.must(t, "reload")
	one.waitReservation(t, "1", console.SessionReserved)

	// A restart brings it back with its id.
	one.stop(t)
	waitMessage(t, rsvp, wire.PathTear)
	two.waitNoSession(t, portHand)
	two.waitReservation(t, "1", console.SessionInactive)
	one.start(t, l.bare(0, "19mbit"))
	again := one.waitReservation(t, "1", console.SessionReserved)
	if again.Since != row.Since || again.Comment != row.Comment || again.PHB != "ef" {
		t.Errorf("after a restart %+v, before %+v", again, row)
	}
	two.waitReservation(t, "1", console.SessionReserved)
	list := one.must(t, "reservations")
	if !strings.Contains(list, "10.1.0.2:4000") || !strings.Contains(list, "a test") {
		t.Errorf("%s", list)
	}

	// The end: the neighbour is told, nothing is treated any more.
	if out := one.must(t, "release", "1"); out != "reservation 1 is released\n" {
		t.Errorf("%q", out)
	}
	two.waitNoSession(t, portHand)
	two.waitReservation(t, "1", console.SessionInactive)
	from := time.Now()
	ctx := within(t, 8*time.Second)
	if _, err := heard.Wait(ctx, frameAfter(from, func(f []byte) bool { return dscpOf(f) == 0 })); err != nil {
		t.Errorf("after the release no packet comes without a mark: %v", err)
	}
	eventually(t, 5*time.Second, "nothing is left of it", func() error {
		flows, err := one.Flows(t.Context())
		links, err2 := one.Links(t.Context())
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if len(flows) != 0 || linkRow(links, rightWAN).Reservations != 0 {
			return fmt.Errorf("flows %+v, links %+v", flows, links)
		}
		return nil
	})
	if code, _, stderr := one.cli(t, "release", "1"); code != 1 || !strings.Contains(stderr, "there is no reservation 1") {
		t.Errorf("released twice: %d %s", code, stderr)
	}
	// The far side's end is told upstream by ResvTear.
	one.must(t, reserve("--bandwidth", "1mbit", "--burst", "8kB")...)
	two.must(t, "release", "1")
	waitMessage(t, rsvp, wire.ResvTear)
	if row := one.waitReservation(t, "2", console.SessionRejected); row.ErrorCode != uint8(wire.ErrPolicy) || row.ErrorNode == "" {
		t.Errorf("the receiver's side does not answer any more: %+v", row)
	}
}

// follow keeps a box's events. The returned function waits for one.
func follow(t *testing.T, b *box) (wait func(want string)) {
	t.Helper()
	var mu sync.Mutex
	var heard []string
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Events(ctx, func(kind string, data json.RawMessage) error { // ends with the test, or when the box stops
			var e struct{ ID, Change, State string }
			err := json.Unmarshal(data, &e)
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, strings.Join(strings.Fields(kind+" "+e.ID+" "+e.Change+" "+e.State), " "))
			return err
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, 5*time.Second, "the events are followed", func() error {
		st, err := b.Stats(t.Context())
		if err == nil && st.Events.Clients != 1 {
			err = errors.New("not yet")
		}
		return err
	})
	return func(want string) {
		t.Helper()
		eventually(t, 8*time.Second, want, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(heard, want) {
				return fmt.Errorf("told: %q", heard)
			}
			return nil
		})
	}
}

// checkRSVPViews looks at the sender's box as `qosproxy rsvp` shows it.
func checkRSVPViews(t *testing.T, b *box) {
	t.Helper()
	peer, _ := hop(0, 2)
	neighbors, err := b.RSVPNeighbors(t.Context())
	if err != nil || len(neighbors) != 1 || neighbors[0].Address != peer.String() || neighbors[0].Interface != rightWAN || neighbors[0].Requests != 1 ||
		neighbors[0].HeardS == nil || neighbors[0].Received.Resv == 0 || neighbors[0].Reduction != console.ReductionOff {
		t.Errorf("neighbours %+v, %v", neighbors, err)
	}
	senders, err := b.RSVPSenders(t.Context())
	if err != nil || len(senders) != 1 || senders[0].InterfaceIn != lanIface || senders[0].Interfaces[0] != rightWAN || senders[0].ExpiresS != 0 || senders[0].RefreshS <= 0 {
		t.Errorf("senders %+v, %v", senders, err)
	}
	requests, err := b.RSVPReservations(t.Context())
	if err != nil || len(requests) != 1 || requests[0].NextHop != peer.String() || !requests[0].Installed || requests[0].Class != "1:10" || requests[0].ExpiresS <= 0 {
		t.Errorf("reservations %+v, %v", requests, err)
	}
	interfaces, err := b.RSVPInterfaces(t.Context())
	if err != nil || len(interfaces) != 2 || interfaces[1].Name != rightWAN || interfaces[1].Neighbors != 1 || interfaces[1].Sent.Path == 0 || interfaces[1].ReservedBPS != 1_000_000 {
		t.Errorf("interfaces %+v, %v", interfaces, err)
	}
	for _, verb := range []string{"neighbor", "sender", "reservation", "interface", "counters"} {
		if out := b.must(t, "rsvp", verb); strings.Count(out, "\n") < 2 {
			t.Errorf("rsvp %s: %s", verb, out)
		}
	}
}

// By hand there is all that a policy can have: IPv6, guaranteed service with the
// rate that keeps its delay, styles.
func TestReserveByHandKinds(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	l.startBare(t, "19mbit")
	for i, args := range [][]string{
		{"udp", "[fd00:1::2]:4000", "[fd00:2::2]:5500", "--bandwidth", "1mbit", "--burst", "3kB"},
		{"udp", "10.1.0.2:4001", "10.2.0.2:5501", "--bandwidth", "80kbit", "--burst", "400B", "--max-packet", "400B", "--service", "guaranteed", "--delay", "80ms"},
		{"udp", "10.1.0.2:4002", "10.2.0.2:5502", "--bandwidth", "1mbit", "--burst", "3kB", "--style", "wf"},
		{"udp", "10.1.0.2:4003", "10.2.0.2:5503", "--bandwidth", "1mbit", "--burst", "3kB", "--style", "se", "--priority", "3:4"},
	} {
		two.must(t, append(append([]string{"reserve"}, args...), "--no-wait")...)
		one.must(t, append([]string{"reserve"}, args...)...)
		row := one.waitReservation(t, fmt.Sprint(i+1), console.SessionReserved)
		if row.Class == "" || row.FlowSpec == nil {
			t.Errorf("%v: %+v", args, row)
		}
		if i == 3 && (row.Priority == nil || *row.Priority != console.Priority{Setup: 3, Hold: 4}) {
			t.Errorf("priority: %+v", row)
		}
		if i == 1 && (row.Service != "guaranteed" || row.FlowSpec.Rate < 10_000 || row.PHB != "ef" || row.DelayUS != 80_000) {
			t.Errorf("guaranteed: %+v", row)
		}
	}
	sessions, err := one.Sessions(t.Context())
	styles := map[string]int{}
	for _, s := range sessions {
		styles[s.Style]++
	}
	if err != nil || len(sessions) != 4 || styles["wf"] != 1 || styles["se"] != 1 || styles["ff"] != 2 {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	// A crash loses none of them: what was answered by 201 is on the disk.
	one.kill(t)
	one.start(t, l.bare(0, "19mbit"))
	for i := range 4 {
		one.waitReservation(t, fmt.Sprint(i+1), console.SessionReserved)
	}
}

// A refusal is told with its code and where it was found, and by the exit code;
// a reservation that nobody answers is not reserved in time.
func TestReserveByHandRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	l.startBare(t, "4mbit")
	two.must(t, reserve("--bandwidth", "8mbit", "--no-wait")...)
	code, stdout, stderr := one.cli(t, reserve("--bandwidth", "8mbit")...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "refused: ") || !strings.Contains(stderr, "code 1 value 2") || !strings.Contains(stderr, "qosproxy release 1 ends it") {
		t.Errorf("exit code %d: %q %q", code, stdout, stderr)
	}
	row := one.waitReservation(t, "1", console.SessionRejected)
	if row.ErrorCode != uint8(wire.ErrAdmission) || row.ErrorValue != 2 || row.Class != "" {
		t.Errorf("%+v", row)
	}
	one.must(t, "release", "1")
	two.must(t, "release", "1")

	// Nobody on the receiver's side: its box says so by PathErr.
	code, stdout, stderr = one.cli(t, reserve("--bandwidth", "1mbit", "--json")...)
	if code != 1 || stderr != "" || !strings.Contains(stdout, `"code": "refused"`) || !strings.Contains(stdout, "code 2 value") {
		t.Errorf("exit code %d: %q %q", code, stdout, stderr)
	}
	// Nobody on the sender's side.
	begin := time.Now()
	code, _, stderr = two.cli(t, append([]string{"reserve", "udp", "10.1.0.2:4001", "10.2.0.2:5501"}, "--bandwidth", "1mbit", "--timeout", "700ms")...)
	if code != 1 || !strings.Contains(stderr, "not reserved within 700ms: waiting for PATH") || time.Since(begin) < 700*time.Millisecond {
		t.Errorf("exit code %d after %s: %q", code, time.Since(begin), stderr)
	}
	for want, args := range map[string][]string{
		"has a reservation by hand already": reserve("--bandwidth", "1mbit"),
		"speak for neither host":            {"reserve", "udp", "10.7.0.2:1", "10.2.0.2:2", "--bandwidth", "1mbit"},
		"an address of this box":            {"reserve", "udp", "10.1.0.1:1", "10.2.0.2:2", "--bandwidth", "1mbit"},
		"side receiver: 10.2.0.2 is not":    {"reserve", "udp", "10.1.0.2:1", "10.2.0.2:2", "--bandwidth", "1mbit", "--side", "receiver"},
		"both hosts are behind lan0":        {"reserve", "udp", "10.1.0.2:1", "10.1.0.3:2", "--bandwidth", "1mbit"},
		"burst is smaller":                  {"reserve", "udp", "10.1.0.2:1", "10.2.0.2:2", "--bandwidth", "1mbit", "--burst", "100B"},
		"unit":                              {"reserve", "udp", "10.1.0.2:1", "10.2.0.2:2", "--bandwidth", "8000"},
		"unknown PHB":                       {"reserve", "udp", "10.1.0.2:1", "10.2.0.2:2", "--bandwidth", "1mbit", "--mark", "gold"},
	} {
		if code, _, stderr := one.cli(t, args...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d: %s, want %q", args, code, stderr, want)
		}
	}
	if rows, err := one.Reservations(t.Context()); err != nil || len(rows) != 1 {
		t.Errorf("what was refused is there: %+v, %v", rows, err)
	}
}

// A TCP connection that no policy knows is helped from its first packet on.
func TestReserveByHandTCP(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	l.startBare(t, "19mbit")
	if l.isBridge(0) { // which must have seen where hosts are
		ping(t, l.a, addrB)
	}
	flow := []string{"reserve", "tcp", "10.1.0.2:4000", "10.2.0.2:5500", "--bandwidth", "8mbit", "--burst", "64kB"}
	two.must(t, append(flow, "--no-wait")...)
	one.must(t, append(flow, "--tcp", "reliable")...)
	for round := range 2 { // the same ports again are a new connection
		source, sink := connectFrom(t, l, portSource, portHand)
		tr := send(source, sink, random(uint64(round), 2_000_000))
		row := one.waitFlow(t, portHand, "cheated", func(r console.FlowRow) bool { return r.State == console.FlowCheated && r.FakeAcks > 20 })
		if row.Policy != "by-hand:1" || row.TCPMode != "reliable" {
			t.Errorf("%+v", row)
		}
		tr.wait(t)
		_ = source.Close()
		_ = sink.Close()
		// The reservation is there without a connection.
		one.waitFlow(t, portHand, "waiting for the next connection", func(r console.FlowRow) bool { return r.State == console.FlowManaged && r.ReservedBPS > 0 })
		one.waitReservation(t, "1", console.SessionReserved)
	}
	one.must(t, "release", "1")
	two.waitNoSession(t, portHand)
	if source, sink := connectFrom(t, l, portSource, portHand); source != nil {
		send(source, sink, random(9, 100_000)).wait(t)
	}
	if rows, err := one.Flows(t.Context()); err != nil || len(rows) != 0 {
		t.Errorf("a released connection is still looked after: %+v, %v", rows, err)
	}
}

// connectFrom is connect from A's port sport to B's dport.
func connectFrom(t *testing.T, l *lab, sport, dport uint16) (dialled, accepted *net.TCPConn) {
	t.Helper()
	server := listen(t, l.b, at(addrB, dport))
	defer func() { _ = server.Close() }()
	dialer := net.Dialer{Timeout: 8 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(at(addrA, sport))}
	eventually(t, 8*time.Second, "connection", func() error {
		return l.a.Do(func() error {
			c, err := dialer.DialContext(t.Context(), "tcp", at(addrB, dport).String())
			if err == nil {
				dialled = c.(*net.TCPConn)
			}
			return err
		})
	})
	accepted, err := server.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{dialled, accepted} {
		t.Cleanup(func() { _ = c.Close() })
		if err := errors.Join(c.SetDeadline(time.Now().Add(25*time.Second)), c.SetLinger(0)); err != nil {
			t.Fatal(err)
		}
	}
	return dialled, accepted
}

// A file that cannot be understood is set aside, and the box works.
func TestReservationsFileIsBroken(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	b := l.boxes[0]
	dir := b.state()
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "reservations.json"), []byte(`{"version":1,"last_id":3,"reser`), 0o600)); err != nil {
		t.Fatal(err)
	}
	b.start(t, l.bare(0, "19mbit"))
	st, err := b.Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(st.Problems, "\n"), "set aside as "+filepath.Join(dir, "reservations.json.bad")) {
		t.Errorf("problems %q, %v", st.Problems, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "reservations.json.bad")); err != nil {
		t.Error(err)
	}
	b.must(t, reserve("--bandwidth", "1mbit", "--no-wait", "--duration", "1s")...)
	eventually(t, 8*time.Second, "its time is over", func() error {
		rows, err := b.Reservations(t.Context())
		if err == nil && len(rows) != 0 {
			err = fmt.Errorf("%+v", rows)
		}
		return err
	})
	b.waitNoSession(t, portHand)
}
