package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// runBridge is the asymmetric scenario with boxes that are bridges without addresses
// between hosts of one network.
func (d *demonstration) runBridge(ctx context.Context, watch *leftovers, m *measured) error {
	d.bridged, m.unseen = true, &unseen{}
	return d.runAsymmetric(ctx, watch, m)
}

// unseen is what hosts could notice of a box, while both are at work.
type unseen struct {
	frames    uint64   // that came to A or B, or left there
	strangers uint64   // of them those whose source is no host
	ttls      uint64   // IP packets with another TTL than hosts send
	entries   []string // of the hosts' neighbour tables that are no host's, or changed
	addresses []string // on the boxes
	examples  []string
}

// acquaint has those hosts that will speak to each other find each other by ARP, while
// nothing stands in its way.
func (d *demonstration) acquaint(ctx context.Context) error {
	for _, pair := range []struct {
		from     *netns.NetNS
		to       netip.Addr
		far      *netns.NetNS
		expected int
	}{
		{from: d.net.A, to: rig.AddrB, far: d.net.B}, {from: d.net.C, to: rig.AddrB, far: d.net.B}, {from: d.net.D, to: rig.AddrC, far: d.net.C},
	} {
		mac, err := pair.far.HardwareAddr(rig.HostIface)
		if err != nil {
			return err
		}
		if err := greet(pair.from, pair.to); err != nil {
			return err
		}
		known := func() (bool, error) {
			list, err := pair.from.Neighbours(rig.HostIface)
			return slices.ContainsFunc(list, func(e netns.NeighbourEntry) bool {
				return e.Addr == pair.to && slices.Equal(e.MAC, mac)
			}), err
		}
		for tries := 0; ; tries++ {
			ok, err := known()
			if err != nil {
				return err
			}
			if ok {
				break
			}
			if tries == arpTries || !rig.Pause(ctx, 10*time.Millisecond) {
				return errors.Join(fmt.Errorf("%s does not find %s by ARP", pair.from.Name(), pair.to), ctx.Err())
			}
		}
	}
	return nil
}

// arpTries is how often a table is looked at: three seconds, in which the kernel asks
// three times.
const arpTries = 300

// greet sends an empty datagram to the port that nobody listens to.
func greet(from *netns.NetNS, to netip.Addr) error {
	return from.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		const discard = 9
		err = unix.Sendto(fd, nil, 0, &unix.SockaddrInet4{Addr: to.As4(), Port: discard})
		return errors.Join(err, unix.Close(fd))
	})
}
