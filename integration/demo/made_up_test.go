package demo

import (
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// madeUp is a run in which everything went well.
func madeUp() *measured {
	m := &measured{
		unloaded: call(125, 0, 50_400*time.Microsecond, 50_600*time.Microsecond),
		before:   call(750, 285, 150_500*time.Microsecond, 152_200*time.Microsecond),
		after:    call(3050, 0, 50_600*time.Microsecond, 52*time.Millisecond),
		rsvp:     rsvpCheck{messages: 504},
		took:     101_400 * time.Millisecond,
	}
	m.wan[wire.AB].Counters = emulator.Counters{Frames: 171_972, QueueDrops: 20_400, MaxQueueDelay: 102 * time.Millisecond}
	m.wan[wire.BA].Counters = emulator.Counters{Frames: 22_314, QueueDrops: 5_100, MaxQueueDelay: 1_999 * time.Millisecond}
	before, after := allPhases()
	for _, p := range append(before, after...) {
		p.number = len(m.results) + 1
		r := result{phase: p}
		rate := 12_000.0
		if !p.before() {
			rate = 7_700_000
			r.boxes = [2]sample{boxSample(p, "sender-proxy", "1:10"), boxSample(p, "receiver-proxy", "")}
		}
		r.transfer = transferOf(p, rate)
		m.results = append(m.results, r)
	}
	return m
}

func call(sent, lost int64, p50, p99 time.Duration) traffic.StreamResult {
	return traffic.StreamResult{
		Sent: sent, Received: sent - lost, Lost: lost, PayloadRate: 64_000 * float64(sent-lost) / float64(sent),
		Delay:     traffic.Distribution{Count: int(sent - lost), P50: p50, P99: p99, Max: p99 + time.Millisecond},
		MaxJitter: 500 * time.Microsecond,
	}
}

// transferOf has the same rate all the time.
func transferOf(p phase, rate float64) traffic.BulkResult {
	r := traffic.BulkResult{
		Source: traffic.BulkSourceResult{SHA256: "c63c1138aa", TCP: traffic.TCPInfo{CongestionControl: p.cc, Retransmits: 6}},
		Sink:   traffic.BulkSinkResult{SHA256: "c63c1138aa", Wrong: -1, Ended: !p.before()},
	}
	for range (warmup + window) / traffic.Interval {
		n := int64(rate / 8 * traffic.Interval.Seconds())
		r.Sink.Series = append(r.Sink.Series, n)
		r.Sink.Bytes += n
	}
	r.Source.Bytes = r.Sink.Bytes
	r.Source.Drained = r.Sink.Ended
	return r
}

func boxSample(p phase, role, class string) sample {
	peak, slow := 2.5e6, 20_000.0
	big := console.TSpec{R: 1e6, B: 64_000, P: &peak, Min: 64, Max: 1500}
	small := console.TSpec{R: 10_000, B: 800, P: &slow, Min: 64, Max: 400}
	row := func(t console.TSpec, policy, protocol, phb string, dscp uint8, sport, dport uint16) *console.SessionRow {
		return &console.SessionRow{
			Dst: addrB, Protocol: protocol, Dport: dport, Src: addrA, Sport: sport, Policy: policy, Role: role, Style: "ff",
			Service: "controlled-load", TSpec: &t, FlowSpec: &console.FlowSpec{TSpec: t}, State: "reserved", DSCP: dscp, PHB: phb, Class: class,
		}
	}
	return sample{
		transfer:        console.FlowRow{State: "cheated", Reason: "reserved", ReservedBPS: reserved, SetupUS: 2_050_000, FakeAcks: 3400, AbsorbedAcks: 900, DSCP: 26, PHB: "af31", Class: class},
		voice:           console.FlowRow{State: "managed", Reason: "reserved", ReservedBPS: 80_000, SetupUS: 2_070_000, DSCP: 44, PHB: "voice-admit", Class: class},
		transferSession: row(big, "imaging-"+p.mode, "tcp", "af31", 26, p.sourcePort(), p.port()),
		voiceSession:    row(small, "voice", "udp", "voice-admit", 44, sourceAfter, portVoice),
	}
}

// madeUpEF is a run of voice-admit in which everything went well.
func madeUpEF() *measured {
	const ms = time.Millisecond
	m := &measured{unloaded: call(250, 0, 5400*time.Microsecond, 5600*time.Microsecond), rsvp: rsvpCheck{messages: 149}, took: 46 * time.Second}
	m.wan[wire.AB].Counters = emulator.Counters{Frames: 41_742, QueueDrops: 2036, MaxQueueDelay: 127 * ms}
	m.wan[wire.BA].Counters = emulator.Counters{Frames: 74}
	rate := 10_000.0
	tspec := console.TSpec{R: rate, B: 1000, Min: 64, Max: 200}
	for _, p := range efPhases() {
		r := efResult{
			efPhase: p, admitted: call(500, 0, 7*ms, 13*ms), unadmitted: call(500, 0, 8*ms, 41*ms),
			trains: call(360, 0, 25*ms, 44*ms), bestEffort: call(2500, 1370, 140*ms, 170*ms),
		}
		r.bestEffort.IPRate, r.bestEffort.PayloadRate = 2.7e6, 2.65e6
		switch p.model {
		case "":
			r.admitted, r.unadmitted = call(500, 4, 129*ms, 132*ms), call(500, 3, 129*ms, 132*ms)
		case modelPolicer:
			r.admitted = call(500, 0, 8*ms, 40*ms)
		}
		if p.abuse {
			r.unadmitted.Lost, r.unadmitted.Received = 287, 213
		}
		if p.model != "" {
			class := map[string]string{modelPriority: "1:10", modelPolicer: "1:ff2e"}[p.model]
			r.row = console.FlowRow{State: "managed", Reason: "reserved", ReservedBPS: 80_000, SetupUS: 9000, DSCP: 44, PHB: "voice-admit", Class: class}
			for box, role := range []string{"sender-proxy", "receiver-proxy"} {
				r.sessions[box] = &console.SessionRow{
					Dst: addrB, Protocol: "udp", Dport: portAdmitted, Src: addrA, Sport: sourceAdmitted, Policy: "call", Role: role, Style: "wf",
					Service: "controlled-load", TSpec: &tspec, FlowSpec: &console.FlowSpec{TSpec: tspec}, State: "reserved", DSCP: 44, PHB: "voice-admit",
					Class: []string{class, ""}[box],
				}
			}
		}
		m.efs = append(m.efs, r)
	}
	return m
}
