package console_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

// serve runs a server on a real socket and returns the socket and how to stop
// it.
func serve(t *testing.T, b console.Backend) (string, func() error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := console.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- console.New(b, nil, nil).Serve(ctx, l) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return path, stop
}

func TestClient(t *testing.T) {
	b := consoletest.Example()
	path, stop := serve(t, b)
	c, ctx := console.NewClient(path), t.Context()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	st, err := c.Status(ctx)
	check("status", st, b.StatusValue, err)
	flows, err := c.Flows(ctx)
	check("flows", flows, b.FlowRows, err)
	sessions, err := c.Sessions(ctx)
	check("sessions", sessions, b.SessionRows, err)
	stats, err := c.Stats(ctx)
	check("stats", stats, b.StatsValue, err)
	links, err := c.Links(ctx)
	if err != nil || len(links) != 2 || len(links[1].Classes) != 4 {
		t.Errorf("links: %v %+v", err, links)
	}
	policies, err := c.Policies(ctx)
	if err != nil || len(policies) != 3 {
		t.Errorf("policies: %v %+v", err, policies)
	}
	st, err = c.Reload(ctx)
	check("reload", st, b.StatusValue, err)
	b.ReloadErr = errors.New("f:1:1: bad")
	_, err = c.Reload(ctx)
	var e *console.Error
	if !errors.As(err, &e) || e.Code != "reload_failed" || e.Status != 422 {
		t.Errorf("reload: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	_, err = c.Status(ctx)
	if !errors.As(err, &e) || e.Code != "unreachable" || !strings.Contains(e.Message, "start it with qosproxy run") {
		t.Errorf("after the end: %v", err)
	}
}

// What is not a qosproxy must give an error and not an empty table.
func TestClientOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // the test is over
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"))
			_ = c.Close()
		}
	}()
	var e *console.Error
	if _, err := console.NewClient(path).Status(t.Context()); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestSocketFile(t *testing.T) {
	path, _ := serve(t, consoletest.Example())
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Mode().Perm(); got != 0o660 {
		t.Errorf("mode %o, want 660", got)
	}
	// Somebody answers: a second daemon must not take the socket away.
	if _, err := console.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("second listener: %v", err)
	}
	if _, err := console.NewClient(path).Status(t.Context()); err != nil {
		t.Errorf("the first one is gone: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as after SIGKILL
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := console.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestOtherFilesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := console.Listen(t.Context(), path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
		t.Errorf("the file is now %q, %v", data, err)
	}
	if _, err := console.Listen(t.Context(), filepath.Join(path, "x", "s")); err == nil {
		t.Error("a directory that does not exist")
	}
}

// A request that runs is answered before the server ends.
func TestGracefulEnd(t *testing.T) {
	b := consoletest.Example()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.BeforeAnswers = func() { once.Do(func() { close(entered); <-leave }) }
	path, stop := serve(t, b)
	got := make(chan error, 1)
	go func() { _, err := console.NewClient(path).Flows(t.Context()); got <- err }()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	time.Sleep(20 * time.Millisecond)
	close(leave)
	if err := <-got; err != nil {
		t.Errorf("the running request: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
