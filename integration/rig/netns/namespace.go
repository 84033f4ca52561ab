package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is where named namespaces are mounted; `ip netns` looks there too.
const Dir = "/run/netns"

// NetNS is one network namespace. It lives until Close, and as long as a
// process or a socket is still inside.
type NetNS struct {
	name string
	path string // bind mount, empty for an anonymous namespace
	file *os.File

	once     sync.Once
	closeErr error
}

// New makes an anonymous namespace, which exists by its file descriptor only.
func New() (*NetNS, error) {
	file, err := unshare("")
	if err != nil {
		return nil, err
	}
	return &NetNS{name: "anonymous", file: file}, nil
}

// NewNamed makes a namespace that `ip netns` lists under the name given. It is
// an error if the name is in use.
func NewNamed(name string) (*NetNS, error) {
	if name == "" || name != filepath.Base(name) {
		return nil, fmt.Errorf("network namespace name %q is not a file name", name)
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	path := filepath.Join(Dir, name)
	mountPoint, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	if err := mountPoint.Close(); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	file, err := unshare(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("network namespace %s: %w", name, err), RemoveName(path))
	}
	return &NetNS{name: name, path: path, file: file}, nil
}

// unshare makes a namespace on a thread of its own, mounts it at path unless
// that is empty, and opens it.
func unshare(path string) (*os.File, error) {
	var file *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network namespace: %w", err)
		}
		const self = "/proc/thread-self/ns/net"
		var err error
		if file, err = os.Open(self); err != nil {
			return err
		}
		if path == "" {
			return nil
		}
		if err := unix.Mount(self, path, "none", unix.MS_BIND, ""); err != nil {
			return errors.Join(fmt.Errorf("mount the namespace at %s: %w", path, err), file.Close())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Name returns the name that `ip netns` shows.
func (n *NetNS) Name() string { return n.name }

// FD returns the namespace's file descriptor, valid until Close.
func (n *NetNS) FD() int { return int(n.file.Fd()) }

// Inode identifies the namespace among all of the machine, as
// /proc/PID/ns/net does.
func (n *NetNS) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.FD(), &st); err != nil {
		return 0, fmt.Errorf("namespace %s: %w", n.name, err)
	}
	return st.Ino, nil
}

// Do runs f on a thread that is inside the namespace, and waits for it.
// Goroutines that f starts are not inside; sockets that it makes stay inside
// for good.
func (n *NetNS) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// errNoReturn tells that a function left by runtime.Goexit, as t.FailNow does.
var errNoReturn = errors.New("the function run inside the namespace did not return")

// onThread runs f on a locked thread and puts that thread back into the
// namespace it came from. A thread that cannot be put back stays locked, so
// that the runtime ends it with its goroutine: it must never serve others.
// It may not just be left to die in any case, because the thread could be the
// process's first, which cannot end, and would keep the namespace alive.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errNoReturn
		defer func() { result <- err }()
		runtime.LockOSThread()
		origin, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			runtime.UnlockOSThread()
			err = openErr
			return
		}
		defer func() {
			if restoreErr := unix.Setns(int(origin.Fd()), unix.CLONE_NEWNET); restoreErr == nil {
				runtime.UnlockOSThread()
			}
			_ = origin.Close() // opened for reading: nothing is lost
		}()
		err = f()
	}()
	return <-result
}

// Close removes the namespace's name and lets go of it. It may be called again.
func (n *NetNS) Close() error {
	n.once.Do(func() {
		if n.path != "" {
			n.closeErr = RemoveName(n.path)
		}
		n.closeErr = errors.Join(n.closeErr, n.file.Close())
	})
	return n.closeErr
}

// RemoveName unmounts and removes a named namespace's file; a missing one is
// no error.
func RemoveName(path string) error {
	// EINVAL: not a mount point, left behind between creation and mount.
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace name: %w", err)
	}
	return nil
}
