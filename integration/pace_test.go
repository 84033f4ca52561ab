package integration

import (
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// pacePolicy reserves rate for a TCP port, and drops what exceeds it at the
// entrance: a policer of r and b.
func pacePolicy(port uint16, rate, tcp string) string { return pacePolicyOf(port, rate, "", tcp, "") }

// pacePolicyOf is pacePolicy with more of the TSpec, and more of the policy.
func pacePolicyOf(port uint16, rate, peak, tcp, more string) string {
	return fmt.Sprintf(`
  - name: paced%d
    match: {protocol: tcp, to_port: %d}
    reserve: {role: both, service: controlled-load, tspec: {rate: %s, burst: 96kB, max_packet: 1500B%s}}
    mark: af31
    tcp: %s
    excess: drop
%s`, port, port, rate, peak, tcp, more)
}

// flowing is a connection that sends as fast as it may.
type flowing struct {
	source *net.TCPConn
	got    atomic.Int64
}

// flow opens a connection and waits until its reservation is in place at the
// boxes that shall pace it, and only then begins to send.
func (l *lab) flow(t *testing.T, port uint16, cc string, pacers ...*box) *flowing {
	t.Helper()
	source, sink := connect(t, l.a, l.b, at(addrB, port))
	combination{cc: cc}.prepare(t, source, sink)
	for _, b := range pacers {
		b.waitFlow(t, port, "paced", func(r console.FlowRow) bool {
			return r.State == console.FlowCheated && r.TCPMode == "pace"
		})
	}
	l.boxes[0].waitFlow(t, port, "reserved", func(r console.FlowRow) bool { return r.ReservedBPS > 0 })
	f := &flowing{source: source}
	go func() {
		data := random(uint64(port), 1<<18)
		for {
			if _, err := source.Write(data); err != nil {
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := sink.Read(buf)
			f.got.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return f
}

// share is what arrives within three seconds, as IP packets, in shares of rate (bit/s).
// It is that of the best of three times: a machine that is busy with something else has
// the boxes and the hosts stand still for a while, which takes from the rate and never
// adds to it by more than the bucket.
func (f *flowing) share(t *testing.T, rate float64) (best float64) {
	t.Helper()
	for n := 0; n < 3 && best < 0.9; n++ {
		from, begin := f.got.Load(), time.Now()
		time.Sleep(3 * time.Second)
		share := float64(f.got.Load()-from) * 8 * 1500 / 1448 / time.Since(begin).Seconds() / rate
		best = max(best, share)
		t.Logf("%.3f of the rate", share)
	}
	return best
}

// A source of each kind keeps to its reservation, and loses nothing at a policer
// of r and b, paced by the boxes of both sides or by one alone: each kind with one
// of these, or in `make soak` with all.
func TestPaceOnRealStacks(t *testing.T) {
	for i, cc := range []string{"cubic", "reno", "bbr"} {
		for j, who := range []struct {
			name     string
			one, two string
		}{{"both", "pace", "pace"}, {"receiver", "none", "pace"}, {"sender", "pace", "none"}} {
			if i != j && soak(0, 1) == 0 {
				continue
			}
			t.Run(cc+"/"+who.name, func(t *testing.T) {
				if soak(0, 1) == 0 { // three flows at once, each with its own way
					t.Parallel()
				}
				way := emulator.Params{Delay: 20 * time.Millisecond}
				l := newLab(t, 2, &wire.Config{AB: way, BA: way})
				one, two := l.edge(0, pacePolicy(6001, "8mbit", who.one), ""), l.edge(1, pacePolicy(6001, "8mbit", who.two), "")
				l.startAll(t, one.String(), two.String())
				var pacers []*box
				if who.one == "pace" {
					pacers = append(pacers, l.boxes[0])
				}
				if who.two == "pace" {
					pacers = append(pacers, l.boxes[1])
				}
				f := l.flow(t, 6001, cc, pacers...)
				time.Sleep(time.Second) // slow start and five round trips
				share := f.share(t, reservedRate)
				row := l.boxes[0].waitFlow(t, 6001, "counted", func(r console.FlowRow) bool { return r.ConformPackets > 0 })
				info := tcpInfo(t, f.source)
				// At most 5% too slow, and as much again for a machine that is busy with something else.
				if share < 0.9 || share > 1.05 {
					t.Errorf("%.3f of the reserved rate", share)
				}
				lost := float64(row.DroppedPackets) / float64(row.ConformPackets+1)
				if lost > 0.002 {
					t.Errorf("%d packets dropped by the policer, %d passed", row.DroppedPackets, row.ConformPackets)
				}
				t.Logf("%.3f of the rate, %d dropped of %d, %d sent again, round trip %d us", share, row.DroppedPackets, row.ConformPackets, info.Total_retrans, info.Rtt)
			})
		}
	}
}

// measure returns how much of its rate (Mbit/s) each flow gets within d.
func measure(flows []*flowing, rates []int, d time.Duration) (shares []float64) {
	var before []int64
	begin := time.Now()
	for _, f := range flows {
		before = append(before, f.got.Load())
	}
	time.Sleep(d)
	took := time.Since(begin).Seconds()
	for i, f := range flows {
		shares = append(shares, float64(f.got.Load()-before[i])*8*1500/1448/took/float64(rates[i]*1e6))
	}
	return shares
}

// Ten paced connections, and two in `make soak`, each keep to their own reservation.
func TestPacedFlowsShareAsTold(t *testing.T) {
	for _, rates := range [][]int{{1, 1, 1, 1, 1, 1, 1, 2, 2, 3}, {8, 4}}[:soak(1, 2)] {
		t.Run(fmt.Sprint(len(rates)), func(t *testing.T) {
			way := emulator.Params{Delay: 20 * time.Millisecond}
			l := newLab(t, 2, &wire.Config{AB: way, BA: way})
			policies := ""
			for i, r := range rates {
				policies += pacePolicy(uint16(6001+i), fmt.Sprintf("%dmbit", r), "pace")
			}
			l.startEdges(t, policies, "")
			var flows []*flowing
			for i := range rates {
				flows = append(flows, l.flow(t, uint16(6001+i), []string{"cubic", "reno", "bbr"}[i%3], l.boxes...))
			}
			time.Sleep(2 * time.Second)
			// All at once, in one of three times: see flowing.share. What a reader is late
			// for at the end of one time counts in the next.
			var shares []float64
			asTold := func(share float64) bool { return share >= 0.88 && share <= 1.06 }
			for n := 0; n < 3 && (n == 0 || slices.ContainsFunc(shares, func(s float64) bool { return !asTold(s) })); n++ {
				shares = measure(flows, rates, 4*time.Second)
				t.Logf("shares %.3f", shares)
			}
			for i, share := range shares {
				if !asTold(share) {
					t.Errorf("flow %d of %d Mbit/s: %.3f of its rate", i, rates[i], share)
				}
			}
		})
	}
}

// ACKs that the receiver's box thins clock the source at the reserved rate all
// the same, whichever box paces, and so does an edge that moves by segments at
// the peak rate: the first in `make test`, the others in `make soak`.
func TestPaceWithThinnedAcks(t *testing.T) {
	const peak, thin = ", peak: 16mbit", "    thin_acks: true\n"
	for _, tt := range []struct{ name, cc, one, two, peak, more string }{
		{"both", "cubic", "pace", "pace", "", thin},
		{"receiver", "bbr", "none", "pace", "", thin},
		{"sender", "reno", "pace", "none", "", thin},
		{"both, with a peak rate", "cubic", "pace", "pace", peak, thin},
		{"peak rate alone", "reno", "pace", "pace", peak, ""},
	}[:soak(1, 5)] {
		t.Run(tt.name, func(t *testing.T) {
			way := emulator.Params{Delay: 20 * time.Millisecond}
			l := newLab(t, 2, &wire.Config{AB: way, BA: way})
			one, two := l.edge(0, pacePolicyOf(6001, "8mbit", tt.peak, tt.one, tt.more), ""), l.edge(1, pacePolicyOf(6001, "8mbit", tt.peak, tt.two, tt.more), "")
			l.startAll(t, one.String(), two.String())
			var pacers []*box
			for i, mode := range []string{tt.one, tt.two} {
				if mode == "pace" {
					pacers = append(pacers, l.boxes[i])
				}
			}
			f := l.flow(t, 6001, tt.cc, pacers...)
			time.Sleep(time.Second) // slow start and five round trips
			share := f.share(t, reservedRate)
			row := l.boxes[0].waitFlow(t, 6001, "counted", func(r console.FlowRow) bool { return r.ConformPackets > 0 })
			far, err := l.boxes[1].flow(t, 6001)
			if err != nil || (tt.more == thin) != (far.AcksThinned > 100) {
				t.Errorf("%d ACKs thinned, %v", far.AcksThinned, err)
			}
			// At most 5% too slow, and as much again for a machine that is busy with something else.
			if share < 0.9 || share > 1.05 {
				t.Errorf("%.3f of the reserved rate", share)
			}
			lost := float64(row.DroppedPackets) / float64(row.ConformPackets+1)
			if lost > 0.002 {
				t.Errorf("%d packets dropped by the policer, %d passed", row.DroppedPackets, row.ConformPackets)
			}
			t.Logf("%.3f of the rate, %d dropped of %d, %d sent again; ACKs: %d thinned, %d made by box 2 and %d by box 1", share,
				row.DroppedPackets, row.ConformPackets, tcpInfo(t, f.source).Total_retrans, far.AcksThinned, far.FakeAcks, row.FakeAcks)
		})
	}
}
