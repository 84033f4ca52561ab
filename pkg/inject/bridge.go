package inject

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// BridgeConfig says how frames are sent.
type BridgeConfig struct {
	Mark   uint32 // packet mark of everything that is sent
	Frames Frames
	Ports  []int // of the bridge, by index; see [Bridge.SetPorts]
	// Remember is for how long the way of a flow's packets, once found, is taken for
	// the next ones too; 0: it is looked for each time.
	Remember time.Duration
}

// Bridge is the sender of a box that has no address: it puts IP packets into
// frames that look like those of the flows that they belong to, and sends them out
// of a port. They pass that port's egress programs and queues, and no hook of
// netfilter. It is safe for concurrent use and allocates nothing, but where it
// fragments.
type Bridge struct {
	fd         int
	frames     Frames
	ports      atomic.Pointer[[]int]
	id         atomic.Uint32 // of IPv4 packets without one
	fragmentID atomic.Uint32
	memory     memory
	epoch      time.Time
	tally
}

// NewBridge opens the socket in the calling thread's network namespace.
func NewBridge(cfg BridgeConfig) (*Bridge, error) {
	// No protocol: nothing is received.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("packet socket: CAP_NET_RAW is missing: run as root: %w", err)
		}
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	var seed [8]byte
	_, err = rand.Read(seed[:])
	if err = errors.Join(
		err,
		wrap("packet socket: SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark))),
		wrap("packet socket: SO_SNDBUF", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sndBuf)),
	); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	b := &Bridge{fd: fd, frames: cfg.Frames, memory: newMemory(cfg.Remember), epoch: time.Now()}
	b.id.Store(binary.NativeEndian.Uint32(seed[:]))
	b.fragmentID.Store(binary.NativeEndian.Uint32(seed[4:]))
	b.SetPorts(cfg.Ports)
	return b, nil
}

// SetPorts tells the bridge's ports by their indexes, which change when one goes
// and comes back. Nothing is sent by others, whatever was learned from them.
func (b *Bridge) SetPorts(ports []int) {
	ports = slices.Clone(ports)
	b.ports.Store(&ports)
}

// Send sends a packet as one of its flow: with the Ethernet addresses and VLAN
// tags of the frames between the same two stations, out of the port where frames
// of the other direction come in. It sets the IPv4 header checksum, and chooses
// the identification if it is 0 and DF is not set. A packet longer than the port's
// MTU is sent in fragments where [Sender.Send] does so. Errors wrap ErrNoFrame,
// ErrNoPort, EMSGSIZE, ENOBUFS and so on.
func (b *Bridge) Send(pkt []byte) error { return b.SendLike(pkt, 0, packet.FlowKey{}) }

// SendVia sends a packet out of a port.
func (b *Bridge) SendVia(pkt []byte, ifindex int) error {
	return b.SendLike(pkt, ifindex, packet.FlowKey{})
}

// SendLike sends a packet, out of a port unless ifindex is 0. Where no frame between
// its own addresses was seen, it goes where packets of another flow in its direction
// go: RSVP has hops as addresses, and is about a flow whose stations are known.
func (b *Bridge) SendLike(pkt []byte, ifindex int, like packet.FlowKey) error {
	return b.note(len(pkt), b.send(pkt, ifindex, like))
}

// Close closes the socket; nothing may be sent afterwards.
func (b *Bridge) Close() error { return unix.Close(b.fd) }

// outgoing is what one call needs, put aside for the next.
type outgoing struct {
	wayfinder
	head [maxHead]byte
	to   unix.RawSockaddrLinklayer
	iov  [2]unix.Iovec
	msg  unix.Msghdr
}

var outgoings = sync.Pool{New: func() any { return new(outgoing) }}

