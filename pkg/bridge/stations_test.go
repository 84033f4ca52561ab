package bridge

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel tells by which port a station was heard, whichever of the bridge's ports it
// is asked about, and nothing of one that was not.
func TestStations(t *testing.T) {
	b := newBox(t)
	made := b.made(t)
	defer func() {
		if err := made.Close(); err != nil {
			t.Error(err)
		}
	}()
	index := map[string]int{}
	b.in(t, func() error {
		var errs []error
		for _, name := range []string{"lan0", "wan0"} {
			i, err := net.InterfaceByName(name)
			if err == nil {
				index[name] = i.Index
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	mac := [6]byte{2, 5: 0xb}
	var s Stations
	defer func() {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}()
	check := func(of, want int) {
		t.Helper()
		b.in(t, func() error {
			if got, err := s.Port(of, mac); err != nil || got != want {
				t.Errorf("of port %d: %d, %v; want %d", of, got, err, want)
			}
			return nil
		})
	}
	check(index["lan0"], 0)
	b.in(t, func() error {
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index["wan0"], Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER, State: unix.NUD_NOARP, HardwareAddr: mac[:],
		})
	})
	check(index["lan0"], index["wan0"])
	check(index["wan0"], index["wan0"])
	b.in(t, func() error {
		if got, err := s.Port(9999, mac); err == nil {
			t.Errorf("of a port that does not exist: %d", got)
		}
		return nil
	})
}
