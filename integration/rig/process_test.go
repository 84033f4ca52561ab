package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

func ignoreTerm() { signal.Ignore(unix.SIGTERM) }

func serveSocket(path string) error {
	time.Sleep(100 * time.Millisecond)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
}

func startRole(t *testing.T, r *Rig, ns *netns.NetNS, role string, env ...string) *Process {
	t.Helper()
	p, err := r.Start(ProcessConfig{NS: ns, Path: os.Args[0], Env: append(env, "RIG_TEST_ROLE="+role)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProcessRunsInsideItsNamespace(t *testing.T) {
	r := newRig(t)
	ns, err := r.Namespace("box")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	p := startRole(t, r, ns, "socket", "RIG_TEST_SOCKET="+path)
	if err := p.WaitSocket(deadline(t, 5*time.Second), path); err != nil {
		t.Fatal(err)
	}
	inode, err := ns.Inode()
	if err != nil {
		t.Fatal(err)
	}
	pids, err := inside(inode)
	if err != nil || !slices.Contains(pids, p.PID()) {
		t.Errorf("processes inside: %v, %v; want %d among them", pids, err, p.PID())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the process outlives its rig: %v", err)
	}
}

func TestProcessThatFailsIsToldWithItsLastWords(t *testing.T) {
	r := newRig(t)
	ns, err := r.Namespace("box")
	if err != nil {
		t.Fatal(err)
	}
	p := startRole(t, r, ns, "fail")
	err = p.WaitSocket(deadline(t, 5*time.Second), filepath.Join(t.TempDir(), "never"))
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), netns.Dir) {
		t.Errorf("error %v tells neither exit code nor reason", err)
	}
	if p.Err() == nil {
		t.Error("exit code 1 is no error")
	}
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	r := newRig(t)
	ns, err := r.Namespace("box")
	if err != nil {
		t.Fatal(err)
	}
	p := startRole(t, r, ns, "stubborn")
	for start := time.Now(); !strings.Contains(p.Stderr(), "ready"); time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatal("the process does not start")
		}
	}
	if err := p.Stop(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("stop: %v, want an error that says it was killed", err)
	}
	if err := unix.Kill(p.PID(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

// startOther runs a rig in another process and returns its namespace's name
// and its child's process number.
func startOther(t *testing.T) (cmd *exec.Cmd, name string, child int) {
	t.Helper()
	roottest.Need(t)
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{"RIG_TEST_ROLE=rig"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &name, &child); err != nil {
		t.Fatal(err)
	}
	return cmd, name, child
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// A zombie whose new parent has not looked yet is as good as gone.
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Since(start) > 5*time.Second {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

func TestSweepRemovesWhatAKilledRigLeaves(t *testing.T) {
	cmd, name, child := startOther(t)
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if names, err := netns.Names(); err != nil || !slices.Contains(names, name) {
		t.Fatalf("a living rig's namespace was swept: %v, %v", names, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	waitGone(t, child)
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if names, err := netns.Names(); err != nil || slices.Contains(names, name) {
		t.Errorf("%s is left after Sweep: %v, %v", name, names, err)
	}
}

func TestRigClosesOnSignal(t *testing.T) {
	cmd, name, child := startOther(t)
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.String() != "signal: interrupt" {
		t.Errorf("the process ended with %v, want its signal", err)
	}
	waitGone(t, child)
	if names, err := netns.Names(); err != nil || slices.Contains(names, name) {
		t.Errorf("%s is left: %v, %v", name, names, err)
	}
}

func TestWaitSocketEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	ns, err := r.Namespace("box")
	if err != nil {
		t.Fatal(err)
	}
	p := startRole(t, r, ns, "sleep")
	err = p.WaitSocket(deadline(t, 50*time.Millisecond), filepath.Join(t.TempDir(), "never"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}
