package inject

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// control4 and control6 are one ancillary message each, laid out as the kernel
// reads it (CMSG_ALIGN of 8 on the 64-bit machines that this runs on).
type control4 struct {
	hdr  unix.Cmsghdr
	info unix.Inet4Pktinfo
	_    [4]byte
}

type control6 struct {
	hdr  unix.Cmsghdr
	info unix.Inet6Pktinfo
	_    [4]byte
}

// transmit is sendmsg(2) with everything on the stack: the library's wrappers
// allocate the address and the ancillary data.
func (s *Sender) transmit(pkt []byte, ifindex int) error {
	if len(pkt) < 20 {
		return ErrPacket
	}
	var (
		iov unix.Iovec
		msg unix.Msghdr
		a4  unix.RawSockaddrInet4
		a6  unix.RawSockaddrInet6
		c4  control4
		c6  control6
	)
	iov.Base = &pkt[0]
	iov.SetLen(len(pkt))
	msg.Iov = &iov
	msg.SetIovlen(1)
	fd := s.v4
	switch {
	case pkt[0]>>4 == 4:
		a4.Family = unix.AF_INET
		copy(a4.Addr[:], pkt[16:20])
		msg.Name, msg.Namelen = (*byte)(unsafe.Pointer(&a4)), unix.SizeofSockaddrInet4
		if ifindex != 0 {
			c4.hdr = unix.Cmsghdr{Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO}
			c4.hdr.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
			c4.info.Ifindex = int32(ifindex)
			msg.Control = (*byte)(unsafe.Pointer(&c4))
			msg.SetControllen(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
		}
	case pkt[0]>>4 == 6 && len(pkt) >= 40 && s.v6 >= 0:
		fd = s.v6
		a6.Family = unix.AF_INET6
		copy(a6.Addr[:], pkt[24:40])
		if pkt[24] == 0xfe && pkt[25]&0xc0 == 0x80 {
			a6.Scope_id = uint32(ifindex) // link-local
		}
		msg.Name, msg.Namelen = (*byte)(unsafe.Pointer(&a6)), unix.SizeofSockaddrInet6
		if ifindex != 0 {
			c6.hdr = unix.Cmsghdr{Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}
			c6.hdr.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
			c6.info.Ifindex = uint32(ifindex)
			msg.Control = (*byte)(unsafe.Pointer(&c6))
			msg.SetControllen(unix.CmsgSpace(unix.SizeofInet6Pktinfo))
		}
	default:
		return ErrPacket
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT)
	if errno != 0 {
		if errno != unix.EAGAIN && errno != unix.ENOBUFS {
			clearErrors(fd)
		}
		return errno
	}
	return nil
}

// clearErrors empties the socket's error queue, which IP_RECVERR fills and
// nobody reads.
func clearErrors(fd int) {
	var b [1]byte
	for range 16 {
		if _, _, _, _, err := unix.Recvmsg(fd, b[:], nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}
