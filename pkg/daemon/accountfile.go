package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/statefile"
)

// accountLinesMod lets a group read the file, as logs are.
const accountLinesMod = 0o640

// accountLines is the file that ended records are appended to, one JSON object in a
// line.
type accountLines struct {
	lost counter

	mu   sync.Mutex
	path string // "": none
	f    *os.File
	torn bool // its last line has no end
}

func openAccountLines(path string) (*accountLines, error) {
	f, err := openAccountFile(path)
	return &accountLines{path: path, f: f, torn: torn(f)}, err
}

// openAccountFile opens it for appending; nil for no path.
func openAccountFile(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, accountLinesMod)
	if err != nil {
		return nil, fmt.Errorf("accounting: file: %w", err)
	}
	return f, nil
}

// torn says whether a file ends within a line: a process that wrote it died, or the
// disk was full. What is no file, such as a pipe, is not looked at.
func torn(f *os.File) bool {
	if f == nil {
		return false
	}
	i, err := f.Stat()
	if err != nil || !i.Mode().IsRegular() || i.Size() == 0 {
		return false
	}
	last := []byte{0}
	_, err = f.ReadAt(last, i.Size()-1)
	return err == nil && last[0] != '\n'
}

// swap goes on with another file.
func (l *accountLines) swap(path string, f *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.f
	l.path, l.f, l.torn = path, f, torn(f)
	if old != nil {
		return old.Close()
	}
	return nil
}

// reopen lets a file go that was moved away. If there cannot be a new one the old
// one stays in use.
func (l *accountLines) reopen() error {
	l.mu.Lock()
	path := l.path
	l.mu.Unlock()
	f, err := openAccountFile(path)
	if err != nil || f == nil {
		return err
	}
	return l.swap(path, f)
}

// add appends a record, and says whether there is a file to have it. A line is
// written whole, by one call of the kernel; one of which only a part could be
// written is ended before the next.
func (l *accountLines) add(row console.AccountingRow) (there bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return false, nil
	}
	line, err := json.Marshal(row)
	if err == nil {
		if line = append(line, '\n'); l.torn {
			line = append([]byte{'\n'}, line...)
		}
		var n int
		if n, err = l.f.Write(line); n > 0 {
			l.torn = line[n-1] != '\n'
		}
	}
	if err != nil {
		l.lost.add()
	}
	return true, err
}

func (l *accountLines) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Sync(), l.f.Close())
	l.f = nil
	return err
}

// Names in state_dir.
const (
	accountKept = "accounting.json"
	accountBad  = "accounting.json.bad"
)

// accountState keeps the book beside the reservations made by hand: one daemon has
// the directory for both.
type accountState struct {
	file    *handFile
	claim   func() error
	refused error
	there   bool // the file is
}

// load reads the book. One that cannot be understood is set aside, and the error
// says so; the book is then empty.
func (s *accountState) load(l accounting.Limits) (*accounting.Book, error) {
	b, err := s.read(l)
	if err != nil {
		err = fmt.Errorf("accounting: what was not read was not restored: %w", err)
	}
	return b, err
}

func (s *accountState) read(l accounting.Limits) (*accounting.Book, error) {
	empty := accounting.New(l)
	path := s.file.path(accountKept)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return empty, nil
	}
	if s.refused = s.claim(); s.refused != nil {
		return empty, s.refused
	}
	data, err := statefile.ReadAtMost(path, accounting.MaxFile)
	if err != nil {
		s.refused = err
		return empty, err
	}
	b, err := accounting.Decode(data, l)
	if err == nil {
		s.there = true
		return b, nil
	}
	err = fmt.Errorf("%s: %w", path, err)
	if e := os.Rename(path, s.file.path(accountBad)); e != nil {
		s.refused = errors.Join(err, fmt.Errorf("and it could not be set aside: %w", e))
		return empty, s.refused
	}
	return empty, fmt.Errorf("%w: it was set aside as %s", err, s.file.path(accountBad))
}

// save replaces the file by a new one in one step.
func (s *accountState) save(b *accounting.Snapshot) error {
	if b.Empty() && !s.there {
		return nil // nothing is made in the directory before there is something to keep
	}
	data, err := b.Encode()
	if err = errors.Join(s.refused, err); err != nil {
		return err
	}
	if err := s.claim(); err != nil {
		return err
	}
	if err := s.file.replace(accountKept, data); err != nil {
		return err
	}
	s.there = true
	return nil
}
