// Package mroute plays the multicast routing daemon of a namespace: it holds the
// kernel's multicast routing socket and fills the forwarding cache, as pimd or
// smcroute would.
package mroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// Options of linux/mroute.h and linux/mroute6.h, which have the same numbers.
const (
	mrtInit   = 200
	mrtDone   = 201
	mrtAddVIF = 202
	mrtAddMFC = 204
	mrtDelMFC = 205
)

const (
	useIndex = 8  // VIFF_USE_IFINDEX
	maxVIFs  = 32 // MAXVIFS, MAXMIFS
	never    = 255
)

// Router is multicast routing of one family in a namespace. It ends with Close.
type Router struct {
	fd        int
	level     int
	threshold uint8
	vifs      map[string]uint16
}

// Route is one entry of the cache. An unspecified Source stands for any.
type Route struct {
	Source, Group netip.Addr
	In            string
	Out           []string
}

// New begins to route multicast between interfaces. A threshold is the TTL that
// packets need at least to leave by an interface; IPv6 has none.
func New(ns *netns.NetNS, v6 bool, threshold uint8, ifaces ...string) (*Router, error) {
	r := &Router{threshold: threshold, vifs: map[string]uint16{}}
	err := ns.Do(func() (err error) {
		family, proto := unix.AF_INET, unix.IPPROTO_IGMP
		if r.level = unix.IPPROTO_IP; v6 {
			family, proto, r.level = unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.IPPROTO_IPV6
		}
		if r.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto); err != nil {
			return fmt.Errorf("multicast routing socket: %w", err)
		}
		if err := unix.SetsockoptInt(r.fd, r.level, mrtInit, 1); err != nil {
			return errors.Join(fmt.Errorf("multicast routing: %w", err), unix.Close(r.fd))
		}
		for i, name := range ifaces {
			if err := r.add(uint16(i), name, threshold); err != nil {
				return errors.Join(fmt.Errorf("multicast routing by %s: %w", name, err), unix.Close(r.fd))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// add makes a virtual interface: struct vifctl, or struct mif6ctl.
func (r *Router) add(i uint16, name string, threshold uint8) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	r.vifs[name] = i
	var b []byte
	b = binary.NativeEndian.AppendUint16(b, i)
	if r.level == unix.IPPROTO_IPV6 {
		b = append(b, 0, threshold)
		b = binary.NativeEndian.AppendUint16(b, uint16(link.Index))
		b = append(b, make([]byte, 6)...)
		return unix.SetsockoptString(r.fd, r.level, mrtAddVIF, string(b))
	}
	b = append(b, useIndex, threshold, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(link.Index))
	b = append(b, make([]byte, 4)...)
	return unix.SetsockoptString(r.fd, r.level, mrtAddVIF, string(b))
}

// Set adds an entry, or changes it.
func (r *Router) Set(e Route) error { return r.mfc(mrtAddMFC, e) }

// Remove takes an entry away.
func (r *Router) Remove(e Route) error { return r.mfc(mrtDelMFC, e) }

func (r *Router) mfc(option int, e Route) error {
	in, ok := r.vifs[e.In]
	if !ok {
		return fmt.Errorf("multicast routing: no interface %s", e.In)
	}
	var b []byte
	if r.level == unix.IPPROTO_IPV6 {
		for _, a := range []netip.Addr{e.Source, e.Group} { // struct sockaddr_in6
			b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
			b = append(b, make([]byte, 6)...)
			b = append(append(b, a.AsSlice()...), make([]byte, 4)...)
		}
		b = binary.NativeEndian.AppendUint16(b, in)
		b = append(b, 0, 0)
		var set [8]uint32
		for _, name := range e.Out {
			set[r.vifs[name]/32] |= 1 << (r.vifs[name] % 32)
		}
		for _, word := range set {
			b = binary.NativeEndian.AppendUint32(b, word)
		}
	} else {
		b = append(append(b, e.Source.AsSlice()...), e.Group.AsSlice()...)
		b = binary.NativeEndian.AppendUint16(b, in)
		ttls := [maxVIFs]byte{}
		for i := range ttls {
			ttls[i] = never
		}
		for _, name := range e.Out {
			ttls[r.vifs[name]] = r.threshold
		}
		b = append(append(b, ttls[:]...), make([]byte, 18)...)
	}
	if err := unix.SetsockoptString(r.fd, r.level, option, string(b)); err != nil {
		return fmt.Errorf("multicast route of %s: %w", e.Group, err)
	}
	return nil
}

// Close ends multicast routing: the kernel forgets all entries.
func (r *Router) Close() error {
	return errors.Join(unix.SetsockoptInt(r.fd, r.level, mrtDone, 1), unix.Close(r.fd))
}
