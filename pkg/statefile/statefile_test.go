package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A file is replaced whole, others cannot read it, and nothing else stays.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"one", "another, which is longer", ""} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		data, err := ReadAtMost(path, 100)
		if err != nil || string(data) != text {
			t.Errorf("%q, %v; want %q", data, err, text)
		}
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != Mode {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// What cannot be replaced stays, and what was begun in its place does not.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if info, err := os.Stat(filepath.Join(path, "full")); err != nil || !info.IsDir() {
		t.Errorf("what was there: %v, %v", info, err)
	}
	if _, err := os.Stat(path + New); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was begun: %v", err)
	}
	if err := Replace(filepath.Join(dir, "none", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

func TestReadAtMost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := ReadAtMost(path, 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("12345"), Mode); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadAtMost(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := ReadAtMost(path, 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Error(err)
	}
}

func TestBoot(t *testing.T) {
	id, err := Boot()
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%q, %v", id, err)
	}
}
