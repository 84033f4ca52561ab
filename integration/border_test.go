package integration

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

const (
	portBorder = 5500 // and those after it: one for each DSCP that a host writes
	borderFile = `
log: {level: info, format: json}
rsvp: {refresh: 1s}
interfaces:
  - {name: lan0, zone: hosts, trust: %s}
  - {name: wan1, zone: network, capacity: 19mbit}
policies:
%s
`
	borderFar = `
log: {level: info, format: json}
rsvp: {refresh: 1s}
interfaces: [{name: lan0, zone: hosts}, {name: wan0, zone: network}]
policies:
%s
`
	borderPolicy = "  - {name: none, match: {protocol: tcp, to_port: 1}, mark: le}\n"
	borderSLS    = "policed, sls: [{class: af31, rate: 1mbit, burst: 20kB, excess: le}, {class: ef, rate: 200kbit, burst: 2000B, excess: drop}]"
)

// hostMarked is a stream of packets of 500 bytes of IP that its host marks.
func hostMarked(port uint16, code uint8, rate int64, length time.Duration) traffic.StreamConfig {
	return traffic.StreamConfig{
		Remote: at(addrB, port), Payload: 500 - 28, Interval: time.Duration(500 * 8 * int64(time.Second) / rate), Duration: length, TOS: int(code) << 2,
	}
}

// marks counts by DSCP the frames that have come to a port.
func marks(t *testing.T, c *traffic.Capture, port uint16) map[uint8]int64 {
	t.Helper()
	n := map[uint8]int64{}
	for _, f := range captured(t, c) {
		if toPort(port)(f.Data) && !f.Outgoing {
			n[dscpOf(f.Data)]++
		}
	}
	return n
}

func dscpRowOf(t *testing.T, b *box, link, direction, phb string) (row console.DSCPRow) {
	t.Helper()
	links, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range linkRow(links, link).DSCPs {
		if r.Direction == direction && r.PHB == phb {
			return r
		}
	}
	t.Errorf("%s: no row for %s %s on %s", b.name, direction, phb, link)
	return row
}

