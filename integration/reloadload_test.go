package integration

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// Ports of what crosses the boxes while they are reloaded.
const (
	portSessions = 6000 // and those after it, one reserved session each
	portFast     = 6300 // reserved
	portMarkOnly = 6301 // marked by a policy without a reservation
	portFree     = 6400 // and the next: of no policy
)

const loadPolicies = `
  - name: calls
    match: {protocol: udp, to_port: 6000-6299}
    reserve: {role: both, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
    mark: voice-admit
  - name: fast
    match: {protocol: udp, to_port: 6300}
    reserve: {role: both, service: controlled-load, tspec: {rate: 20mbit, burst: 200kB, max_packet: 400B}}
    mark: af31
  - name: marked
    match: {protocol: udp, to_port: 6301}
    mark: af11
`

// load is traffic whose packets have numbers, and the calls of many sessions
// beside it.
type load struct {
	streams []traffic.StreamConfig
	names   []string
	results []traffic.StreamResult
	errs    []error
	wg      sync.WaitGroup
	enough  func() // ends the sending before its time
}

// beginLoad sends perSecond packets a second in all, in flows that are reserved, marked,
// and of no policy, over IPv4 and IPv6, for d or until it is enough.
func beginLoad(t *testing.T, l *lab, perSecond int, d time.Duration) *load {
	t.Helper()
	until := make(chan struct{})
	ld := &load{enough: sync.OnceFunc(func() { close(until) })}
	t.Cleanup(ld.enough)
	add := func(name string, to traffic.StreamConfig) {
		ld.names, ld.streams = append(ld.names, name), append(ld.streams, to)
	}
	const train = 5
	each := traffic.StreamConfig{
		From: l.a, To: l.b, Payload: 100, Duration: d, Drain: 2 * time.Second, Warmup: 2 * time.Second, Train: train, Until: until,
		Interval: time.Duration(train*4) * time.Second / time.Duration(perSecond), Scatter: true,
	}
	for _, s := range []struct {
		name string
		at   netip.AddrPort
	}{
		{"reserved", at(addrB, portFast)},
		{"marked", at(addrB, portMarkOnly)},
		{"of no policy", at(addrB, portFree)},
		{"of no policy, IPv6", at(addrB6, portFree+1)},
	} {
		each.Remote = s.at
		add(s.name, each)
	}
	ld.results, ld.errs = make([]traffic.StreamResult, len(ld.streams)), make([]error, len(ld.streams))
	for i := range ld.streams {
		ld.wg.Go(func() { ld.results[i], ld.errs[i] = traffic.Stream(t.Context(), ld.streams[i]) })
	}
	return ld
}

// wait waits until all is sent and has come, or is not waited for any more.
func (ld *load) wait(t *testing.T) {
	t.Helper()
	ld.wg.Wait()
	if err := errors.Join(ld.errs...); err != nil {
		t.Fatal(err)
	}
}

