package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/realtime"
)

// ErrTargetMissed is returned by Run for a demonstration that ran to its end
// and missed a target; its report says which.
var ErrTargetMissed = errors.New("a target was missed")

// ErrUnknownScenario is returned by Run for a scenario that is not in Scenarios.
var ErrUnknownScenario = errors.New("unknown scenario")

// Options say what to run and where the results go.
type Options struct {
	Scenario string // one of Scenarios()
	JSON     bool   // write the report as JSON instead of a table
	// PcapDir keeps the WAN's packets, the boxes' configurations and their
	// logs; "" keeps nothing. It is made if it is not there.
	PcapDir string
	// Binary is the qosproxy program that runs as the boxes; "" is the program
	// that is running now.
	Binary string
	// Out gets the report, Progress a line whenever something happens. Nil
	// discards.
	Out, Progress io.Writer

	phases []phase // instead of all, for tests: with boxes only
}

const (
	asymmetric = "asymmetric"
	bridge     = "bridge"
	voiceAdmit = "voice-admit"
)

// scenario is one demonstration: it measures, and tells.
type scenario struct {
	name   string
	run    func(*demonstration, context.Context, *leftovers, *measured) error
	report func(*measured) *Report
}

var scenarios = []scenario{
	{asymmetric, (*demonstration).runAsymmetric, newReport},
	{bridge, (*demonstration).runBridge, newReport},
	{voiceAdmit, (*demonstration).runVoiceAdmit, newEFReport},
}

// Scenarios lists the names that Options.Scenario may have.
func Scenarios() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// Run runs a scenario, writes its report to Options.Out, and returns it. It
// needs root. When ctx ends, or the terminal goes away, everything is removed
// before Run returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == o.Scenario })
	if i < 0 {
		return nil, fmt.Errorf("%w %q: choose one of %s", ErrUnknownScenario, o.Scenario, strings.Join(Scenarios(), ", "))
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("the demo makes network namespaces, which needs root: run it with sudo")
	}
	if o.Binary == "" {
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("which program to run as the boxes: %w", err)
		}
	}
	o.Out = cmp.Or[io.Writer](o.Out, io.Discard)
	o.Progress = cmp.Or[io.Writer](o.Progress, io.Discard)
	// A terminal that is closed, or a pipe that nobody reads, would otherwise
	// end the process with its namespaces still there.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	defer realtime.PutOffCollections()()
	m, err := perform(ctx, o, scenarios[i].run)
	if err != nil {
		return nil, err
	}
	report := scenarios[i].report(m)
	if o.JSON {
		err = report.WriteJSON(o.Out)
	} else {
		err = report.WriteTable(o.Out)
	}
	if err != nil {
		return report, fmt.Errorf("write the report: %w", err)
	}
	if !report.Pass {
		return report, ErrTargetMissed
	}
	return report, nil
}
