package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

type result struct {
	code     int
	out, err string
}

func (r rooms) exec(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	a := &app{out: &out, err: &stderr, getenv: func(k string) string { return env[k] }, rooms: r}
	code := a.execute(t.Context(), args)
	return result{code, out.String(), stderr.String()}
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	return rooms{}.exec(t, nil, args...)
}

func daemon(t *testing.T, b console.Backend) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := console.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- console.New(b, nil, nil).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestUsageIsExitCode2(t *testing.T) {
	all := rooms{
		run:  func(context.Context, runOptions) error { return nil },
		plan: func(*config.Config) (string, any, error) { return "", nil, nil },
		demo: func(context.Context, demoOptions) error { return nil },
	}
	for _, args := range [][]string{
		{},
		{"nonsense"},
		{"check"},
		{"check", "a", "b"},
		{"flows", "x"},
		{"status", "--nonsense"},
		{"run"},
		{"plan"},
		{"demo", "a", "b"},
		{"-s"},
		{"rsvp"},
		{"rsvp", "nonsense"},
		{"rsvp", "counters", "x"},
		{"reserve"},
		{"reserve", "udp", "10.1.0.2:1", "10.2.0.2:2"},
		{"reserve", "udp", "10.1.0.2:1", "--bandwidth", "1mbit"},
		{"reserve", "udp", "x", "10.2.0.2:2", "--bandwidth", "1mbit"},
		{"reserve", "--conn", "1", "udp", "a", "b", "--bandwidth", "1mbit"},
		{"reserve", "--conn", "1", "--bandwidth", "1mbit", "--wait", "--no-wait"},
		{"reserve", "--conn", "1", "--bandwidth", "1mbit", "--timeout", "0s"},
		{"reserve", "--conn", "1", "--bandwidth", "1mbit", "--priority", "x"},
		{"accounting", "x"},
		{"accounting", "--ended", "--running"},
		{"accounting", "--read", "--running"},
		{"accounting", "strike"},
		{"accounting", "strike", "x"},
		{"release"},
		{"release", "1", "2"},
		{"reservations", "x"},
		{"rsvp", "trace"},
		{"rsvp", "trace", "10.2.0.9", "x"},
		{"rsvp", "trace", "here"},
		{"rsvp", "trace", "10.2.0.9", "--proto", "x"},
		{"rsvp", "reduce", "--rate", "1mbit"},
		{"rsvp", "reduce", "10.2.0.9"},
		{"rsvp", "reduce", "here", "--rate", "1mbit"},
		{"rsvp", "reduce", "10.2.0.9", "--rate", "1mbit", "--proto", "x"},
		{"rsvp", "reduce", "10.2.0.9", "--rate", "1mbit", "--dport", "70000"},
	} {
		got := all.exec(t, nil, args...)
		if got.code != exitUsage || got.out != "" || !strings.HasPrefix(got.err, "qosproxy: ") || !strings.Contains(got.err, "--help") {
			t.Errorf("%q: %+v", args, got)
		}
		if len(args) == 0 || args[len(args)-1] == "-s" {
			continue
		}
		got = all.exec(t, nil, append(args, "--json")...)
		if e := jsonError(t, got.out); got.code != exitUsage || e.Code != "usage" {
			t.Errorf("%q --json: %+v", args, got)
		}
	}
}

