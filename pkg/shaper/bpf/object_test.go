package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// The committed objects are what the committed source becomes.
func TestObjectIsCurrent(t *testing.T) {
	for _, tool := range []string{"clang-14", "llvm-strip-14"} {
		roottest.Tool(t, tool)
	}
	// The directive itself, with another place for what it makes.
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, directive, ok := strings.Cut(string(source), "//go:generate go ")
	if !ok {
		t.Fatal("no directive in generate.go")
	}
	dir := t.TempDir()
	args := strings.Fields(directive)
	for i, a := range args {
		if a == "-cc" {
			args = append(args[:i:i], append([]string{"-output-dir", dir}, args[i:]...)...)
			break
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOPACKAGE=bpf", "GOFILE=generate.go")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bpf2go: %v\n%s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "treatment_*"))
	if err != nil || len(made) != 4 {
		t.Fatalf("made %v, %v", made, err)
	}
	for _, path := range made {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what treatment.c becomes: run go generate", filepath.Base(path))
		}
	}
}
