package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/qosproxy/qosproxy/integration/demo"
	"github.com/qosproxy/qosproxy/pkg/config"
	box "github.com/qosproxy/qosproxy/pkg/daemon"
)

// rooms is what the verbs that do more than ask the daemon call. A verb whose
// function is nil does not exist.
type rooms struct {
	// run is the daemon; it returns when ctx has ended and everything is
	// put back.
	run func(ctx context.Context, o runOptions) error
	// watchdog looks after the daemon with that process number, until it ends.
	watchdog func(pid int, level, format string) error
	// plan returns the kernel state that a config asks for, as text for
	// people and as a value for JSON. It needs no root and changes nothing.
	plan func(c *config.Config) (text string, value any, err error)
	// demo runs a scenario. It prints its own table or JSON, and returns
	// errTargetMissed where a target is missed.
	demo func(ctx context.Context, o demoOptions) error
}

type runOptions struct {
	ConfigFile string
	Socket     string // overrides console.socket where it is not ""
	Version    string
}

type demoOptions struct {
	Scenario string
	JSON     bool
	PcapDir  string // where the WAN's pcap is kept; "" nowhere
	Out      io.Writer
	Progress io.Writer
}

// connected returns the functions of the daemon and of the demo.
func connected() rooms {
	return rooms{
		run: func(ctx context.Context, o runOptions) error {
			return box.Run(ctx, box.Options{
				ConfigFile: o.ConfigFile, Socket: o.Socket, Version: o.Version,
				// The program that runs, even where an upgrade has replaced its file.
				Watchdog: []string{"/proc/self/exe", watchdogVerb},
			})
		},
		watchdog: box.Watchdog,
		plan: func(c *config.Config) (string, any, error) {
			text := box.Plan(c)
			return text, map[string][]string{"plan": strings.Split(strings.TrimRight(text, "\n"), "\n")}, nil
		},
		demo: func(ctx context.Context, o demoOptions) error {
			_, err := demo.Run(ctx, demo.Options{
				Scenario: o.Scenario, JSON: o.JSON, PcapDir: o.PcapDir, Out: o.Out, Progress: o.Progress,
			})
			if errors.Is(err, demo.ErrTargetMissed) {
				return errTargetMissed
			}
			return err
		},
	}
}
