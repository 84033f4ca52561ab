package watchdog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// This test program is the daemon and the watchdog too.
const roleEnv = "QOSPROXY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); {
	case role == "":
		os.Exit(m.Run())
	case len(os.Args) > 1 && os.Args[1] == "dog":
		pid, err := strconv.Atoi(os.Args[2])
		if err != nil {
			os.Exit(2)
		}
		log, _ := zap.NewProduction()
		if err := Watch(pid, log); err != nil {
			log.Error("watchdog", zap.Error(err))
			os.Exit(1)
		}
	default:
		beDaemon(role)
	}
}

// beDaemon beats, and does what role says when told by a byte on its standard input.
func beDaemon(role string) {
	log, _ := zap.NewProduction()
	dog := Start([]string{"/proc/self/exe", "dog"}, log)
	var mu sync.Mutex
	go func() {
		for range time.Tick(250 * time.Millisecond) {
			mu.Lock()
			dog.Beat()
			mu.Unlock()
		}
	}()
	fmt.Println("ready")
	buf := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(buf); err != nil {
			os.Exit(0) // the test has ended
		}
		switch role {
		case "close":
			dog.Close()
			fmt.Println("closed")
		case "block":
			mu.Lock()
		case "spin":
			mu.Lock()
			for n := uint64(1); n != 0; n++ { // that is the fault: it takes a thousand years
			}
		}
	}
}

// daemon is one that is looked after.
type daemon struct {
	cmd    *exec.Cmd
	in     *os.File
	out    *lines
	ended  chan error
	stderr *lines
}

// lines collects what a process says.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startDaemon(t *testing.T, role string) *daemon {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cmd: exec.Command(os.Args[0]), in: w, out: &lines{}, stderr: &lines{}, ended: make(chan error, 1)}
	d.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	d.cmd.Stdin, d.cmd.Stdout, d.cmd.Stderr = r, d.out, d.stderr
	d.cmd.WaitDelay = 5 * time.Second
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(func() { _ = w.Close(); _ = d.cmd.Process.Kill() })
	d.until(t, "it is ready", func() bool {
		dogs := d.children(t)
		return strings.Contains(d.out.String(), "ready") && len(dogs) == 1 && ignores(dogs[0], unix.SIGTERM)
	})
	time.Sleep(300 * time.Millisecond) // a beat or two
	return d
}

func (d *daemon) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute; it says %s", what, d.stderr)
		}
	}
}

// ignores tells whether a process ignores a signal; a watchdog does as soon as it is one.
func ignores(pid int, sig unix.Signal) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), "SigIgn:")
	mask, err := strconv.ParseUint(strings.TrimSpace(rest[:min(len(rest), 17)]), 16, 64)
	return err == nil && mask&(1<<(sig-1)) != 0
}

// children are the processes that the daemon has started.
func (d *daemon) children(t *testing.T) (pids []int) {
	t.Helper()
	pid := strconv.Itoa(d.cmd.Process.Pid)
	tasks, err := os.ReadDir("/proc/" + pid + "/task")
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/" + pid + "/task/" + task.Name() + "/children")
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

func (d *daemon) tell(t *testing.T) {
	t.Helper()
	if _, err := d.in.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
}

// killedAfter waits for the end by SIGKILL.
func (d *daemon) killedAfter(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	select {
	case err := <-d.ended:
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
			t.Fatalf("ended with %v", err)
		}
	case <-time.After(time.Minute): // or longer than any machine is busy
		t.Fatalf("not killed; it says %s", d.stderr)
	}
	return time.Since(since)
}

