package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// options are what a run is told.
type options struct {
	binary         string // of qosproxy
	thinRate       string // tcp.thin_rate of box 2; "": its default
	ways           []int64
	controls       []string
	variants       []variant
	warmup, window time.Duration
	logs           string // directory for the boxes' logs; "": none are kept
	say            func(format string, args ...any)
}

func defaults() options {
	return options{
		binary: "bin/qosproxy", ways: []int64{200_000, 50_000}, controls: []string{"cubic", "bbr"}, variants: variants(),
		warmup: 5 * time.Second, window: 10 * time.Second,
		say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
}

func run() error {
	o := defaults()
	var asJSON bool
	var way int64
	var control, only string
	flag.StringVar(&o.binary, "binary", o.binary, "the qosproxy program")
	flag.StringVar(&o.thinRate, "thin-rate", "", "tcp.thin_rate of box 2, such as 8kbit")
	flag.Int64Var(&way, "back", 0, "only this way back, bit/s")
	flag.StringVar(&control, "cc", "", "only this congestion control")
	flag.StringVar(&only, "variant", "", "only this variant")
	flag.DurationVar(&o.warmup, "warmup", o.warmup, "not counted at a transfer's start")
	flag.DurationVar(&o.window, "window", o.window, "counted after it")
	flag.StringVar(&o.logs, "logs", "", "directory that keeps the boxes' logs")
	flag.BoolVar(&asJSON, "json", false, "print JSON")
	flag.Parse()
	known := only == "" || slices.ContainsFunc(o.variants, func(v variant) bool { return v.Name == only })
	if flag.NArg() > 0 || !known || way < 0 || o.warmup <= 0 || o.window < 2*time.Second {
		flag.Usage()
		os.Exit(2)
	}
	if way > 0 {
		o.ways = []int64{way}
	}
	if control != "" {
		o.controls = []string{control}
	}
	if only != "" {
		o.variants = slices.DeleteFunc(o.variants, func(v variant) bool { return v.Name != only })
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	rows, err := compare(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	return writeTable(os.Stdout, rows)
}
