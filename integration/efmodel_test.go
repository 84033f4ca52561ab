package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// atOnce runs streams side by side, and tells what came of each.
func (l *lab) atOnce(t *testing.T, streams map[string]traffic.StreamConfig) map[string]traffic.StreamResult {
	t.Helper()
	longest := time.Duration(0)
	for _, s := range streams {
		longest = max(longest, s.Duration)
	}
	ctx := within(t, longest+30*time.Second)
	got := map[string]traffic.StreamResult{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, s := range streams {
		s.From, s.To = l.a, l.b
		all.Go(func() {
			r, err := traffic.Stream(ctx, s)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[name] = r
		})
	}
	all.Wait()
	for name, r := range got {
		t.Logf("%s: %d of %d lost, delay p50 %v, p99 %v, p99.9 %v, %.2f Mbit/s came of %.2f", name, r.Lost, r.Sent, r.Delay.P50, r.Delay.P99, r.Delay.P999, r.IPRate/1e6, r.SendRate/1e6)
	}
	return got
}

const (
	portAdmitted   = 5004
	portUnadmitted = 5104
	portTrains     = 5204
	portMore       = 5304
	portForged     = 5404
	callSource     = 41011
	tosEF          = dscp.EF << 2
	efBox          = `
log: {level: info, format: json}
rsvp: {refresh: 1s}
interfaces:
  - {name: lan0, zone: hosts, trust: policed, sls: [{class: ef, rate: 20mbit, burst: 100kB}]}
  - name: wan1
    zone: network
    capacity: 3800kbit
    ef_model: %s
    sls:
      - {class: ef, rate: 1200kbit, burst: 20kB, excess: drop}
      - {class: voice-admit, rate: 400kbit, burst: 4kB, excess: drop}
policies:
  - name: call
    match: {protocol: udp, to_port: 5004}
    reserve: {role: sender, tspec: {rate: 100kbit, burst: 1000B, max_packet: 200B}}
    mark: voice-admit
`
	efFar = `
log: {level: info, format: json}
rsvp: {refresh: 1s}
interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network}]
policies:
  - name: call
    match: {protocol: udp, to_port: 5004}
    reserve: {role: receiver, tspec: {rate: 100kbit, burst: 1000B, max_packet: 200B}}
`
)

// smallCall is one of 64 kbit/s in packets of 10 ms.
func smallCall(port uint16, tos int, warmup, length time.Duration) traffic.StreamConfig {
	return traffic.StreamConfig{Remote: at(addrB, port), Payload: 80, Interval: 10 * time.Millisecond, Duration: length, Warmup: warmup, TOS: tos}
}

// RFC 5865 section 2.1, on a link of 4 Mbit/s: with two queues of different priority
// the trains of EF that nobody admitted delay the admitted call by a packet or two,
// and each other for longer; with one queue behind two policers both calls have the
// same jitter. More EF than was bought costs those who send it, and never the admitted
// call. Nobody gives VOICE-ADMIT to himself (section 4). The model changes by a reload,
// with the reservation in place.
func TestEFModelsInTheRigRFC5865Section2_1(t *testing.T) {
	l := newLab(t, 2, nil)
	l.startAll(t, fmt.Sprintf(efBox, "priority"), efFar)
	forged := capture(t, l.b, hostIface, toPort(portForged))
	quiet := l.atOnce(t, map[string]traffic.StreamConfig{"idle": smallCall(portOther, 0, 0, time.Second)})["idle"].Delay.Min
	waits := func(r traffic.StreamResult) time.Duration { return r.Delay.P99 - quiet }

	warmup := 2 * time.Second
	measure := func(abuse bool) map[string]traffic.StreamResult {
		t.Helper()
		length := warmup + soak(3*time.Second, 4*time.Second)
		if abuse { // only losses are looked at then
			length = warmup + soak(2*time.Second, 4*time.Second)
		}
		defer func() { warmup = time.Second }() // the reservation is there, and the queues are soon full
		trains := traffic.Flood(nil, nil, at(addrB, portTrains), 1, length)
		trains.Interval, trains.Train, trains.Scatter, trains.TOS = 137*time.Millisecond, 10, false, tosEF
		flood := traffic.Flood(nil, nil, at(addrB, portOther), 6_000_000, length)
		admitted := smallCall(portAdmitted, 0, warmup, length)
		admitted.Local = at(addrA, callSource)
		list := map[string]traffic.StreamConfig{
			"admitted": admitted, "unadmitted": smallCall(portUnadmitted, tosEF, warmup, length), "trains": trains, "flood": flood,
			"forged": smallCall(portForged, dscp.VoiceAdmit<<2, warmup, length),
		}
		if abuse {
			more := smallCall(portMore, tosEF, 0, length)
			more.Interval, more.Scatter = 500*time.Microsecond, true
			list["twenty more calls"] = more
		}
		got := l.atOnce(t, list)
		if a := got["admitted"]; a.Lost > 0 || a.Sent < 100 {
			t.Errorf("the admitted call lost %d of %d packets", a.Lost, a.Sent)
		}
		if u := got["unadmitted"]; abuse != (u.LossRatio() > 0.1) || !abuse && u.Lost > 0 {
			t.Errorf("the unadmitted call lost %d of %d packets, beyond its contract: %v", u.Lost, u.Sent, abuse)
		}
		if f := got["forged"]; f.Delay.P50-quiet < 50*time.Millisecond {
			t.Errorf("the flood does not delay a forged mark: %v", f.Delay.P50)
		}
		return got
	}
	inClass := func(class string) {
		t.Helper()
		l.boxes[0].waitFlow(t, portAdmitted, "in class "+class, func(r console.FlowRow) bool { return r.Class == class && r.DSCP == dscp.VoiceAdmit })
	}

	apart := measure(false)
	if a, u := waits(apart["admitted"]), waits(apart["unadmitted"]); a > u/2 || u < 15*time.Millisecond {
		t.Errorf("priority: the admitted call waits %v, the other %v", a, u)
	}
	inClass("1:10")
	measure(true)

	l.boxes[0].write(t, fmt.Sprintf(efBox, "policer"))
	if _, err := l.boxes[0].Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	together := measure(false)
	if a, u := waits(together["admitted"]), waits(together["unadmitted"]); a < u/2 || u < a/2 || a < 15*time.Millisecond {
		t.Errorf("policer: the admitted call waits %v, the other %v", a, u)
	}
	if before, after := waits(apart["admitted"]), waits(together["admitted"]); after < 2*before {
		t.Errorf("the admitted call waits %v in a queue of its own, and %v in a common one", before, after)
	}
	inClass("1:ff2e")
	measure(true)
	frames := captured(t, forged)
	if len(frames) == 0 {
		t.Error("no packet with a forged mark has come: nothing is proved")
	}
	for _, f := range frames {
		if dscpOf(f.Data) == dscp.VoiceAdmit {
			t.Fatal("a host has given VOICE-ADMIT to itself")
		}
	}
}
