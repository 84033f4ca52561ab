package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// InOrder has all packets of a flow that arrive by the interfaces given worked on
// by one processor (RPS). A virtual cable has a queue for each processor that
// sends, and packets of one flow may be sent by several: by a thread that moves, or
// by whoever empties a queueing discipline. They would overtake each other there,
// where a network card keeps them in order.
func (n *NetNS) InOrder(names ...string) error {
	err := n.Do(func() error {
		// A view of the namespace's devices that is mounted nowhere.
		fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
		if err != nil {
			return fmt.Errorf("sysfs: %w", err)
		}
		root := -1
		if err = unix.FsconfigCreate(fs); err == nil {
			root, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
		}
		if err = errors.Join(err, unix.Close(fs)); err != nil {
			return fmt.Errorf("sysfs: %w", err)
		}
		for _, name := range names {
			path := filepath.Join("class/net", name, "queues/rx-0/rps_cpus")
			err = errors.Join(err, writeAt(root, path, fmt.Sprintf("%x", 1<<runtime.NumCPU()-1)))
		}
		return errors.Join(err, unix.Close(root))
	})
	if err != nil {
		return fmt.Errorf("order of packets in %s: %w", n.name, err)
	}
	return nil
}

func writeAt(dir int, path, value string) error {
	fd, err := unix.Openat(dir, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}
