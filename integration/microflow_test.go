package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

const (
	portApart     = 5300 // and those after it: a reservation for each flow
	portTogether  = 5310 // and those after it: one for all senders of a port
	microRate     = 1_500_000
	microPolicies = `
  - name: apart
    match: {protocol: udp, to_port: 5300-5309}
    reserve: {role: both, service: controlled-load, style: ff, tspec: {rate: 1500kbit, burst: 60kB, max_packet: 1500B}}
    mark: af31
    excess: %s
  - name: together
    match: {protocol: udp, to_port: 5310-5319}
    reserve: {role: both, service: controlled-load, style: wf, tspec: {rate: 1500kbit, burst: 60kB, max_packet: 1500B}}
    mark: af31
    excess: %[1]s
`
)

// micro is one flow of the test, in packets of 1,000 bytes of IP.
type micro struct {
	name  string
	port  uint16
	local uint16
	rate  int // bit/s of IP packets
	got   traffic.StreamResult
}

// run has all flows sent at once, and leaves out of what they got the time in which
// reservations are made.
func (l *lab) run(t *testing.T, flows []*micro, warmup, length time.Duration) {
	t.Helper()
	ctx := within(t, warmup+length+20*time.Second)
	var all sync.WaitGroup
	for _, f := range flows {
		all.Go(func() {
			cfg := traffic.StreamConfig{
				From: l.a, To: l.b, Local: at(addrA, f.local), Remote: at(addrB, f.port), Payload: 1000 - 28,
				Interval: time.Duration(1000 * 8 * int64(time.Second) / int64(f.rate)), Duration: warmup + length, Warmup: warmup,
			}
			var err error
			if f.got, err = traffic.Stream(ctx, cfg); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, f := range flows {
		t.Logf("%s: %d of %d lost, delay p50 %v, p99 %v, %.2f Mbit/s came of %.2f", f.name, f.got.Lost, f.got.Sent, f.got.Delay.P50, f.got.Delay.P99, f.got.IPRate/1e6, f.got.SendRate/1e6)
	}
}

// Draft-ietf-issll-diffserv-rsvp section 4.2.3: one flow of a class that sends ten
// times its TSpec takes nothing from the others of the class: neither where each has a
// reservation of its own nor from those of other groups. (The senders of one
// reservation share its bucket by their own choice, RFC 2205 section 1.3.) It gets
// what it reserved; what exceeds is best effort among a flood, or dropped. Behind an
// edge that polices each flow that holds in an aggregate too, where the narrow link
// knows classes by their DSCP alone. What exceeds as best effort has a link of its own
// in `make soak` alone; the edge before the aggregate does the same.
func TestMicroflowSeparationDraft4_2_3(t *testing.T) {
	for _, excess := range []string{"drop", "best-effort"}[:soak(1, 2)] {
		t.Run(excess, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, nil)
			policies := fmt.Sprintf(microPolicies, excess)
			l.startAll(t, l.edge(0, policies, "").String(), l.edge(1, policies, "").String())
			l.microflows(t, excess)
		})
	}
	t.Run("aggregate", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, 3, nil)
		policies := fmt.Sprintf(microPolicies, "best-effort")
		one := l.edge(0, policies, "")
		one.capacity = "38mbit"
		transit := config{network: []string{leftWAN, rightWAN}, capacity: "19mbit", secured: ", classify: dscp", policies: "  []\n"}
		l.startAll(t, one.String(), transit.String(), l.edge(2, policies, "").String())
		l.microflows(t, "best-effort")
	})
}

func (l *lab) microflows(t *testing.T, excess string) {
	t.Helper()
	roottest.Need(t)

	const honest, greedy = microRate * 9 / 10, 10 * microRate
	bad := &micro{name: "ten times its TSpec", port: portApart, local: 6100, rate: greedy}
	badMember := &micro{name: "a sender with ten times its group's", port: portTogether, local: 6110, rate: greedy}
	good := []*micro{
		{name: "one of its class", port: portApart + 1, local: 6101, rate: honest},
		{name: "another", port: portApart + 2, local: 6102, rate: honest},
		{name: "half of a group", port: portTogether + 1, local: 6111, rate: honest / 2},
	}
	l.startSourceTo(t, 6112, portTogether+1, honest/2/8) // the other half
	flood := &micro{name: "best effort", port: portOther, local: 6120, rate: 15_000_000}
	const warmup = 4 * time.Second
	length := soak(3*time.Second, 5*time.Second)
	reserved := make(chan error, 1)
	go func() {
		var err error
		for _, f := range append(good, bad, badMember) {
			if e := l.boxes[0].reservedFlow(t, f.port, f.local, warmup); e != nil {
				err = e
			}
		}
		reserved <- err
	}()
	l.run(t, append(good, bad, badMember, flood), warmup, length)
	if err := <-reserved; err != nil {
		t.Fatal(err)
	}
	for _, f := range good {
		if f.got.Lost > 0 || f.got.Sent < 100 {
			t.Errorf("%s: %d of %d packets lost, though it conforms", f.name, f.got.Lost, f.got.Sent)
		}
	}
	if flood.got.Lost == 0 {
		t.Error("the link was not full: nothing is proved")
	}
	for _, row := range l.boxes[0].sharedSessions(t, portTogether+1, "wf", 2) {
		if row.Class == "" {
			t.Errorf("half of a group has no class: %+v", row)
		}
	}
	for _, f := range []*micro{bad, badMember} {
		// At least what is reserved, but for the time of a burst.
		if f.got.IPRate < 0.9*microRate || excess == "drop" && f.got.IPRate > 1.3*microRate {
			t.Errorf("%s got %.0f bit/s, %d are reserved", f.name, f.got.IPRate, microRate)
		}
	}
	row := l.boxes[0].flowBy(t, bad.port, bad.local)
	if row.ExceedPackets == 0 || excess == "drop" && row.DroppedPackets != row.ExceedPackets || excess != "drop" && row.DroppedPackets > 0 {
		t.Errorf("the kernel counts %+v", row)
	}
}

// reservedFlow waits until a flow is reserved.
func (b *box) reservedFlow(t *testing.T, dport, sport uint16, within time.Duration) error {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		row := b.flowBy(t, dport, sport)
		if row.ReservedBPS > 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not reserved within %v: %+v", b.name, within, row)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// flowBy is the row of a flow by both ports, an empty one where there is none.
func (b *box) flowBy(t *testing.T, dport, sport uint16) console.FlowRow {
	t.Helper()
	rows, err := b.Flows(t.Context())
	if err != nil {
		t.Error(err)
		return console.FlowRow{}
	}
	for i := range rows {
		if rows[i].Dport == dport && rows[i].Sport == sport {
			return rows[i]
		}
	}
	return console.FlowRow{}
}
