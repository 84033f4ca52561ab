// Package boxtest builds the program that the boxes of a test run.
package boxtest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Program builds qosproxy and returns its file: without the race detector, which
// would slow down what is timed.
func Program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "qosproxy")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "github.com/qosproxy/qosproxy/cmd/qosproxy").CombinedOutput()
	if err != nil {
		t.Fatalf("build qosproxy: %v\n%s", err, out)
	}
	return file
}
