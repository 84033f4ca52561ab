package rig

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// PinRoot is where the boxes pin their eBPF objects, each namespace's in a
// directory that is named after the namespace's cookie.
const PinRoot = bpfDir + "/qosproxy"

// PinDir is the directory of a namespace's pins. They outlive the namespace: a
// box that was killed could not remove them.
func PinDir(ns *netns.NetNS) (string, error) {
	cookie, err := netCookie(ns)
	if err != nil {
		return "", err
	}
	return filepath.Join(PinRoot, "netns-"+strconv.FormatUint(cookie, 10)), nil
}

// netCookie returns the number of a namespace that is never used again.
func netCookie(ns *netns.NetNS) (cookie uint64, err error) {
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return errors.Join(err, unix.Close(fd))
	})
	if err != nil {
		return 0, fmt.Errorf("cookie of namespace %s: %w", ns.Name(), err)
	}
	return cookie, nil
}
