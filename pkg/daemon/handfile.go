package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/statefile"
)

// Names in state_dir.
const (
	handKept    = "reservations.json"
	handBad     = "reservations.json.bad"
	handLock    = "reservations.lock"
	stateDirMod = 0o700
)

// handFile keeps the book of reservations made by hand. Nothing is made in the
// directory before there is something to keep.
type handFile struct {
	dir  string
	lock *os.File // held while this daemon is the one whose directory it is
	// refused is why nothing may be written: it would replace what was not read.
	refused error
}

func (f *handFile) path(name string) string { return filepath.Join(f.dir, name) }

// load reads the book. One that cannot be understood is set aside, and the
// error says so; the book is then empty.
func (f *handFile) load(limit int) (*byhand.Book, error) {
	book, err := f.read(limit)
	if err != nil {
		err = fmt.Errorf("reservations made by hand were not restored: %w", err)
	}
	return book, err
}

func (f *handFile) read(limit int) (*byhand.Book, error) {
	empty := byhand.New(limit)
	path := f.path(handKept)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return empty, nil
	}
	if f.refused = f.acquire(); f.refused != nil {
		return empty, f.refused
	}
	data, err := statefile.ReadAtMost(path, byhand.MaxFile)
	if err != nil {
		f.refused = err
		return empty, err
	}
	book, err := byhand.Decode(data, limit)
	if err == nil {
		return book, nil
	}
	err = fmt.Errorf("%s: %w", path, err)
	if e := os.Rename(path, f.path(handBad)); e != nil {
		f.refused = errors.Join(err, fmt.Errorf("and it could not be set aside: %w", e))
		return empty, f.refused
	}
	return empty, fmt.Errorf("%w: it was set aside as %s", err, f.path(handBad))
}

// save replaces the file by a new one in one step: after a crash it is the old
// or the new one, whole.
func (f *handFile) save(book *byhand.Book) error {
	data, err := book.Encode()
	if err = errors.Join(f.refused, err); err != nil {
		return err
	}
	if err := f.claim(); err != nil {
		return err
	}
	return f.replace(handKept, data)
}

// claim makes the directory this daemon's, if it is not yet.
func (f *handFile) claim() error {
	if f.lock != nil {
		return nil
	}
	if err := os.MkdirAll(f.dir, stateDirMod); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if err := f.acquire(); err != nil {
		return err
	}
	if _, err := os.Stat(f.path(handKept)); !errors.Is(err, os.ErrNotExist) {
		f.refused = fmt.Errorf("state_dir: %s has got the reservations of another daemon since this one started: restart it to take them over", f.dir)
		return f.refused
	}
	return nil
}

// replace puts a new file in the place of an old one.
func (f *handFile) replace(name string, data []byte) error {
	if err := statefile.Replace(f.path(name), data); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	return nil
}

// acquire makes sure that no other daemon uses the directory.
func (f *handFile) acquire() error {
	if f.lock != nil {
		return nil
	}
	lock, err := os.OpenFile(f.path(handLock), os.O_RDWR|os.O_CREATE, statefile.Mode)
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("state_dir: %s is in use: %w", f.dir, err)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("state_dir: %s is another running daemon's: give each its own", f.dir)
		}
		return errors.Join(err, lock.Close())
	}
	f.lock = lock
	return nil
}

// close lets another daemon have the directory.
func (f *handFile) close() error {
	if f.lock == nil {
		return nil
	}
	err := f.lock.Close()
	f.lock = nil
	return err
}
