// Package statefile keeps what outlives a process in files: read up to a limit, replaced in
// one step, and of which start of the machine it is.
package statefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Mode is that of the files.
const Mode = 0o600

// New is what the name of a file that is not whole yet ends with.
const New = ".new"

// ReadAtMost reads a whole file, and refuses one that has more bytes.
func ReadAtMost(path string, most int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return data, err
}

// Replace puts a new file in the place of an old one: after a crash it is the old or the
// new one, whole.
func Replace(path string, data []byte) error {
	err := write(path+New, data)
	if err == nil {
		err = os.Rename(path+New, path)
	}
	if err != nil {
		return errors.Join(err, IgnoreMissing(os.Remove(path+New)))
	}
	d, err := os.Open(filepath.Dir(path)) // or the rename may not last
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, Mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// IgnoreMissing is the error of removing a file that need not be there.
func IgnoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Boot tells this start of the machine from all others.
func Boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
