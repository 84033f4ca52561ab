// Package box runs `qosproxy run` as the box of a network that package rig made.
package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// stopPatience is longer than the drain_timeout of the rig's configurations.
const stopPatience = 8 * time.Second

// pollEvery is how often a box is asked that is waited for.
const pollEvery = 20 * time.Millisecond

// Config says which program runs where, with which files.
type Config struct {
	Name    string // for messages
	NS      *netns.NetNS
	Program string
	Config  string // file, that the caller has written
	Socket  string // file, that the box makes
}

// Box is a running qosproxy.
type Box struct {
	Name    string
	Client  *console.Client
	process *rig.Process
}

// Start runs the program, which ends with the rig, and waits until it answers.
// With an error after that the box is returned too, for what it said.
func Start(ctx context.Context, r *rig.Rig, c Config) (*Box, error) {
	p, err := r.Start(rig.ProcessConfig{NS: c.NS, Path: c.Program, Args: []string{"run", "-c", c.Config, "-s", c.Socket}})
	if err != nil {
		return nil, err
	}
	b := &Box{Name: c.Name, Client: console.NewClient(c.Socket), process: p}
	if err := p.WaitSocket(ctx, c.Socket); err != nil {
		return b, fmt.Errorf("%s: %w", c.Name, err)
	}
	return b, nil
}

// Written is a box whose configuration is a text.
type Written struct {
	Name string
	NS   *netns.NetNS
	Text string
}

// StartAll writes the configurations into a directory, starts the program on
// each, and waits until all are running. With an error those that have started
// are returned too.
func StartAll(ctx context.Context, r *rig.Rig, program, dir string, list ...Written) (boxes []*Box, err error) {
	for _, w := range list {
		file := filepath.Join(dir, w.Name+".yaml")
		if err := os.WriteFile(file, []byte(w.Text), 0o600); err != nil {
			return boxes, err
		}
		b, err := Start(ctx, r, Config{Name: w.Name, NS: w.NS, Program: program, Config: file, Socket: filepath.Join(dir, w.Name+".sock")})
		if b != nil {
			boxes = append(boxes, b)
		}
		if err != nil {
			return boxes, err
		}
	}
	for _, b := range boxes {
		if err := b.Ready(ctx); err != nil {
			return boxes, err
		}
	}
	return boxes, nil
}

// Ready waits until the box says that it is running.
func (b *Box) Ready(ctx context.Context) error {
	for {
		status, err := b.Client.Status(ctx)
		if err == nil && status.State == "running" {
			return nil
		}
		if !rig.Pause(ctx, pollEvery) {
			return fmt.Errorf("%s is not ready: state %q: %w", b.Name, status.State, errors.Join(err, ctx.Err()))
		}
	}
}

// Settle waits until the box has given back every reservation.
func (b *Box) Settle(ctx context.Context) error {
	for {
		list, err := b.Client.Sessions(ctx)
		if err == nil && len(list) == 0 {
			return nil
		}
		if !rig.Pause(ctx, pollEvery) {
			var states []string
			for i := range list {
				states = append(states, list[i].State)
			}
			return fmt.Errorf("%s keeps its reservations: %v: %w", b.Name, states, errors.Join(err, ctx.Err()))
		}
	}
}

// Stop ends the box; that it had ended by itself is an error.
func (b *Box) Stop() error {
	select {
	case <-b.process.Exited():
		return fmt.Errorf("%s ended by itself: %w\n%s", b.Name, b.process.Err(), b.process.Stderr())
	default:
	}
	if err := b.process.Stop(stopPatience); err != nil {
		return fmt.Errorf("%s: %w\n%s", b.Name, err, b.process.Stderr())
	}
	return nil
}

// Log is the end of what the box said.
func (b *Box) Log() string { return b.process.Stderr() }
