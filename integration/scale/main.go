package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// nodeArg is the first argument of a process that is G, X or S.
const nodeArg = "node"

func main() {
	if len(os.Args) > 1 && os.Args[1] == nodeArg {
		if err := runNode(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "scale node:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// options are what a run of the measurement is told.
type options struct {
	sessions, kernel int
	window           int
	hold, refresh    time.Duration
	json             bool
	profile          string
}

func run() error {
	var o options
	flag.IntVar(&o.sessions, "sessions", 100_000, "sessions that are set up and held")
	flag.IntVar(&o.kernel, "kernel", 5_000, "sessions of the row with kernel programming; 0: leave it out")
	flag.IntVar(&o.window, "window", 64, "set-ups under way at once")
	flag.DurationVar(&o.hold, "hold", time.Minute, "how long refreshes are measured")
	flag.DurationVar(&o.refresh, "refresh", 30*time.Second, "R of RFC 2205 section 3.7")
	flag.StringVar(&o.profile, "profile", "", "file for a processor profile of X in the first row")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.Parse()
	if flag.NArg() > 0 || o.sessions < 1 || o.window < 1 || o.kernel < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var rows []row
	for _, c := range []chain{
		{name: "RFC 2961 (Srefresh)", sessions: o.sessions, reliable: true, hold: o.hold, profile: o.profile},
		{name: "RFC 2205 alone", sessions: o.sessions, hold: o.hold},
		{name: "RFC 2961, with the kernel's treatment", sessions: o.kernel, reliable: true, treat: true},
	} {
		if c.sessions == 0 {
			continue
		}
		c.window, c.refresh, c.settle = o.window, o.refresh, settleFor
		r, err := c.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rows = append(rows, r)
		if !o.json {
			if err := r.print(os.Stdout); err != nil {
				return err
			}
		}
	}
	if !o.json {
		return nil
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}