// RFC 2998 section 3.1.4 (draft section 4.1.4), RFC 2475 section 2.3: which DSCPs of a
// customer's hosts cross the border. Without trust none does; with it all do; policed
// those of the contract do, within it, and lose nothing; what exceeds is remarked or
// dropped, to the packet; what was not sold is best effort. Each change is a reload.
func TestTrustOfHosts(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.startAll(t, fmt.Sprintf(borderFile, "none", borderPolicy), fmt.Sprintf(borderFar, borderPolicy))
	near := l.boxes[0]
	const length = 3 * time.Second
	for i, c := range []struct {
		trust string
		sent  map[string]traffic.StreamConfig
		want  map[string]uint8 // all of it arrives, with this
	}{
		{"none", map[string]traffic.StreamConfig{
			"af31": hostMarked(0, dscp.AF31, 900_000, length), "ef": hostMarked(1, dscp.EF, 150_000, length), "default": hostMarked(2, dscp.Default, 400_000, length),
		}, map[string]uint8{"af31": dscp.Default, "ef": dscp.Default, "default": dscp.Default}},
		{"dscp", map[string]traffic.StreamConfig{
			"af31": hostMarked(0, dscp.AF31, 1_800_000, length), "ef": hostMarked(1, dscp.EF, 300_000, length),
		}, map[string]uint8{"af31": dscp.AF31, "ef": dscp.EF}},
		{borderSLS, map[string]traffic.StreamConfig{ // two flows of one aggregate
			"af31": hostMarked(0, dscp.AF31, 450_000, length), "other af31": hostMarked(1, dscp.AF31, 450_000, length),
			"ef": hostMarked(2, dscp.EF, 150_000, length), "not sold": hostMarked(3, 8, 2_000_000, length),
		}, map[string]uint8{"af31": dscp.AF31, "other af31": dscp.AF31, "ef": dscp.EF, "not sold": dscp.Default}},
	} {
		near.reload(t, fmt.Sprintf(borderFile, c.trust, borderPolicy))
		arrived := capture(t, l.b, hostIface, func(f []byte) bool { return isIPv4(f) && f[ethernet+9] == 17 })
		ports := map[string]uint16{}
		for name, s := range c.sent {
			port := s.Remote.Port() + uint16(portBorder+10*i)
			s.Remote, ports[name] = at(addrB, port), port
			c.sent[name] = s
		}
		got := l.atOnce(t, c.sent)
		for name, want := range c.want {
			r := got[name]
			if n := marks(t, arrived, ports[name]); r.Lost > 0 || len(n) != 1 || n[want] != r.Sent {
				t.Errorf("trust %.8s: of %s %d were sent and %d lost, DSCPs that arrived: %v, want %d", c.trust, name, r.Sent, r.Lost, n, want)
			}
		}
	}

	// Twice the contract, of both classes.
	before := map[string]console.DSCPRow{}
	for _, phb := range []string{"af31", "ef"} {
		before[phb] = dscpRowOf(t, near, "lan0", "arriving", phb)
		if r := before[phb]; r.ConformPackets == 0 || r.ExceedPackets != 0 {
			t.Errorf("%s within its contract counted %+v", phb, r.DSCPCounts)
		}
	}
	arrived := capture(t, l.b, hostIface, func(f []byte) bool { return isIPv4(f) && f[ethernet+9] == 17 })
	const af31, ef = portBorder + 50, portBorder + 51
	got := l.atOnce(t, map[string]traffic.StreamConfig{"af31": hostMarked(af31, dscp.AF31, 2_000_000, length), "ef": hostMarked(ef, dscp.EF, 400_000, length)})
	for phb, c := range map[string]struct {
		port         uint16
		code, excess uint8
		rate, burst  float64
		dropped      bool
	}{
		"af31": {af31, dscp.AF31, dscp.LE, 125_000, 20_000, false}, "ef": {ef, dscp.EF, 0, 25_000, 2000, true},
	} {
		now, was, n, r := dscpRowOf(t, near, "lan0", "arriving", phb), before[phb], marks(t, arrived, c.port), got[phb]
		conform, exceed := int64(now.ConformPackets-was.ConformPackets), int64(now.ExceedPackets-was.ExceedPackets)
		if conform+exceed != r.Sent || n[c.code] != conform {
			t.Errorf("%s: %d were sent, %d conform and %d exceed, %v arrived", phb, r.Sent, conform, exceed, n)
		}
		if c.dropped && (r.Lost != exceed || int64(now.DroppedPackets) != exceed) || !c.dropped && (r.Lost != 0 || n[c.excess] != exceed) {
			t.Errorf("%s: %d exceed, %d of them dropped, %d lost, %v arrived", phb, exceed, now.DroppedPackets, r.Lost, n)
		}
		// The source may be late, and then its sending takes longer.
		most, least := c.rate*(length+r.MaxSendLag+time.Second).Seconds()+c.burst, c.rate*length.Seconds()*0.9
		if bytes := float64(now.ConformBytes - was.ConformBytes); bytes > most || bytes < least {
			t.Errorf("%s: %g bytes conform, not within %g to %g", phb, bytes, least, most)
		}
	}
}

