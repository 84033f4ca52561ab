package frames

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// Port is an interface of a station beside the box: it sends frames as they are,
// and records all that pass.
type Port struct {
	ns   *netns.NetNS
	name string
	fd   int
	all  *traffic.Capture
	old  int // frames that Forget has put aside
}

// OpenPort opens an interface. Nothing but the port should send there: it has no
// address, and no IPv6.
func OpenPort(ns *netns.NetNS, name string) (*Port, error) {
	p := &Port{ns: ns, name: name, fd: -1}
	err := ns.Do(func() error {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		// Protocol 0 receives nothing.
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Ifindex: iface.Index})
	})
	if err == nil {
		p.all, err = traffic.StartCapture(ns, name, nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("port %s in %s: %w", name, ns.Name(), err), p.Close())
	}
	return p, nil
}

// Send sends frames one after the other, from one processor: on a veth pair those
// of two could overtake each other before they have come to the box. A pause
// after every frame leaves the box time for it.
func (p *Port) Send(list []Sent, pause time.Duration) error {
	return onOneProcessor(func() error {
		for i := range list {
			if _, err := unix.Write(p.fd, list[i].Data); err != nil {
				return fmt.Errorf("send %q (%d bytes): %w", list[i].Name, len(list[i].Data), err)
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
		return nil
	})
}

// onOneProcessor runs f on a thread that stays where it is.
func onOneProcessor(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("processors: %w", err)
	}
	for i := range 8 * len(before) {
		if before.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on a processor: %w", err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}

// Forget puts aside what was recorded so far.
func (p *Port) Forget() {
	all, _ := p.all.Frames()
	p.old = len(all)
}

// Frames returns what was recorded: what the port has sent, and what came. An error
// says that this is not all of it.
func (p *Port) Frames() (sent, came [][]byte, err error) {
	all, err := p.all.Frames()
	for _, f := range all[p.old:] {
		if f.Outgoing {
			sent = append(sent, f.Data)
		} else {
			came = append(came, f.Data)
		}
	}
	return sent, came, err
}

// Settle waits until so many frames have come, but not beyond the patience, and
// then until none has for the quiet time: more than was expected is seen too.
func (p *Port) Settle(ctx context.Context, want int, patience, quiet time.Duration) {
	count := func() int {
		_, came, _ := p.Frames()
		return len(came)
	}
	const step = 5 * time.Millisecond
	for waited := time.Duration(0); count() < want && waited < patience && rig.Pause(ctx, step); waited += step {
		continue
	}
	for last, still := count(), time.Duration(0); still < quiet && rig.Pause(ctx, step); still += step {
		if n := count(); n != last {
			last, still = n, 0
		}
	}
}

// Close ends the port; it may be called again.
func (p *Port) Close() error {
	var errs []error
	if p.fd >= 0 {
		errs = append(errs, unix.Close(p.fd))
		p.fd = -1
	}
	if p.all != nil {
		errs = append(errs, p.all.Close())
	}
	return errors.Join(errs...)
}
