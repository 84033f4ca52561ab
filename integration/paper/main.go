package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/realtime"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "paper:", err)
		os.Exit(1)
	}
}

// options are what a run is told.
type options struct {
	program        string // of qosproxy
	cc             string
	modes          []string
	rates          []int64
	losses         []float64
	warmup, window time.Duration
	thin           bool
	say            func(format string, args ...any)
}

// report is what a run has found, and its JSON.
type report struct {
	Runs       int             `json:"runs"` // whose figures are put together
	Processors int             `json:"processors"`
	LoadBefore float64         `json:"load_before"` // load average of a minute
	LoadAfter  float64         `json:"load_after"`
	WarmupS    float64         `json:"warmup_s"` // left out of goodput
	WindowS    float64         `json:"window_s"` // measured after that
	TookS      float64         `json:"took_s"`
	Points     []point         `json:"points,omitempty"`
	Latencies  []latencyReport `json:"latencies,omitempty"`
}

// errBad ends a run whose figures are not what they are called.
var errBad = errors.New("a transfer is not what its mode promises: see its remark")

func run() error {
	o := options{say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	var modes, rates, losses, plots string
	var asJSON, small bool
	flag.StringVar(&o.program, "qosproxy", "bin/qosproxy", "the program that runs as the boxes")
	flag.StringVar(&o.cc, "cc", "cubic", "congestion control of the source: cubic, bbr, reno")
	flag.StringVar(&modes, "modes", "", "tcp modes (default none,realtime,reliable; with -latency none,pace,realtime,reliable)")
	flag.StringVar(&rates, "rates", "20mbit,10mbit,5mbit,2mbit,1mbit,512kbit,256kbit,128kbit,64kbit,32kbit", `rates of the way back; "" for none`)
	flag.StringVar(&losses, "losses", "0,1,2,5,10,20", `losses on the way back, per cent; "" for none`)
	flag.DurationVar(&o.warmup, "warmup", 3*time.Second, "not counted at the start")
	flag.DurationVar(&o.window, "seconds", 0, "measured after that (default 3s; with -latency 60s)")
	flag.BoolVar(&o.thin, "thin", true, "box 2 thins ACKs (thin_acks) where box 1 cheats")
	flag.BoolVar(&small, "latency", false, "measure small requests and responses instead")
	flag.StringVar(&plots, "plots", "", "directory for SVG plots")
	flag.BoolVar(&asJSON, "json", false, "print JSON")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: paper [flags] [FILE...]\n\nFILEs are the JSON of earlier runs: they are tabled and drawn together (of a point that\nseveral have, the median), and nothing is measured.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	if o.rates, err = parseRates(rates); err != nil {
		return err
	}
	if o.losses, err = parseLosses(losses); err != nil {
		return err
	}
	if o.modes, err = parseModes(modes, small); err != nil {
		return err
	}
	if o.window == 0 {
		o.window = 3 * time.Second
		if small {
			o.window = time.Minute
		}
	}
	if o.warmup < 0 || o.window < time.Second {
		return errors.New("-warmup cannot be negative, and -seconds is 1s at least")
	}
	var r report
	if flag.NArg() > 0 {
		r, err = read(flag.Args())
	} else {
		r, err = measure(o, small)
	}
	if err != nil {
		return err
	}
	if plots != "" {
		if err := r.draw(plots); err != nil {
			return err
		}
	}
	if err := r.write(os.Stdout, asJSON); err != nil {
		return err
	}
	if slices.ContainsFunc(r.Points, func(p point) bool { return !p.good() }) {
		return errBad
	}
	return nil
}

func parseModes(list string, small bool) ([]string, error) {
	if list == "" && small {
		return []string{modeNone, modePace, modeRealtime, modeReliable}, nil
	}
	if list == "" {
		return []string{modeNone, modeRealtime, modeReliable}, nil
	}
	modes := fields(list)
	for i, m := range modes {
		if !slices.Contains([]string{modeNone, modePace, modeRealtime, modeReliable}, m) || slices.Contains(modes[:i], m) {
			return nil, fmt.Errorf("-modes: %q is not one of none, pace, realtime and reliable, or is there twice", m)
		}
	}
	return modes, nil
}

// measure makes a whole run.
func measure(o options, small bool) (r report, err error) {
	if os.Geteuid() != 0 {
		return r, errors.New("this makes network namespaces, which needs root: run it with sudo")
	}
	// A terminal that is closed, or a pipe that nobody reads, would otherwise
	// end the process with its namespaces still there.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	defer realtime.PutOffCollections()()
	start := time.Now()
	r = report{Runs: 1, Processors: runtime.NumCPU(), LoadBefore: load(), WarmupS: o.warmup.Seconds(), WindowS: o.window.Seconds()}
	if small {
		r.Latencies, err = latencies(ctx, o)
	} else {
		r.Points, err = curves(ctx, o)
	}
	r.LoadAfter, r.TookS = load(), time.Since(start).Seconds()
	return r, err
}

// read puts the reports of earlier runs together.
func read(files []string) (report, error) {
	var all report
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return all, err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return all, fmt.Errorf("%s is not the JSON of this program: %w", file, err)
		}
		points, latencies := append(all.Points, r.Points...), append(all.Latencies, r.Latencies...)
		if i == 0 {
			all = r
		}
		all.LoadBefore, all.LoadAfter = max(all.LoadBefore, r.LoadBefore), max(all.LoadAfter, r.LoadAfter)
		all.Points, all.Latencies = points, latencies
		if i > 0 {
			all.Runs, all.TookS = all.Runs+max(1, r.Runs), all.TookS+r.TookS
		}
	}
	return all, nil
}

func (r *report) write(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.table(w)
}