// MF policing (draft section 4.1.4): where the customer is not trusted, a policy says
// what may have a DSCP and how much of it, of all that it matches together or of each
// flow.
func TestPoliciesThatPolice(t *testing.T) {
	t.Parallel()
	const police = `
  - {name: together, match: {protocol: udp, to_port: 5600-5609}, mark: af21, police: {rate: 800kbit, burst: 20kB}, excess: le}
  - {name: each, match: {protocol: udp, to_port: 5610-5619}, mark: af11, police: {rate: 800kbit, burst: 20kB, per: flow}, excess: drop}
`
	l := newLab(t, 2, nil)
	l.startAll(t, fmt.Sprintf(borderFile, "none", police), fmt.Sprintf(borderFar, borderPolicy))
	arrived := capture(t, l.b, hostIface, func(f []byte) bool { return isIPv4(f) && f[ethernet+9] == 17 })
	const length, rate = 4 * time.Second, 700_000
	got := l.atOnce(t, map[string]traffic.StreamConfig{
		"one": hostMarked(5600, 0, rate, length), "two": hostMarked(5601, 0, rate, length),
		"three": hostMarked(5610, dscp.EF, rate, length), "four": hostMarked(5611, 0, rate, length), "five": hostMarked(5612, 0, 2*rate, length),
	})
	one, two := marks(t, arrived, 5600), marks(t, arrived, 5601)
	// Which of the two it is that exceeds is nobody's to say: one that always comes
	// just after the other finds the bucket empty.
	if got["one"].Lost+got["two"].Lost > 0 {
		t.Errorf("together: %d and %d lost, %v and %v arrived", got["one"].Lost, got["two"].Lost, one, two)
	}
	sent := got["one"].Sent + got["two"].Sent
	bytes := 500 * float64(one[dscp.AF21]+two[dscp.AF21])
	lag := max(got["one"].MaxSendLag, got["two"].MaxSendLag) + time.Second
	if most := 100_000*(length+lag).Seconds() + 20_000; bytes > most || bytes < 100_000*length.Seconds()*0.9 || one[dscp.AF21]+two[dscp.AF21]+one[dscp.LE]+two[dscp.LE] != sent {
		t.Errorf("together: %g bytes conform, at most %g may; %v and %v of %d", bytes, most, one, two, sent)
	}
	for name, port := range map[string]uint16{"three": 5610, "four": 5611} {
		if n := marks(t, arrived, port); got[name].Lost > 0 || n[dscp.AF11] != got[name].Sent {
			t.Errorf("%s is within its rate: %d of %d lost, %v arrived", name, got[name].Lost, got[name].Sent, n)
		}
	}
	if n := marks(t, arrived, 5612); len(n) != 1 || got["five"].Lost < got["five"].Sent/4 {
		t.Errorf("five has twice its rate: %d of %d lost, %v arrived", got["five"].Lost, got["five"].Sent, n)
	}
}

// An aggregate data plane (draft section 5.2, per-flow RSVP): reservations are asked
// for, admitted and refused as ever, and the kernel knows none of them: the class of
// their DSCP and its policer grow and shrink by what is admitted.
func TestClassifyByDSCP(t *testing.T) {
	t.Parallel()
	const calls = `
  - {name: data, match: {protocol: udp, to_port: 5700-5709}, mark: af31, reserve: {role: %s, tspec: {rate: 2mbit, burst: 30kB, max_packet: 1500B}}}
`
	const aggregate = `
log: {level: info, format: json}
rsvp: {refresh: 1s}
interfaces:
  - {name: lan0, zone: hosts, trust: dscp}
  - {name: wan1, zone: network, capacity: 10mbit, reservable: 50%, classify: dscp}
policies:
`
	l := newLab(t, 2, nil)
	l.startAll(t, aggregate+fmt.Sprintf(calls, "sender"), fmt.Sprintf(borderFar, fmt.Sprintf(calls, "receiver")))
	near := l.boxes[0]
	class := func(what string, rate uint64) {
		t.Helper()
		eventually(t, 10*time.Second, what, func() error {
			links, err := near.Links(t.Context())
			if err != nil {
				return err
			}
			link := linkRow(links, "wan1")
			for _, c := range link.Classes {
				if c.Kind == "reserved" {
					return fmt.Errorf("a flow has a class: %+v", c)
				}
				if c.Kind != "phb" || c.RateBPS < rate || c.RateBPS > rate*102/100 { // and headers
					continue
				}
				for _, r := range link.DSCPs {
					if r.PHB == "af31" && r.Class == c.Class && r.RateBPS == rate && r.Burst >= 30_000*rate/2_000_000 {
						return nil
					}
				}
			}
			if rate == 0 && len(link.DSCPs) == 0 {
				return nil
			}
			return fmt.Errorf("link %+v", link)
		})
	}
	arrived := capture(t, l.b, hostIface, func(f []byte) bool { return isIPv4(f) && f[ethernet+9] == 17 })
	const warmup, length = 4 * time.Second, 8 * time.Second
	reserved := make(chan map[string]traffic.StreamResult, 1)
	one, two, flood := hostMarked(5700, dscp.AF31, 1_800_000, length), hostMarked(5701, dscp.AF31, 1_800_000, length), traffic.Flood(nil, nil, at(addrB, portOther), 15_000_000, length)
	one.Warmup, two.Warmup, flood.Warmup = warmup, warmup, warmup
	go func() {
		reserved <- l.atOnce(t, map[string]traffic.StreamConfig{"one": one, "two": two, "flood": flood})
	}()
	for _, port := range []uint16{5700, 5701} {
		if s := near.waitSession(t, port, console.SessionReserved); s.PHB != "af31" || s.Class != "1:ff1a" {
			t.Errorf("session %+v", s)
		}
	}
	class("two flows", 4_000_000)
	// A third one has no room, and changes nothing.
	third := l.startSourceTo(t, 6200, 5702, 2000)
	if s := near.waitSession(t, 5702, console.SessionRejected); s.Error == "" {
		t.Errorf("session %+v", s)
	}
	third.rate.Store(0)
	class("after a refusal", 4_000_000)
	stats, err := near.Stats(t.Context())
	if err != nil || stats.Shaper.Treatments != 0 {
		t.Errorf("the kernel has %d rows of flows, %v", stats.Shaper.Treatments, err)
	}
	got := <-reserved
	for name, port := range map[string]uint16{"one": 5700, "two": 5701} {
		if r, n := got[name], marks(t, arrived, port); r.Lost > 0 || n[dscp.Default] > 0 {
			t.Errorf("%s: %d of %d lost, %v arrived", name, r.Lost, r.Sent, n)
		}
	}
	if got["flood"].LossRatio() < 0.2 {
		t.Errorf("the flood was none: %+v", got["flood"])
	}
	// Nor is the third one's policy left, which would take the room of the first.
	near.reload(t, aggregate+strings.Replace(fmt.Sprintf(calls, "sender"), "5700-5709", "5701", 1))
	class("one has ended", 2_000_000)
}