func jsonError(t *testing.T, s string) console.Error {
	t.Helper()
	var body console.ErrorBody
	if err := json.Unmarshal([]byte(s), &body); err != nil || body.Error == nil {
		t.Errorf("not a JSON error: %v: %q", err, s)
		return console.Error{}
	}
	return *body.Error
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"check", "--help"}, {"version"}, {"version", "--json"}} {
		if got := run(t, args...); got.code != exitOK || got.out == "" || got.err != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestCheck(t *testing.T) {
	got := run(t, "check", "../../configs/full.yaml")
	if got.code != exitOK || got.out != "../../configs/full.yaml: ok, 2 interfaces, 3 policies\n" || got.err != "" {
		t.Errorf("full.yaml: %+v", got)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("mode: switch\ninterface: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = run(t, "check", bad)
	lines := strings.Split(strings.TrimSpace(got.err), "\n")
	if got.code != exitFailed || got.out != "" || len(lines) != 3 {
		t.Errorf("bad.yaml: %+v", got)
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, bad+":") {
			t.Errorf("line %q has no position", l)
		}
	}
	got = run(t, "check", "--json", bad)
	if e := jsonError(t, got.out); got.code != exitFailed || e.Code != "config" || len(e.Details) != 3 {
		t.Errorf("--json: %+v", got)
	}
	got = run(t, "check", bad+".not")
	if got.code != exitFailed || !strings.Contains(got.err, "no such file") {
		t.Errorf("no file: %+v", got)
	}
	if got = run(t, "check", t.TempDir()); got.code != exitFailed || got.err == "" {
		t.Errorf("a directory: %+v", got)
	}
}

func TestViews(t *testing.T) {
	b := consoletest.Example()
	sock := daemon(t, b)
	for verb, want := range map[string]string{
		"status": "process 4711", "flows": "left-alone", "sessions": "sender-proxy", "links": "best-effort", "policies": "imaging", "stats": "handshake not seen",
		"reservations": "the monday meeting",
	} {
		got := run(t, verb, "-s", sock)
		if got.code != exitOK || !strings.Contains(got.out, want) || got.err != "" {
			t.Errorf("%s: %+v", verb, got)
		}
		got = rooms{}.exec(t, map[string]string{socketEnv: sock}, verb, "--json")
		// The same JSON as the API's own golden file.
		golden, err := os.ReadFile("../../pkg/console/testdata/" + verb + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if got.code != exitOK || strings.TrimSpace(got.out) != strings.TrimSpace(string(golden)) {
			t.Errorf("%s --json: %+v", verb, got)
		}
	}
	if got := run(t, "reload", "-s", sock); got.code != exitOK || got.out != "/etc/qosproxy.yaml is in use\n" || b.Reloads != 1 {
		t.Errorf("reload: %+v", got)
	}
	b.ReloadErr = errors.New("f:1:1: bad")
	if got := run(t, "reload", "-s", sock, "--json"); got.code != exitFailed || jsonError(t, got.out).Code != "reload_failed" {
		t.Errorf("refused reload: %+v", got)
	}
}

func TestNoDaemon(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "none")
	got := run(t, "flows", "-s", sock)
	if got.code != exitFailed || got.out != "" || !strings.Contains(got.err, "no qosproxy listens on "+sock) {
		t.Errorf("%+v", got)
	}
	got = run(t, "flows", "-s", sock, "--json")
	if e := jsonError(t, got.out); got.code != exitFailed || e.Code != "unreachable" || got.err != "" {
		t.Errorf("--json: %+v", got)
	}
}

func TestRunPlanDemo(t *testing.T) {
	var ran runOptions
	var shown demoOptions
	demoErr := error(nil)
	r := rooms{
		run: func(_ context.Context, o runOptions) error { ran = o; return nil },
		plan: func(c *config.Config) (string, any, error) {
			return "table " + c.Interfaces[0].Name + "\n", []string{c.File}, nil
		},
		demo: func(_ context.Context, o demoOptions) error { shown = o; return demoErr },
	}
	const file = "../../configs/minimal.yaml"
	if got := r.exec(t, nil, "run", "-c", file); got.code != exitOK || ran.ConfigFile != file || ran.Socket != "" {
		t.Errorf("run: %+v %+v", got, ran)
	}
	if got := r.exec(t, nil, "run", "-c", file, "-s", "/x"); got.code != exitOK || ran.Socket != "/x" {
		t.Errorf("run -s: %+v %+v", got, ran)
	}
	if got := r.exec(t, nil, "run", "-c", "app_test.go"); got.code != exitFailed || !strings.HasPrefix(got.err, "app_test.go:") {
		t.Errorf("run with a bad file: %+v", got)
	}
	if got := r.exec(t, nil, "plan", "-c", file); got.code != exitOK || got.out != "table lan0\n" {
		t.Errorf("plan: %+v", got)
	}
	if got := r.exec(t, nil, "plan", "-c", file, "--json"); got.code != exitOK || !strings.Contains(got.out, file) {
		t.Errorf("plan --json: %+v", got)
	}
	if got := r.exec(t, nil, "demo", "--json", "--pcap", "/p"); got.code != exitOK || shown.Scenario != "asymmetric" || !shown.JSON || shown.PcapDir != "/p" {
		t.Errorf("demo: %+v %+v", got, shown)
	}
	demoErr = errTargetMissed
	if got := r.exec(t, nil, "demo", "lossy"); got.code != exitFailed || shown.Scenario != "lossy" || !strings.Contains(got.err, "missed") {
		t.Errorf("demo: %+v %+v", got, shown)
	}
	if got := r.exec(t, nil, "demo", "--json"); got.code != exitFailed || got.out != "" {
		t.Errorf("demo --json with a missed target: %+v", got)
	}
	if got := run(t, "demo"); got.code != exitUsage {
		t.Errorf("demo where there is none: %+v", got)
	}
}

func TestRSVPViews(t *testing.T) {
	sock := daemon(t, consoletest.Example())
	for verb, want := range map[string]string{
		"counters": "RSVP errors", "neighbor": "192.0.2.6", "sender": "receiver-proxy", "reservation": "guaranteed", "interface": "2001:db8:1::1",
	} {
		got := run(t, "rsvp", verb, "-s", sock)
		if got.code != exitOK || !strings.Contains(got.out, want) || got.err != "" {
			t.Errorf("%s: %+v", verb, got)
		}
		got = run(t, "rsvp", verb, "-s", sock, "--json")
		golden, err := os.ReadFile("../../pkg/console/testdata/rsvp-" + strings.TrimSuffix(verb, "s") + "s.json")
		if err != nil {
			t.Fatal(err)
		}
		if got.code != exitOK || strings.TrimSpace(got.out) != strings.TrimSpace(string(golden)) {
			t.Errorf("%s --json: %+v", verb, got)
		}
	}
}

func TestRSVPReduce(t *testing.T) {
	b := consoletest.Example()
	sock := daemon(t, b)
	golden, err := os.ReadFile("../../pkg/console/testdata/rsvp-reduce.json")
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, "rsvp", "reduce", "10.2.0.8", "--rate", "120kbit", "--proto", "udp", "--dport", "5006", "--interface", "wan0", "-s", sock)
	if want := "udp 10.1.0.7:5006 -> 10.2.0.8:5006 on wan0: 120 kbit/s left of 212 kbit/s; it may be asked for in full again in 2m0s\n"; got.code != exitOK || got.out != want || got.err != "" {
		t.Errorf("%+v", got)
	}
	want := console.ReductionRequest{Dst: "10.2.0.8", Protocol: console.Text("udp"), Dport: 5006, Interface: "wan0", Rate: console.Text("120kbit")}
	if b.ReduceAsked != want {
		t.Errorf("asked for %+v", b.ReduceAsked)
	}
	got = run(t, "rsvp", "reduce", "10.2.0.8", "--rate", "120kbit", "-s", sock, "--json")
	if got.code != exitOK || strings.TrimSpace(got.out) != strings.TrimSpace(string(golden)) {
		t.Errorf("%+v", got)
	}
	b.ReduceErr = &console.Error{Status: 409, Code: "not_less", Message: "not less than what is in place"}
	if got = run(t, "rsvp", "reduce", "10.2.0.8", "--rate", "120kbit", "-s", sock); got.code != exitFailed || !strings.Contains(got.err, "not less") {
		t.Errorf("%+v", got)
	}
}

func TestRSVPTrace(t *testing.T) {
	b := consoletest.Example()
	sock := daemon(t, b)
	golden, err := os.ReadFile("../../pkg/console/testdata/rsvp-trace.json")
	if err != nil {
		t.Fatal(err)
	}
	// The example is not complete: it is shown, and the exit code tells.
	got := run(t, "rsvp", "trace", "10.2.0.9", "--proto", "tcp", "--dport", "104", "--hop-by-hop", "--timeout", "200ms", "-s", sock)
	if got.code != exitFailed || !strings.Contains(got.out, "does not answer") || got.err != "" {
		t.Errorf("%+v", got)
	}
	if q := b.TraceAsked; q.Dst.String() != "10.2.0.9" || q.Protocol != 6 || q.Dport != 104 || !q.HopByHop || q.Timeout != 200*time.Millisecond || q.Attempts != 0 {
		t.Errorf("asked for %+v", q)
	}
	got = run(t, "rsvp", "trace", "10.2.0.9", "-s", sock, "--json")
	if got.code != exitFailed || strings.TrimSpace(got.out) != strings.TrimSpace(string(golden)) {
		t.Errorf("%+v", got)
	}
	b.TraceValue.Complete = true
	if got = run(t, "rsvp", "trace", "10.2.0.9", "-s", sock); got.code != exitOK || strings.Contains(got.out, "not complete") {
		t.Errorf("%+v", got)
	}
	b.TraceErr = &console.Error{Status: 409, Code: "ambiguous", Message: "2 senders and sessions match: name one of them"}
	if got = run(t, "rsvp", "trace", "10.2.0.9", "-s", sock); got.code != exitFailed || !strings.Contains(got.err, "name one of them") {
		t.Errorf("%+v", got)
	}
}
