// Package vlan gives hosts interfaces in a VLAN (IEEE 802.1Q, or 802.1ad) out of TAP
// devices and packet sockets, for kernels without VLAN devices.
package vlan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// Config is an interface of a host.
type Config struct {
	NS    *netns.NetNS
	Link  string // interface that the tagged frames go by
	Name  string // of the device
	TPID  uint16 // 0: IEEE 802.1Q
	TCI   uint16 // priority, DEI and VLAN identifier of what is sent
	Addrs []netip.Prefix
}

// Interface is a running one. It has the Ethernet address and the MTU of its link.
type Interface struct {
	cfg    Config
	dev    *os.File
	fd     int
	closed atomic.Bool
	wg     sync.WaitGroup
}

// Open makes the device and begins to carry frames.
func Open(cfg Config) (i *Interface, err error) {
	if cfg.TPID == 0 {
		cfg.TPID = unix.ETH_P_8021Q
	}
	i = &Interface{cfg: cfg, fd: -1}
	if err := cfg.NS.Do(i.open); err != nil {
		return nil, errors.Join(fmt.Errorf("VLAN interface %s: %w", cfg.Name, err), i.Close())
	}
	i.wg.Go(i.out)
	i.wg.Go(i.in)
	return i, nil
}

func (i *Interface) open() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	req, err := unix.NewIfreq(i.cfg.Name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	i.dev = os.NewFile(uintptr(fd), i.cfg.Name)
	link, err := netlink.LinkByName(i.cfg.Link)
	if err != nil {
		return err
	}
	tap, err := netlink.LinkByName(i.cfg.Name)
	if err != nil {
		return err
	}
	if err := errors.Join(
		netlink.LinkSetHardwareAddr(tap, link.Attrs().HardwareAddr),
		netlink.LinkSetMTU(tap, link.Attrs().MTU), netlink.LinkSetUp(tap),
	); err != nil {
		return err
	}
	for _, a := range i.cfg.Addrs {
		addr, err := netlink.ParseAddr(a.String())
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(tap, addr); err != nil {
			return err
		}
	}
	if i.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)
	return errors.Join(
		unix.SetsockoptInt(i.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(i.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(i.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}),
		unix.Bind(i.fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Attrs().Index}),
	)
}

// out tags what the host sends. What cannot be sent is lost, as on any link.
func (i *Interface) out() {
	b := make([]byte, 1<<16)
	for {
		n, err := i.dev.Read(b)
		if err != nil {
			return // closed
		}
		if n < 14 {
			continue
		}
		tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, i.cfg.TPID), i.cfg.TCI)
		_, _ = unix.Write(i.fd, slices.Insert(slices.Clone(b[:n]), 12, tag...))
	}
}

// in takes the tag off what is for this VLAN. The kernel has taken it out of the frame
// already, and tells it beside.
func (i *Interface) in() {
	b, side := make([]byte, 1<<16), make([]byte, 128)
	for !i.closed.Load() {
		n, m, _, _, err := unix.Recvmsg(i.fd, b, side, 0)
		if err != nil {
			continue // the timeout, by which the end is noticed
		}
		if i.ours(side[:m]) {
			_, _ = i.dev.Write(b[:n])
		}
	}
}

func (i *Interface) ours(side []byte) bool {
	list, err := unix.ParseSocketControlMessage(side)
	if err != nil {
		return false
	}
	for _, m := range list {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
		return aux.Status&unix.TP_STATUS_VLAN_VALID != 0 && aux.Vlan_tpid == i.cfg.TPID && (aux.Vlan_tci^i.cfg.TCI)&0x0fff == 0
	}
	return false
}

// Close ends the interface and removes its device.
func (i *Interface) Close() error {
	i.closed.Store(true)
	var errs []error
	if i.dev != nil {
		errs = append(errs, i.dev.Close())
	}
	i.wg.Wait()
	if i.fd >= 0 {
		errs = append(errs, unix.Close(i.fd))
	}
	return errors.Join(errs...)
}