// minuteAt has a box's clock on the wall begin a minute at a time, by a time zone some
// seconds apart from UTC (RFC 8536, version 1, one type of local time).
func (b *box) minuteAt(t *testing.T, at time.Time) *time.Location {
	t.Helper()
	east := -int(at.Unix() % 60)
	data := append([]byte("TZif"), make([]byte, 16)...)
	for _, n := range []uint32{0, 0, 0, 0, 1, 4, uint32(int32(east))} { // counts of types and of letters, and the type
		data = binary.BigEndian.AppendUint32(data, n)
	}
	file := filepath.Join(b.dir, "zone")
	if err := os.WriteFile(file, append(data, "\x00\x00RIG\x00"...), 0o644); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "TZ="+file)
	return time.FixedZone("RIG", east)
}

// A contract by time of day: when its minute has come the kernel's row has the new
// rate, in place: what was counted is still there, and traffic within the smaller of
// both rates loses no packet and no mark over it.
func TestContractFollowsTheClock(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	change := time.Now().Add(10 * time.Second).Truncate(time.Second) // not while boxes start
	zone := l.boxes[0].minuteAt(t, change)
	clock := func(at time.Time) string { return at.In(zone).Format("15:04") }
	sls := fmt.Sprintf("policed, sls: [{class: af31, rate: 1mbit, burst: 20kB, from: %q, until: %q}, {class: af31, rate: 2mbit, burst: 20kB, from: %[2]q, until: %[1]q}]",
		clock(change.Add(-time.Hour)), clock(change))
	l.startAll(t, fmt.Sprintf(borderFile, sls, borderPolicy), fmt.Sprintf(borderFar, borderPolicy))
	near := l.boxes[0]
	before := dscpRowOf(t, near, "lan0", "arriving", "af31")
	if before.RateBPS != 1_000_000 {
		t.Fatalf("before %s the row is %+v", clock(change), before)
	}
	time.Sleep(time.Until(change.Add(-4 * time.Second))) // no proof: the stream is to be under way
	arrived := capture(t, l.b, hostIface, toPort(portBorder))
	s := hostMarked(portBorder, dscp.AF31, 800_000, 8*time.Second)
	got := l.atOnce(t, map[string]traffic.StreamConfig{"af31": s})["af31"]
	var now console.DSCPRow
	eventually(t, 10*time.Second, "the row of the next hour", func() error {
		if now = dscpRowOf(t, near, "lan0", "arriving", "af31"); now.RateBPS != 2_000_000 {
			return fmt.Errorf("at %s the row is %+v", clock(change), now)
		}
		return nil
	})
	if n := marks(t, arrived, portBorder); got.Lost > 0 || len(n) != 1 || n[dscp.AF31] != got.Sent || now.ConformPackets != uint64(got.Sent) {
		t.Errorf("%d were sent, %d lost, %v arrived, the row has counted %+v", got.Sent, got.Lost, n, now.DSCPCounts)
	}
}
