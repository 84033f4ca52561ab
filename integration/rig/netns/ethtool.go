package netns

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ethtool commands that switch one offload each, from linux/ethtool.h.
const (
	ethtoolSTXCSUM = 0x17
	ethtoolSTSO    = 0x1f
	ethtoolSGSO    = 0x24
	ethtoolSGRO    = 0x2c
)

// offloadsOff makes an interface send packets no larger than its MTU with
// complete checksums, and merge nothing that it receives. The stack then
// splits super-packets behind the queueing discipline, where a driver without
// segmentation offload would have it done.
func offloadsOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("ethtool socket: %w", err)
	}
	for _, cmd := range []uint32{ethtoolSGRO, ethtoolSTSO, ethtoolSGSO, ethtoolSTXCSUM} {
		if err := ethtoolOff(fd, name, cmd); err != nil {
			err = fmt.Errorf("ethtool command %#x on %s: %w", cmd, name, err)
			return errors.Join(err, unix.Close(fd))
		}
	}
	return unix.Close(fd)
}

// ethtoolOff sets an ethtool_value to 0.
func ethtoolOff(fd int, name string, cmd uint32) error {
	value := struct{ cmd, data uint32 }{cmd: cmd}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of struct ifreq's union
	}
	if copy(req.name[:unix.IFNAMSIZ-1], name) != len(name) {
		return unix.ENAMETOOLONG
	}
	req.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
