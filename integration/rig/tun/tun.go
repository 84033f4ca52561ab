// Package tun makes tunnels of IPv4 in IPv4 and IPv6 in IPv6 (RFC 2003, 2473) out of TUN devices and raw
// sockets, for kernels without tunnel devices of their own.
package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// MTU of the device: Ethernet's less the longer outer header.
const MTU = 1460

// Config is one end of a tunnel.
type Config struct {
	NS            *netns.NetNS
	Name          string // of the device
	Addr          netip.Prefix
	Local, Remote netip.Addr // outer addresses, of Addr's family
}

// Tunnel is a running end.
type Tunnel struct {
	dev   *os.File
	conn  *net.IPConn
	peer  *net.IPAddr
	wg    sync.WaitGroup
	mu    sync.Mutex
	fault error
}

// Open makes the device and begins to carry packets.
func Open(ctx context.Context, c Config) (t *Tunnel, err error) {
	t = &Tunnel{peer: &net.IPAddr{IP: c.Remote.AsSlice()}}
	err = c.NS.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(c.Name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("TUN device %s: %w", c.Name, err), unix.Close(fd))
		}
		t.dev = os.NewFile(uintptr(fd), c.Name)
		link, err := netlink.LinkByName(c.Name)
		if err == nil {
			addr, parseErr := netlink.ParseAddr(c.Addr.String())
			if err = parseErr; err == nil {
				addr.Flags = unix.IFA_F_NODAD
				err = errors.Join(netlink.LinkSetMTU(link, MTU), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
			}
		}
		if err != nil {
			return fmt.Errorf("TUN device %s: %w", c.Name, err)
		}
		proto := "ip4:4"
		if c.Local.Is6() {
			proto = "ip6:41"
		}
		t.conn, err = net.ListenIP(proto, &net.IPAddr{IP: c.Local.AsSlice()})
		return err
	})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.wg.Add(2)
	go t.carry("in", func(b []byte) (int, error) { return t.dev.Read(b) }, func(b []byte) (int, error) { return t.conn.WriteToIP(b, t.peer) })
	go t.carry("out", func(b []byte) (int, error) {
		n, _, err := t.conn.ReadFromIP(b)
		return n, err
	}, func(b []byte) (int, error) { return t.dev.Write(b) })
	return t, nil
}

// carry moves packets until the tunnel is closed. What cannot be sent is lost,
// as on any link.
func (t *Tunnel) carry(what string, read, write func([]byte) (int, error)) {
	defer t.wg.Done()
	b := make([]byte, 1<<16)
	for {
		n, err := read(b)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
				t.mu.Lock()
				t.fault = errors.Join(t.fault, fmt.Errorf("tunnel %s: %w", what, err))
				t.mu.Unlock()
			}
			return
		}
		_, _ = write(b[:n])
	}
}

// Close ends the tunnel and removes its device.
func (t *Tunnel) Close() error {
	var errs []error
	if t.dev != nil {
		errs = append(errs, t.dev.Close())
	}
	if t.conn != nil {
		errs = append(errs, t.conn.Close())
	}
	t.wg.Wait()
	return errors.Join(append(errs, t.fault)...)
}
