package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// Verbs of a request.
const (
	verbAdd     = "add"
	verbFigures = "figures"
	verbEnd     = "end"
)

// request is one line to a node.
type request struct {
	Verb         string
	First, Count int
	Rate         int // set-ups a second; 0: as fast as Window lets
	Window       int
}

// reply is one line from a node.
type reply struct {
	Error   string
	Elapsed time.Duration   // of verbAdd
	Latency []time.Duration // of each set-up, sorted
	Figures figures
}

// figures are what a node says of itself.
type figures struct {
	// At and CPU, the user and system time of the process, are taken twice:
	// when the question came, and when it was answered, which itself takes a
	// collection of garbage and a walk over all sessions.
	Asked, At     time.Time
	AskedCPU, CPU time.Duration
	Heap          uint64 // bytes in use after a collection
	Resident      uint64 // bytes
	In, Out       uint64 // RSVP messages as the machine knows them
	Datagrams     uint64 // that were sent
	Captured      uint64 // that came
	Lost          uint64 // messages that the node dropped or could not send
	Reservations  int
	Treat         []time.Duration // of each treatment, sorted
	Why           string          // the counters that tell of trouble
}

// peer is a node seen from the parent.
type peer struct {
	proc *rig.Process
	in   *os.File // requests
	out  *bufio.Scanner
	name string
}

// longestAnswer bounds the wait for a node.
const longestAnswer = 10 * time.Minute

func startPeer(ctx context.Context, r *rig.Rig, ns *netns.NetNS, setup nodeSetup) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args, err := json.Marshal(setup)
	if err != nil {
		return nil, err
	}
	// The node's requests come by a FIFO: its path is all that it needs to know.
	inR, inW, err := fifo()
	if err != nil {
		return nil, err
	}
	outR, outW := io.Pipe()
	p := &peer{in: inW, out: bufio.NewScanner(outR), name: ns.Name()}
	p.out.Buffer(nil, 64<<20)
	p.proc, err = r.Start(rig.ProcessConfig{NS: ns, Path: self, Args: []string{nodeArg, inR, string(args)}, Stdout: outW})
	if err != nil {
		return nil, errors.Join(err, inW.Close())
	}
	go func() {
		<-p.proc.Exited()
		_ = outW.Close() // never fails
	}()
	if err := r.OnClose(func() error { return errors.Join(inW.Close(), os.RemoveAll(filepath.Dir(inR))) }); err != nil {
		return nil, err
	}
	// The first line says that it is ready.
	_, err = p.read(ctx)
	return p, err
}

func (p *peer) ask(ctx context.Context, q request) (reply, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return reply{}, fmt.Errorf("%s: %w: %s", p.name, err, p.proc.Stderr())
	}
	return p.read(ctx)
}

func (p *peer) read(ctx context.Context) (reply, error) {
	type result struct {
		r   reply
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r reply
		if !p.out.Scan() {
			err := p.out.Err()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			done <- result{err: err}
			return
		}
		err := json.Unmarshal(p.out.Bytes(), &r)
		if err == nil && r.Error != "" {
			err = errors.New(r.Error)
		}
		done <- result{r, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return d.r, fmt.Errorf("%s: %w: %s", p.name, d.err, p.proc.Stderr())
		}
		return d.r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	case <-time.After(longestAnswer):
		return reply{}, fmt.Errorf("%s did not answer in %s", p.name, longestAnswer)
	}
}