func gone(pid int) bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// A daemon that blocks, or goes round in circles, is killed, and the watchdog ends
// with it.
func TestHangingDaemonIsKilled(t *testing.T) {
	for role, why := range map[string]string{"block": "waits for something", "spin": "busy with something else"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, role)
			dogs := d.children(t)
			d.tell(t)
			took := d.killedAfter(t, time.Now())
			t.Logf("killed after %s", took.Round(10*time.Millisecond))
			if took < 1000*time.Millisecond || !strings.Contains(d.stderr.String(), "is killed") {
				t.Errorf("after %s: %s", took, d.stderr)
			}
			if !strings.Contains(d.stderr.String(), why) && !strings.Contains(d.stderr.String(), "busy") {
				t.Errorf("%s", d.stderr)
			}
			d.until(t, "the watchdog ends", func() bool { return gone(dogs[0]) })
		})
	}
}

// One that is stopped by a signal is told to go on, and nothing is lost.
func TestStoppedDaemonGoesOn(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "stop")
	for range 2 {
		if err := d.cmd.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		d.until(t, "it is stopped", func() bool { s, err := read("/proc", d.cmd.Process.Pid); return err == nil && s.stopped })
		d.until(t, "it goes on", func() bool { s, err := read("/proc", d.cmd.Process.Pid); return err == nil && !s.stopped })
		t.Logf("goes on after %s", time.Since(began).Round(10*time.Millisecond))
		time.Sleep(2 * time.Second)
	}
	select {
	case err := <-d.ended:
		t.Fatalf("ended: %v; %s", err, d.stderr)
	default:
	}
}

// One that is stopped over and over is killed.
func TestDaemonStoppedOverAndOver(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "stop")
	began := time.Now()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_ = d.cmd.Process.Signal(unix.SIGSTOP) // until it has ended
			}
		}
	}()
	defer close(stop)
	t.Logf("killed after %s", d.killedAfter(t, began).Round(10*time.Millisecond))
}

// A watchdog that dies is replaced; one that is closed is not, and the daemon's
// silence is then nobody's business. Signals for the daemon do not end it.
func TestWatchdogDiesAndIsClosed(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "close")
	dog := d.children(t)[0]
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := unix.Kill(dog, s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if got := d.children(t); len(got) != 1 || got[0] != dog {
		t.Fatalf("the watchdog %d is %v now", dog, got)
	}
	if err := unix.Kill(dog, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.until(t, "it is there again", func() bool { c := d.children(t); return len(c) == 1 && c[0] != dog })
	d.tell(t)
	d.until(t, "it is closed", func() bool { return strings.Contains(d.out.String(), "closed") && len(d.children(t)) == 0 })
	time.Sleep(1500 * time.Millisecond)
	if len(d.children(t)) != 0 || strings.Contains(d.stderr.String(), "is killed") {
		t.Errorf("%v; %s", d.children(t), d.stderr)
	}
}

// A watchdog that is stopped by a signal does not hear that it shall end, and is not
// waited for without end.
func TestStoppedWatchdogIsClosed(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "close")
	dog := d.children(t)[0]
	if err := unix.Kill(dog, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(dog, unix.SIGKILL) }) // it is gone
	d.until(t, "it is stopped", func() bool { s, err := read("/proc", dog); return err == nil && s.stopped })
	d.tell(t)
	d.until(t, "it is closed", func() bool { return strings.Contains(d.out.String(), "closed") && len(d.children(t)) == 0 })
}

// On a machine that is busy with other things nobody is killed.
func TestBusyMachineIsNoHang(t *testing.T) {
	daemons := []*daemon{startDaemon(t, "load"), startDaemon(t, "load")}
	var stop atomic.Bool
	var load sync.WaitGroup
	for range 8 * runtime.NumCPU() {
		load.Go(func() {
			runtime.LockOSThread() // a thread of the kernel each
			for !stop.Load() {
			}
		})
	}
	was := runtime.GOMAXPROCS(8*runtime.NumCPU() + 2)
	time.Sleep(4 * time.Second)
	stop.Store(true)
	load.Wait()
	runtime.GOMAXPROCS(was)
	for _, d := range daemons {
		select {
		case err := <-d.ended:
			t.Errorf("ended: %v; %s", err, d.stderr)
		default:
			t.Logf("says %s", d.stderr)
		}
	}
}
