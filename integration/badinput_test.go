package integration

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runToEnd runs the program in a box's namespace, perhaps as another user, and
// returns its exit code and what it wrote to stderr.
func (b *box) runToEnd(t *testing.T, as *syscall.Credential, args ...string) (code int, stderr string) {
	t.Helper()
	return b.commandToEnd(t, as, program, args...)
}

// toolToEnd is runToEnd for another program, as root.
func (b *box) toolToEnd(t *testing.T, path string, args ...string) (code int, stderr string) {
	t.Helper()
	return b.commandToEnd(t, nil, path, args...)
}

func (b *box) commandToEnd(t *testing.T, as *syscall.Credential, path string, args ...string) (code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stderr = &out
	err := b.ns.Do(cmd.Run)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// checkRefusal holds that a start failed with one sentence that has the words.
func checkRefusal(t *testing.T, code int, stderr string, words ...string) {
	t.Helper()
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	text := strings.TrimSpace(stderr)
	if text == "" || strings.Contains(text, "\n") {
		t.Errorf("stderr has not one line:\n%s", stderr)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("stderr does not say %q: %s", word, text)
		}
	}
	t.Log(text)
}

// A start that cannot succeed says in one sentence what to do, and leaves
// nothing in the kernel.
func TestBadStart(t *testing.T) {
	l := newLab(t, 2, nil)
	b := l.boxes[0]
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	good := l.edge(0, usualPolicies, "").String()
	empty := l.snapshot(t)
	run := []string{"run", "-c", b.config(), "-s", b.socket()}
	untouched := func(t *testing.T) {
		t.Helper()
		if added := empty.Added(l.snapshot(t)); len(added) != 0 {
			t.Errorf("left in the kernel: %q", added)
		}
	}

	t.Run("interface missing", func(t *testing.T) {
		b.write(t, strings.Replace(good, "name: wan1", "name: nope7", 1))
		code, stderr := b.runToEnd(t, nil, run...)
		checkRefusal(t, code, stderr, "nope7")
		untouched(t)
	})
	t.Run("key missing, then readable for all", func(t *testing.T) {
		file := filepath.Join(b.dir, "wan.key")
		b.write(t, l.securedEdge(0, key(1, file, "")))
		if code, stderr := b.runToEnd(t, nil, "check", b.config()); code != 0 { // which reads no key
			t.Errorf("check: exit code %d: %s", code, stderr)
		}
		code, stderr := b.runToEnd(t, nil, run...)
		checkRefusal(t, code, stderr, "box.yaml:7: key 1 of wan1", "no such file", "put the secret there")
		if err := os.Chmod(b.secret(t, "wan.key", "s"), 0o644); err != nil {
			t.Fatal(err)
		}
		code, stderr = b.runToEnd(t, nil, run...)
		checkRefusal(t, code, stderr, "everybody may read", "chmod 600")
		untouched(t)
	})
	b.write(t, good)
	t.Run("no privileges", func(t *testing.T) {
		code, stderr := b.runToEnd(t, &syscall.Credential{Uid: 65534, Gid: 65534}, run...)
		checkRefusal(t, code, stderr, "CAP_NET_ADMIN", "root")
		untouched(t)
	})
	t.Run("no config", func(t *testing.T) {
		code, stderr := b.runToEnd(t, nil, "run", "-c", filepath.Join(b.dir, "none.yaml"))
		checkRefusal(t, code, stderr, "none.yaml")
		untouched(t)
	})
	t.Run("bad config", func(t *testing.T) {
		bad := filepath.Join(b.dir, "bad.yaml")
		if err := os.WriteFile(bad, []byte("interfaces:\n  - {name: lan0, zoen: hosts}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		code, stderr := b.runToEnd(t, nil, "run", "-c", bad)
		if code != 1 || !strings.Contains(stderr, "bad.yaml:2:") {
			t.Errorf("exit code %d, stderr %q", code, stderr)
		}
		untouched(t)
	})
	t.Run("socket in use", func(t *testing.T) {
		taken := filepath.Join(b.dir, "taken.sock")
		listener, err := net.Listen("unix", taken)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		code, stderr := b.runToEnd(t, nil, "run", "-c", b.config(), "-s", taken)
		checkRefusal(t, code, stderr, "taken.sock")
		untouched(t)
	})
	t.Run("second instance", func(t *testing.T) {
		b.start(t, good)
		working := l.snapshot(t)
		for _, socket := range []string{b.socket(), filepath.Join(b.dir, "second.sock")} {
			code, stderr := b.runToEnd(t, nil, "run", "-c", b.config(), "-s", socket)
			checkRefusal(t, code, stderr)
			now := l.snapshot(t)
			if added, gone := working.Added(now), now.Added(working); len(added)+len(gone) != 0 {
				t.Errorf("added to the kernel: %q, removed: %q", added, gone)
			}
		}
		if st, err := b.Status(t.Context()); err != nil || st.State != "running" || len(st.Problems) != 0 {
			t.Errorf("the first instance: %+v, %v", st, err)
		}
		b.stop(t)
		untouched(t)
	})
}
