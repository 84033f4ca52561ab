// Package roottest says whether a test may change the kernel's state, and
// whether the tools that it needs are there. On a machine that has to be able to
// run everything (QOSPROXY_REQUIRE_ROOT=1) what is missing is a failure: a skip
// would look green with nothing tested.
package roottest

import (
	"os"
	"os/exec"
	"testing"
)

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("QOSPROXY_REQUIRE_ROOT") == "1" {
		t.Fatalf("this test needs %s, and QOSPROXY_REQUIRE_ROOT=1", what)
	}
	t.Skipf("needs %s", what)
}

// Need skips or fails a test that is not run as root.
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
}

// Tool returns the path of a program, and skips or fails a test without it.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}
