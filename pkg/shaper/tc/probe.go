package tc

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// HasFQCodel tells whether the kernel has fq_codel. The only way to know is to
// make one: on the loopback interface of a network namespace of its own, which
// ends with this goroutine's thread.
var HasFQCodel = sync.OnceValue(func() bool { return probe("fq_codel") == nil })

func probe(name string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread goes with the goroutine
		done <- probeHere(name)
	}()
	return <-done
}

func probeHere(name string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	c, err := Open()
	if err != nil {
		return err
	}
	defer c.Close()
	const loopback = 1
	msg := &nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: loopback, Handle: 0x10000, Parent: handleRoot}
	return c.do(context.Background(), unix.RTM_NEWQDISC, createAnew, msg, kind(name))
}
