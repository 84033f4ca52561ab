package daemon

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrPrivileges is returned where the process lacks a capability.
var ErrPrivileges = errors.New("missing privileges")

// privileges tells in one sentence what is missing, before anything is tried.
func privileges() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("reading the process's capabilities: %w", err)
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_BPF, "CAP_BPF"}} {
		if !has(c.bit) && (c.bit != unix.CAP_BPF || !has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %v: run qosproxy as root", ErrPrivileges, missing)
	}
	return nil
}
