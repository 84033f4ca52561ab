package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// socketMode lets root and the socket's group in: everything behind it may
// change the box.
const socketMode = 0o660

// Listen makes the unix socket. A socket that a dead process left is replaced;
// one that somebody answers on, and anything that is not a socket, is an error.
// The file goes when the listener is closed.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind(2) gives the file the mode of the socket's inode less the
		// umask, so that at no time more than the group can connect.
		var chmod error
		if err := c.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), socketMode) }); err != nil {
			return err
		}
		return chmod
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("control socket %s: its directory does not exist: make it, or set console.socket: %w", path, err)
		}
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	// The umask may have taken the group's rights away.
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: something that is not a socket has this name: move it, or set console.socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(
			fmt.Errorf("control socket %s: another process answers on it: stop it, or set another console.socket", path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		// Busy or not ours to judge: only a socket that surely nobody
		// listens on is removed.
		return fmt.Errorf("control socket %s is there and it is not clear whether somebody uses it: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket %s: left by a dead process, and cannot be removed: %w", path, err)
	}
	return nil
}
