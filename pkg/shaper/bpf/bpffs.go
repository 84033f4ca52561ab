package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Mount is where the kernel's bpf file system belongs.
const Mount = "/sys/fs/bpf"

// mountSource tells our own mount of it from that of systemd or an operator.
const mountSource = "qosproxy"

// ensureMounted mounts the bpf file system where no init system did.
func ensureMounted() error {
	var st unix.Statfs_t
	if err := unix.Statfs(Mount, &st); err != nil {
		return fmt.Errorf("%w: %s is not there: sysfs must be mounted on /sys: %w", plan.ErrKernel, Mount, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount(mountSource, Mount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return explain("mount the bpf file system on "+Mount+" (mount -t bpf bpf "+Mount+")", err)
	}
	return nil
}

// releaseMount takes the mount away that ensureMounted made, by this process
// or another, once nothing is pinned in it.
func releaseMount() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read the mounts: %w", err)
	}
	if !ownMount(string(text)) {
		return nil
	}
	entries, err := os.ReadDir(Mount)
	if err != nil {
		return fmt.Errorf("read %s: %w", Mount, err)
	}
	for _, e := range entries {
		// A new bpf file system has maps.debug and progs.debug of the kernel's.
		if !strings.HasSuffix(e.Name(), ".debug") {
			return nil
		}
	}
	if err := unix.Unmount(Mount, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w", Mount, err)
	}
	return nil
}

// ownMount looks in a mountinfo (proc(5)) for our mount.
func ownMount(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		front, back, ok := strings.Cut(line, " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if ok && len(f) > 4 && len(b) > 1 && f[4] == Mount && b[0] == "bpf" && b[1] == mountSource {
			return true
		}
	}
	return false
}

// lockPins keeps other processes from making or removing pin directories and
// the mount below them in the meantime. The lock goes with the process.
func lockPins() (unlock func() error, err error) {
	fd, err := lockDir("/sys/fs", unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return func() error { return unix.Close(fd) }, nil
}

// lockDir locks a directory until the descriptor is closed.
func lockDir(dir string, how int) (fd int, err error) {
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, explain("open "+dir, err)
	}
	for {
		err = unix.Flock(fd, how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("lock %s: %w", dir, err), unix.Close(fd))
	}
	return fd, nil
}
