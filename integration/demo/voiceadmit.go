package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// The scenario voice-admit: a call that was admitted and telephony that was not, on
// a slow link, in both models of RFC 5865 section 2.1.
const (
	efLink     = 4_000_000 // bit/s, both ways
	efCapacity = "3800kbit"
	// What was bought of EF, bit/s. The trains and the call that nobody admitted are
	// within it; twenty more calls are not.
	efContract  = "1200kbit"
	efFlood     = 6_000_000
	efTrain     = 10                     // packets of 1,500 bytes: 30 ms of the link
	efTrainEach = 137 * time.Millisecond // no multiple of the calls' period
	efEach      = 10 * time.Millisecond  // of packets of a call
	efPayload   = 80                     // of a call's packet: 64 kbit/s
	efMore      = 500 * time.Microsecond // of packets of twenty calls

	efWarmup = 2 * time.Second
	efWindow = 5 * time.Second

	portAdmitted   = 5004
	portUnadmitted = 5104
	portTrains     = 5204
	portMore       = 5304

	sourceAdmitted = 41011
	efTOS          = dscp.EF << 2
)

const (
	modelPriority = "priority"
	modelPolicer  = "policer"
)

// efPhase is one measurement.
type efPhase struct {
	model string // "": no boxes
	abuse bool   // more EF than was bought
}

func efPhases() []efPhase {
	return []efPhase{{}, {modelPriority, false}, {modelPriority, true}, {modelPolicer, false}, {modelPolicer, true}}
}

func (p efPhase) name() string {
	switch {
	case p.model == "":
		return PhaseBefore
	case p.abuse:
		return p.model + "-abuse"
	}
	return p.model
}

func (p efPhase) String() string {
	s := "without boxes"
	if p.model != "" {
		s = "ef_model: " + p.model
	}
	if p.abuse {
		return s + ", more EF than was bought"
	}
	return s
}

// efResult is what a phase measured.
type efResult struct {
	efPhase
	admitted, unadmitted, trains, bestEffort traffic.StreamResult
	row                                      console.FlowRow // of the admitted call, at box 1
	sessions                                 [2]*console.SessionRow
	problems                                 []string
}

//go:embed voiceadmit.yaml
var efConfig string

var efTemplate = template.Must(template.New("voiceadmit.yaml").Parse(efConfig))

// efConfigOf writes the configuration of a box; of box 2 the model is "".
func efConfigOf(number int, model string) configure {
	return func(path, stateDir string) error {
		var text strings.Builder
		err := efTemplate.Execute(&text, map[string]any{
			"Number": number, "StateDir": stateDir, "Model": model, "Capacity": efCapacity, "Contract": efContract, "PortCall": portAdmitted,
		})
		if err != nil {
			return fmt.Errorf("configuration of box %d: %w", number, err)
		}
		return os.WriteFile(path, []byte(text.String()), 0o600)
	}
}

// runVoiceAdmit is the scenario.
func (d *demonstration) runVoiceAdmit(ctx context.Context, watch *leftovers, m *measured) error {
	link := emulator.Params{Rate: efLink, Delay: 5 * time.Millisecond, Queue: 64_000}
	if err := d.build(watch, wire.Config{AB: link, BA: link, Seed: 1}); err != nil {
		return err
	}
	d.say.printf("a call alone, on the unloaded path")
	var err error
	if m.unloaded, err = traffic.Stream(ctx, d.efCall(d.net.A, sourceAdmitted, portAdmitted, arpWarmup, unloadedFor)); err != nil {
		return err
	}
	d.sayVoice(m.unloaded)
	found, err := d.kernelState()
	if err != nil {
		return err
	}
	model := ""
	for _, p := range efPhases() {
		if p.model != model {
			if err := d.turnTo(ctx, p.model, model); err != nil {
				return err
			}
			model = p.model
		}
		r := efResult{efPhase: p}
		d.say.printf("%s: two calls, trains of EF and a flood for %s, the first %s not counted", p, efWarmup+efWindow, efWarmup)
		if err := d.measureEF(ctx, &r); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for i, s := range []*traffic.StreamResult{&r.admitted, &r.unadmitted} {
			d.say.printf("  %s: lost %d of %d packets, delay p50 %s, p99 %s", []string{flowAdmitted, flowUnadmitted}[i], s.Lost, s.Sent, millis(s.Delay.P50), millis(s.Delay.P99))
		}
		m.efs = append(m.efs, r)
	}
	if err := d.stopBoxes(); err != nil {
		return err
	}
	then, err := d.kernelState()
	m.changed = append(found.Added(then), then.Added(found)...)
	return errors.Join(err, d.finish(m))
}

