package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// stopPatience is how long a process may take to end by SIGTERM when the rig
// closes, before it is killed.
const stopPatience = 5 * time.Second

// ProcessConfig says what to run where.
type ProcessConfig struct {
	NS     *netns.NetNS
	Path   string
	Args   []string // without the program's name
	Env    []string // nil inherits
	Dir    string
	Stdout io.Writer // nil discards
	Stderr io.Writer // nil keeps the last 64 kB for Process.Stderr
}

// Process is a program running inside a namespace. It is killed by the kernel
// when this process dies, however that happens.
type Process struct {
	cmd    *exec.Cmd
	tail   *tail
	exited chan struct{}
	err    error // of the program's end, after exited
}

// StartProcess runs a program. The caller stops it; Rig.Start does that with
// the rig.
func StartProcess(cfg ProcessConfig) (*Process, error) {
	p := &Process{cmd: exec.Command(cfg.Path, cfg.Args...), tail: &tail{}, exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = cfg.Env, cfg.Dir, cfg.Stdout, cfg.Stderr
	if cfg.Stderr == nil {
		p.cmd.Stderr = p.tail
	}
	// A descendant that keeps the pipe open must not hold up Wait.
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // the terminal's Ctrl-C is for the rig, which stops it in order
	}
	started := make(chan error, 1)
	go func() {
		// The parent-death signal is sent when the thread ends, not the
		// process, so this thread stays inside until the program has ended.
		err := cfg.NS.Do(func() error {
			if err := p.cmd.Start(); err != nil {
				return err
			}
			started <- nil
			p.err = p.cmd.Wait()
			close(p.exited)
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", cfg.Path, cfg.NS.Name(), err)
	}
	return p, nil
}

// PID returns the process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err returns how the program ended: nil for exit code 0 and while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return p.err
	default:
		return nil
	}
}

// Stderr returns the last 64 kB that the program wrote there, unless
// ProcessConfig.Stderr took them.
func (p *Process) Stderr() string { return p.tail.String() }

// Signal sends a signal; to a program that has ended it does nothing.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Stop ends the program by SIGTERM, and by SIGKILL after the patience given, a Watch's.
// It returns how the program ended; having to kill it is an error.
func (p *Process) Stop(patience time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return err
	}
	for w := StartWatch(); w.Shown() < patience; {
		select {
		case <-p.exited:
			return p.err
		case <-time.After(metronomeBeat):
		}
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.cmd.Path, patience)
}

// Kill ends the program and its children by SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	select {
	case <-p.exited:
		return nil // its process group's number may be another's by now
	default:
	}
	if err := unix.Kill(-p.PID(), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.exited
	return nil
}

// end stops the program for good. That a program ended by our own signal is
// no error; that it had to be killed is.
func (p *Process) end() error {
	err := p.Stop(stopPatience)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// WaitSocket waits until something accepts connections at a unix socket. It
// fails at once when the program ends.
func (p *Process) WaitSocket(ctx context.Context, path string) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before %s was there: %w%s", p.cmd.Path, path, errOr(p.err, "exit code 0"), p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (%w)%s", path, ctx.Err(), err, p.lastWords())
		case <-poll.C:
		}
	}
}

// lastWords returns the end of what the program wrote to stderr, for an error.
func (p *Process) lastWords() string {
	lines := strings.Split(strings.TrimSpace(p.Stderr()), "\n")
	text := strings.Join(lines[max(0, len(lines)-5):], "\n")
	if text == "" {
		return ""
	}
	return "\n" + text
}

func errOr(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}