func (b *Bridge) send(pkt []byte, ifindex int, like packet.FlowKey) error {
	v, err := packet.Parse(pkt)
	if err != nil {
		return ErrPacket
	}
	pkt = v.Bytes()
	o := outgoings.Get().(*outgoing)
	defer outgoings.Put(o)
	port, frame, err := b.way(o, v.Key(), ifindex)
	if err == ErrNoFrame && like != (packet.FlowKey{}) { //nolint:errorlint // a bare value of find
		port, frame, err = o.find(b.frames, like, ifindex)
		if mac, group := groupAddress(v.Dst()); group && err == nil {
			frame.Dst = mac
		}
	}
	if err != nil {
		return err
	}
	err = unix.EMSGSIZE
	if !long6(pkt) {
		err = b.transmit(o, pkt, port, frame)
	}
	if err == unix.EMSGSIZE { //nolint:errorlint // a bare errno of transmit
		err = b.sendFragments(o, pkt, port, frame)
	}
	return err
}

// way finds a packet's, or remembers it.
func (b *Bridge) way(o *outgoing, key packet.FlowKey, ifindex int) (port int, f *packet.Frame, err error) {
	ports := b.ports.Load()
	o.ports = *ports
	if ifindex != 0 || !b.memory.on() {
		return o.find(b.frames, key, ifindex)
	}
	slot, now := b.memory.slot(&key), time.Since(b.epoch)
	if port, ok := slot.recall(now, &key, ports, &o.there); ok {
		return port, &o.there, nil
	}
	if port, f, err = o.find(b.frames, key, 0); err == nil {
		slot.note(now+b.memory.keep, &key, ports, port, f)
	}
	return port, f, err
}

// transmit is sendmsg(2) of the header and of what the caller has, which is not
// copied here.
func (b *Bridge) transmit(o *outgoing, pkt []byte, port int, f *packet.Frame) error {
	header, rest, err := head(o.head[:0], f, pkt, uint16(b.id.Add(1)))
	if err != nil {
		return err
	}
	// The kernel takes the type of the frame for that of the packet.
	o.to = unix.RawSockaddrLinklayer{
		Family: unix.AF_PACKET, Ifindex: int32(port), Halen: 6,
		Protocol: binary.NativeEndian.Uint16(header[12:14]),
	}
	o.iov[0].Base = &header[0]
	o.iov[0].SetLen(len(header))
	o.msg = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&o.to)), Namelen: unix.SizeofSockaddrLinklayer, Iov: &o.iov[0]}
	o.msg.SetIovlen(1)
	if len(rest) > 0 {
		o.iov[1].Base = &rest[0]
		o.iov[1].SetLen(len(rest))
		o.msg.SetIovlen(2)
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(b.fd), uintptr(unsafe.Pointer(&o.msg)), unix.MSG_DONTWAIT)
	o.iov[1].Base = nil // the caller's
	if errno != 0 {
		return errno
	}
	return nil
}

// sendFragments is that of Sender, without routes: it is the port's MTU that
// counts.
func (b *Bridge) sendFragments(o *outgoing, pkt []byte, port int, f *packet.Frame) error {
	if !fragmentable(pkt) {
		return unix.EMSGSIZE
	}
	mtu := least6
	if pkt[0]>>4 == 4 {
		have, err := b.mtu(port)
		if err != nil {
			return fmt.Errorf("inject: MTU of the port: %w", err)
		}
		mtu = have - taggedExtra(f)
	}
	parts, err := fragment(pkt, mtu, b.fragmentID.Add(1))
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := b.transmit(o, part, port, f); err != nil {
			return err
		}
	}
	b.fragmented.Add(1)
	return nil
}

// taggedExtra is by how many bytes the tags of a frame make the longest packet
// shorter: one tag of IEEE 802.1Q is beyond the MTU, as packet sockets have it.
func taggedExtra(f *packet.Frame) int {
	if f.NTags > 0 && f.Tags[0].TPID == etherVLAN {
		return 4 * (f.NTags - 1)
	}
	return 4 * f.NTags
}

// mtu asks the kernel for that of an interface.
func (b *Bridge) mtu(ifindex int) (int, error) {
	req, err := unix.NewIfreq("")
	if err != nil {
		return 0, err
	}
	req.SetUint32(uint32(ifindex))
	if err := unix.IoctlIfreq(b.fd, unix.SIOCGIFNAME, req); err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(b.fd, unix.SIOCGIFMTU, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}
