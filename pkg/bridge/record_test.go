package bridge

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A record that is about another boot, or another namespace, is about nothing that is
// still there.
func TestRecordOfAnotherKernel(t *testing.T) {
	b, other := newBox(t), newBox(t)
	b.made(t)
	other.config.File = b.config.File
	before := other.snapshot(t)
	other.in(t, func() error { found, err := Undo(b.config.File); return errors.Join(err, want(!found)) })
	other.unchanged(t, before)
	br := other.made(t)
	if br.Found() {
		t.Error("what another namespace had was taken over")
	}
	other.in(t, br.Undo)
	other.unchanged(t, before)
}

// A record that names something outside of the sysctls is not followed.
func TestRecordStaysAmongSysctls(t *testing.T) {
	b := newBox(t)
	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.in(t, func() error {
		r, err := here()
		if err != nil {
			return err
		}
		r.Changes = []change{{Kind: kindSysctl, Key: "../.." + file, Was: "0", Set: "1"}}
		if err := r.save(b.config.File); err != nil {
			return err
		}
		_, err = Undo(b.config.File)
		return err
	})
	if data, err := os.ReadFile(file); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
}

// A record that cannot be read is not written over.
func TestRecordCannotBeRead(t *testing.T) {
	b := newBox(t)
	b.config.File = filepath.Join(t.TempDir(), "bridge.json")
	for _, text := range []string{"{", strings.Repeat(" ", maxRecord+1)} {
		if err := os.WriteFile(b.config.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.refused(t); !strings.Contains(err, b.config.File) {
			t.Error(err)
		}
		if data, err := os.ReadFile(b.config.File); err != nil || string(data) != text {
			t.Errorf("%v, %d bytes are left", err, len(data))
		}
	}
}
