package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/statefile"
)

// maxRecord is how much of a record is read: one has a few lines for each port.
const maxRecord = 1 << 20

// record is what was changed, in this order, and what was there before.
type record struct {
	// Boot and Namespace are whose kernel state it tells of: after a boot, and in
	// another network namespace, there is nothing of it to undo.
	Boot      string   `json:"boot"`
	Namespace uint64   `json:"namespace"`
	Changes   []change `json:"changes"`
}

// find returns the change of the same thing, nil if there is none.
func (r *record) find(c *change) *change {
	i := slices.IndexFunc(r.Changes, c.same)
	if i < 0 {
		return nil
	}
	return &r.Changes[i]
}

// here begins a record that is about this kernel.
func here() (*record, error) {
	boot, err := statefile.Boot()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, err
	}
	return &record{Boot: boot, Namespace: cookie}, nil
}

// load reads the record of an earlier process. Without a file, and from one that is
// about another kernel, it is empty.
func load(path string) (*record, error) {
	now, err := here()
	if err != nil {
		return nil, err
	}
	data, err := statefile.ReadAtMost(path, maxRecord)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return now, nil
	}
	if err != nil {
		return nil, err
	}
	var was record
	if err := json.Unmarshal(data, &was); err != nil {
		return nil, fmt.Errorf("%s tells what a bridge has to leave behind, and cannot be read (%w): remove it, and what an earlier process has changed stays changed", path, err)
	}
	if was.Boot != now.Boot || was.Namespace != now.Namespace {
		return now, nil
	}
	return &was, nil
}

// save replaces the file by a new one in one step, or removes it if there is nothing
// to undo any more.
func (r *record) save(path string) error {
	if len(r.Changes) == 0 {
		return statefile.IgnoreMissing(os.Remove(path))
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return statefile.Replace(path, append(data, '\n'))
}