// turnTo brings the boxes to a model: by a reload, if they run.
func (d *demonstration) turnTo(ctx context.Context, model, from string) error {
	if from == "" {
		return d.startBoxes(ctx, []configure{efConfigOf(1, model), efConfigOf(2, "")})
	}
	d.say.printf("box 1 reads its configuration again, with ef_model: %s", model)
	if err := efConfigOf(1, model)(d.configFile(1), d.stateDir(1)); err != nil {
		return err
	}
	_, err := d.boxes[0].Client.Reload(ctx)
	return err
}

// efCall is a call of 64 kbit/s towards B, in small packets: more of them have
// something to say about delay.
func (d *demonstration) efCall(from *netns.NetNS, source, port uint16, warmup, length time.Duration) traffic.StreamConfig {
	local := rig.AddrA
	if from == d.net.C {
		local = rig.AddrC
	}
	return traffic.StreamConfig{
		From: from, To: d.net.B, Local: netip.AddrPortFrom(local, source), Remote: netip.AddrPortFrom(rig.AddrB, port),
		Payload: efPayload, Interval: efEach, Duration: length, Warmup: warmup,
	}
}

// measureEF runs one phase.
func (d *demonstration) measureEF(ctx context.Context, r *efResult) error {
	const length = efWarmup + efWindow
	stream := func(cfg traffic.StreamConfig, out *traffic.StreamResult) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			*out, err = traffic.Stream(ctx, cfg)
			return err
		}
	}
	second := d.efCall(d.net.C, sourceAdmitted+1, portUnadmitted, efWarmup, length)
	second.TOS = efTOS
	trains := traffic.Flood(d.net.C, d.net.B, netip.AddrPortFrom(rig.AddrB, portTrains), 1, length)
	trains.Interval, trains.Train, trains.Scatter, trains.Warmup, trains.TOS = efTrainEach, efTrain, false, efWarmup, efTOS
	flood := traffic.Flood(d.net.C, d.net.B, netip.AddrPortFrom(rig.AddrB, portFlood), efFlood, length)
	flood.Warmup = efWarmup
	parts := []func(context.Context) error{
		stream(d.efCall(d.net.A, sourceAdmitted, portAdmitted, efWarmup, length), &r.admitted),
		stream(second, &r.unadmitted), stream(trains, &r.trains), stream(flood, &r.bestEffort),
	}
	if r.abuse {
		more := d.efCall(d.net.C, sourceAdmitted+2, portMore, 0, length)
		more.TOS, more.Interval, more.Scatter = efTOS, efMore, true
		parts = append(parts, stream(more, &traffic.StreamResult{}))
	}
	if r.model != "" {
		parts = append(parts, func(ctx context.Context) error {
			if !rig.Pause(ctx, length-sampleBefore) {
				return nil
			}
			return d.readEF(ctx, r)
		})
	}
	if err := together(ctx, parts...); err != nil {
		return err
	}
	return ctx.Err()
}

// readEF asks the boxes for the admitted call.
func (d *demonstration) readEF(ctx context.Context, r *efResult) error {
	for i, b := range d.boxes {
		says, err := ask(ctx, b)
		if err != nil {
			return err
		}
		for _, p := range says.problems {
			r.problems = append(r.problems, fmt.Sprintf("box %d: %s", i+1, p))
		}
		row, session := says.of("udp", sourceAdmitted, portAdmitted)
		if r.sessions[i] = session; i == 0 {
			r.row = row
		}
	}
	return nil
}
