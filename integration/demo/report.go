package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// Phases of a Flow.
const (
	PhaseUnloaded = "unloaded" // voice alone, no boxes
	PhaseBefore   = "before"   // under load, no boxes
	PhaseAfter    = "after"    // under load, with boxes
)

// Report is what a run has found, and the JSON of `demo --json`.
type Report struct {
	Scenario     string        `json:"scenario"`
	Pass         bool          `json:"pass"`
	DurationS    float64       `json:"duration_s"`
	WarmupS      float64       `json:"warmup_s"` // left out of all figures but setup_us and retransmits
	Targets      []Target      `json:"targets"`
	Flows        []Flow        `json:"flows"`
	Reservations []Reservation `json:"reservations"`
	WAN          []Direction   `json:"wan"`
	Notes        []string      `json:"notes"` // what a reader should know to trust the figures
}

// Direction is what one direction of the WAN did to all that was sent into it.
type Direction struct {
	Towards         string  `json:"towards"` // A or B
	Frames          uint64  `json:"frames"`
	QueueDrops      uint64  `json:"queue_drops"` // frames
	MaxQueueDelayUS float64 `json:"max_queue_delay_us"`
}

// Target is a figure with the value that it shall have.
type Target struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Relation string  `json:"relation"` // of value to target: ">=", "<=", "<" or "="
	Target   float64 `json:"target"`
	Pass     bool    `json:"pass"`
}

// Flow is one flow in one phase. What does not apply to its protocol is null.
type Flow struct {
	Name              string   `json:"name"`  // imaging or voice; of voice-admit: admitted call and so on
	Phase             string   `json:"phase"` // unloaded, before, after; of voice-admit: priority, policer, with -abuse
	Protocol          string   `json:"protocol"`
	Src               string   `json:"src"`
	Sport             uint16   `json:"sport"`
	Dst               string   `json:"dst"`
	Dport             uint16   `json:"dport"`
	CongestionControl string   `json:"congestion_control"` // of a TCP source
	TCPMode           string   `json:"tcp_mode"`
	GoodputBPS        float64  `json:"goodput_bps"`  // payload
	Sent              *int64   `json:"sent"`         // packets
	Lost              *int64   `json:"lost"`         // packets
	Loss              *float64 `json:"loss"`         // share of the packets
	DelayP50US        *float64 `json:"delay_p50_us"` // one way
	DelayP99US        *float64 `json:"delay_p99_us"`
	DelayMaxUS        *float64 `json:"delay_max_us"`
	JitterUS          *float64 `json:"jitter_us"`       // RFC 3550 6.4.1
	Retransmits       *uint32  `json:"retransmits"`     // segments, by the source
	BoxRetransmits    *uint64  `json:"box_retransmits"` // segments, by box 1
	FakeAcks          *uint64  `json:"fake_acks"`
	AbsorbedAcks      *uint64  `json:"absorbed_acks"`
	SetupUS           *uint64  `json:"setup_us"` // first packet to reservation at box 1
	State             string   `json:"state"`    // of the flow at box 1
	Reason            string   `json:"reason"`
	DSCP              uint8    `json:"dscp"`
	PHB               string   `json:"phb"`
	Class             string   `json:"class"`
	SentBytes         *int64   `json:"sent_bytes"`
	ReceivedBytes     *int64   `json:"received_bytes"`
	SHA256Sent        string   `json:"sha256_sent"`
	SHA256Received    string   `json:"sha256_received"`
	Complete          *bool    `json:"complete"` // ended by the source, every byte there, both digests equal
}

// Reservation is a session as a box showed it during a phase.
type Reservation struct {
	Box               string `json:"box"`
	Flow              string `json:"flow"`
	CongestionControl string `json:"congestion_control"`
	TCPMode           string `json:"tcp_mode"`
	console.SessionRow
}

func newReport(m *measured) *Report {
	r := &Report{
		Scenario: asymmetric, DurationS: m.took.Seconds(), WarmupS: warmup.Seconds(),
		Targets: targets(m), Notes: notes(m), Reservations: []Reservation{}, Pass: true,
	}
	for i := range r.Targets {
		r.Pass = r.Pass && r.Targets[i].Pass
	}
	r.Flows = []Flow{
		voiceFlow(PhaseUnloaded, sourceUnloaded, m.unloaded),
		voiceFlow(PhaseBefore, sourceBefore, m.before),
		voiceFlow(PhaseAfter, sourceAfter, m.after),
	}
	r.WAN = directions(m)
	if m.unseen != nil {
		r.Scenario = bridge
	}
	seen := map[[2]string]bool{}
	for i := range m.results {
		res := &m.results[i]
		r.Flows = append(r.Flows, res.flow())
		if !res.before() {
			r.Flows[2].treated(&res.boxes[0].voice)
		}
		for _, row := range res.reservations() {
			// The call has one for as long as it lasts.
			if id := [2]string{row.Box, row.Flow}; row.Flow != "voice" || !seen[id] {
				seen[id] = true
				r.Reservations = append(r.Reservations, row)
			}
		}
	}
	return r
}