// sessionsOf opens n sessions, each with a packet now and then, until the test ends.
func sessionsOf(t *testing.T, l *lab, n int) {
	t.Helper()
	var all []*net.UDPConn
	for i := range n {
		c := dialUDP(t, l.a, at(addrB, uint16(portSessions+i)))
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, c := range all {
				_, _ = c.Write(make([]byte, 100)) // nobody listens: ICMP is its answer
				select {
				case <-done:
					return
				case <-time.After(time.Second / time.Duration(n)):
				}
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
}

// inOrder makes the lab's cables keep the order of packets.
func (l *lab) inOrder(t *testing.T) {
	t.Helper()
	err := errors.Join(l.a.InOrder(hostIface), l.b.InOrder(hostIface))
	for i, b := range l.boxes {
		names := []string{leftWAN, rightWAN}
		if i == 0 {
			names[0] = lanIface
		}
		if i == len(l.boxes)-1 && i > 0 {
			names[1] = lanIface
		}
		err = errors.Join(err, b.ns.InOrder(names...))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) reservedCalls(t *testing.T, n int) error {
	t.Helper()
	for _, b := range l.boxes {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		reserved := 0
		for _, r := range rows {
			if r.Dport >= portSessions && r.Dport < portFast && r.State == console.SessionReserved {
				reserved++
			}
		}
		if reserved != n {
			return fmt.Errorf("%s: %d of %d sessions are reserved", b.name, reserved, n)
		}
	}
	return nil
}

// sessionsAndFlows is what does not change by itself of them.
func (b *box) sessionsAndFlows(t *testing.T) map[string]string {
	t.Helper()
	sessions, err := b.Sessions(t.Context())
	flows, flowErr := b.Flows(t.Context())
	if err := errors.Join(err, flowErr); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range sessions {
		all[fmt.Sprintf("session %s %d %s %d", s.Dst, s.Dport, s.Src, s.Sport)] = fmt.Sprint(s.State, s.Role, s.Class, s.DSCP, s.Policy)
	}
	for _, f := range flows {
		all[fmt.Sprintf("flow %s %d %s %d", f.Dst, f.Dport, f.Src, f.Sport)] = fmt.Sprint(f.State, f.Reason, f.Class, f.DSCP, f.Policy, f.ReservedBPS)
	}
	return all
}

// A reload loses no packet and changes no packet's place in its flow, whatever it
// changes beside; one that is refused changes nothing at all.
func TestReloadLosesNothing(t *testing.T) {
	t.Run(formOf(t).String(), func(t *testing.T) { reloadLosesNothing(t, newLab) })
	if soak(0, 1) == 1 && formOf(t) == routed { // once is enough
		t.Run("bridged", func(t *testing.T) { reloadLosesNothing(t, newBridgedLab) })
	}
}

func reloadLosesNothing(t *testing.T, newLab labMaker) {
	reloads, perSecond, sessions := soak(6, 20), 20_000, soak(50, 200)
	l := newLab(t, 2, nil)
	l.inOrder(t)
	config := func(i int, capacity, policies, extra string) string {
		c := l.edge(i, policies, extra)
		c.reliable, c.capacity = true, capacity
		return c.String()
	}
	usual := config(0, "200mbit", loadPolicies, "")
	l.startAll(t, usual, config(1, "200mbit", loadPolicies, ""))
	b := l.boxes[0]
	b.expected = []string{`"level":"error"`} // of the refused reloads
	another := strings.Replace(strings.Replace(markPolicy, "name: marked", "name: another", 1), "6000", "6500", 1)
	good := []string{
		config(0, "200mbit", loadPolicies+another, ""), // one policy more, whose flows there are none of
		config(0, "180mbit", loadPolicies, ""),         // another root class
		config(0, "200mbit", another+loadPolicies, ""), // the same policies at other lines
		usual,
	}
	replaced := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(usual) }
	missing := "no such interface"
	if l.isBridge(0) { // whose ports stay
		missing = "needs a restart"
	}
	bad := []struct{ text, why string }{
		{replaced("mark: af31", "mrak: af31"), "unknown key"},
		{usual + "limits: {flows: 17}\n", "needs a restart"},
		{replaced("name: "+rightWAN, "name: nowhere0"), missing},
		{replaced("policies:", "on_crash: 99s\npolicies:"), "given twice"},
		{replaced("zone: hosts", "zone: network, capacity: 200mbit", "zone: network", "zone: hosts"), "the zone of lan0 needs a restart"},
		{replaced("capacity: 200mbit", "capacity: 26mbit"), "not enough capacity"},
	}
	sessionsOf(t, l, sessions)
	eventually(t, 40*time.Second, "the sessions are there", func() error { return l.reservedCalls(t, sessions) })
	period := soak(500*time.Millisecond, time.Second)
	// As long as it takes: what is looked at between two reloads takes seconds on a busy
	// machine.
	began, length := time.Now(), 3*time.Minute
	ld := beginLoad(t, l, perSecond, length)
	time.Sleep(3 * time.Second)
	refused := 0
	for i := range reloads {
		begin := time.Now()
		b.write(t, good[i%len(good)])
		if _, err := b.Reload(t.Context()); err != nil {
			t.Errorf("reload %d: %v", i, err)
		}
		took := time.Since(begin)
		wrong := bad[i%len(bad)]
		b.write(t, wrong.text)
		kernel, rows := l.whole(t), b.sessionsAndFlows(t)
		if _, err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), wrong.why) {
			t.Errorf("want %q of this file, got: %v\n%s", wrong.why, err, wrong.text)
		} else {
			refused++
			after := l.whole(t)
			if added, gone := kernel.Added(after), after.Added(kernel); len(added)+len(gone) > 0 {
				t.Errorf("a refused reload has changed the kernel: %q came, %q went", added, gone)
			}
			if now := b.sessionsAndFlows(t); !maps.Equal(rows, now) {
				t.Errorf("a refused reload has changed sessions or flows: %q, before %q", now, rows)
			}
			t.Logf("reload %d took %s; refused: %.150s", i, took.Round(time.Millisecond), err)
		}
		time.Sleep(time.Until(begin.Add(period)))
	}
	if over := time.Since(began) - length; over > 0 {
		t.Errorf("the last reloads had no load beside them, which ended %s before", over.Round(time.Millisecond))
	}
	ld.enough()
	ld.wait(t)
	rate := 0.0 // as sent, packets a second
	for i, r := range ld.results {
		rate += r.SendRate / 8 / float64(28+ld.streams[i].Payload)
		t.Logf("%s: %d sent, %d lost, %d out of order, delay p99 %s, max %s; the source was late by %s at most", ld.names[i], r.Sent, r.Lost, r.Reordered, r.Delay.P99, r.Delay.Max, r.MaxSendLag)
		if r.Lost+r.Reordered+r.Duplicates+r.SendErrors > 0 {
			t.Errorf("%s: of %d packets %d lost, %d out of order, %d came twice", ld.names[i], r.Sent, r.Lost, r.Reordered, r.Duplicates)
		}
	}
	if rate < 0.9*float64(perSecond) {
		t.Errorf("%.0f packets a second were sent, want %d", rate, perSecond)
	}
	if err := l.reservedCalls(t, sessions); err != nil {
		t.Error(err)
	}
	t.Logf("%d reloads, %d more refused, %d sessions", reloads, refused, sessions)
}