// directions are the figures of the WAN.
func directions(m *measured) (list []Direction) {
	for dir, towards := range []string{"B", "A"} {
		c := &m.wan[dir]
		list = append(list, Direction{
			Towards: towards, Frames: c.Frames, QueueDrops: c.QueueDrops, MaxQueueDelayUS: micros(c.MaxQueueDelay),
		})
	}
	return list
}

func (r *result) flow() Flow {
	src, sink := &r.transfer.Source, &r.transfer.Sink
	f := Flow{
		Name: "imaging", Phase: PhaseBefore, Protocol: "tcp", Src: addrA, Sport: r.sourcePort(), Dst: addrB, Dport: r.port(),
		CongestionControl: r.cc, TCPMode: r.mode,
		GoodputBPS: r.goodput(), Retransmits: new(src.TCP.Retransmits),
		SentBytes: new(src.Bytes), ReceivedBytes: new(sink.Bytes),
		SHA256Sent: src.SHA256, SHA256Received: sink.SHA256, Complete: new(r.transfer.Complete()),
	}
	if !r.before() {
		row := &r.boxes[0].transfer
		f.Phase = PhaseAfter
		f.BoxRetransmits, f.FakeAcks, f.AbsorbedAcks = new(row.Retransmits), new(row.FakeAcks), new(row.AbsorbedAcks)
		f.treated(row)
	}
	return f
}

// treated notes what box 1 says of a flow.
func (f *Flow) treated(row *console.FlowRow) {
	f.State, f.Reason, f.DSCP, f.PHB, f.Class = row.State, row.Reason, row.DSCP, row.PHB, row.Class
	if row.ReservedBPS > 0 {
		f.SetupUS = new(row.SetupUS)
	}
}

func voiceFlow(phase string, source uint16, s traffic.StreamResult) Flow {
	return Flow{
		Name: "voice", Phase: phase, Protocol: "udp", Src: addrA, Sport: source, Dst: addrB, Dport: portVoice,
		GoodputBPS: s.PayloadRate, Sent: new(s.Sent), Lost: new(s.Lost), Loss: new(s.LossRatio()),
		DelayP50US: new(micros(s.Delay.P50)), DelayP99US: new(micros(s.Delay.P99)), DelayMaxUS: new(micros(s.Delay.Max)),
		JitterUS: new(micros(s.MaxJitter)),
	}
}

func (r *result) reservations() []Reservation {
	var list []Reservation
	for i, b := range r.boxes {
		box := fmt.Sprintf("box%d", i+1)
		if b.transferSession != nil {
			list = append(list, Reservation{Box: box, Flow: "imaging", CongestionControl: r.cc, TCPMode: r.mode, SessionRow: *b.transferSession})
		}
		if b.voiceSession != nil {
			list = append(list, Reservation{Box: box, Flow: "voice", SessionRow: *b.voiceSession})
		}
	}
	return list
}

// notes tells what the machine itself did to the measurement.
func notes(m *measured) []string {
	list := []string{}
	if m.rsvp.skipped != "" {
		list = append(list, "RSVP messages: not checked: "+m.rsvp.skipped)
	}
	list = append(list, m.rsvp.faulty...)
	for _, dir := range []wire.Direction{wire.AB, wire.BA} {
		c := &m.wan[dir]
		if lost := c.KernelDrops + c.SendErrors + c.Oversize; lost > 0 {
			list = append(list, fmt.Sprintf("WAN %s: this machine lost %d of %d frames by itself: it is too slow or too busy", dir, lost, c.Frames))
		}
		// A few frames late by little are within what the targets allow.
		if c.MaxLateness > 5*time.Millisecond {
			list = append(list, fmt.Sprintf("WAN %s: %d of %d frames were more than 1 ms late, at most %s: this machine is busy", dir, c.LateFrames, c.Frames, millis(c.MaxLateness)))
		}
	}
	for i := range m.results {
		r := &m.results[i]
		for n := range r.boxes {
			for _, p := range r.boxes[n].problems {
				list = append(list, fmt.Sprintf("%s: box %d: %s", r.phase, n+1, p))
			}
		}
	}
	if m.unseen != nil {
		for _, line := range slices.Concat(m.unseen.examples, m.unseen.entries, m.unseen.addresses) {
			list = append(list, "to be seen of a box: "+line)
		}
	}
	for _, line := range m.changed {
		list = append(list, "not as it was in a box's kernel: "+line)
	}
	for _, line := range m.left {
		list = append(list, "left behind: "+line)
	}
	return list
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
