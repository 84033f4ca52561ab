package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// passage is a bridge of qp0 and qp2 in a network namespace of its own: what is put on
// the wire at qp1 comes out at qp3, with tags where the kernel has them on the way.
type passage struct {
	t         testing.TB
	in, out   int // indexes of the ports
	near, far *wire
	sent      uint16
}

func newPassage(t testing.TB) *passage {
	t.Helper()
	p := &passage{t: t, in: newNamespace(t)}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp2"}, PeerName: "qp3"}))
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "qpbr"}}
	check(netlink.LinkAdd(bridge))
	for _, name := range []string{"qp0", "qp2", "qp3", "qpbr"} {
		l, err := netlink.LinkByName(name)
		check(err)
		if name == "qp0" || name == "qp2" {
			check(netlink.LinkSetMaster(l, bridge))
		}
		if name == "qp2" {
			p.out = l.Attrs().Index
		}
		check(netlink.LinkSetUp(l))
	}
	p.near, p.far = openWire(t, "qp1"), openWire(t, "qp3")
	// Ports forward as soon as both sides have a carrier and the bridge has seen it.
	for end := time.Now().Add(10 * time.Second); ; {
		if p.cross(p.near, nil) != nil {
			return p
		}
		if time.Now().After(end) {
			t.Fatal("nothing crosses the bridge")
		}
	}
}

// Frames of this EtherType (for local experiments, IEEE 802) end what is received.
const etherTypeEnd = 0x88b5

// cross sends a frame at a wire, and returns the one that comes out at the far end; empty
// if none does. nil is returned if not even a frame comes that says so.
func (p *passage) cross(from *wire, b []byte) []byte {
	p.t.Helper()
	return p.carry(from, b, func() {
		if b != nil {
			from.send(b)
		}
	})
}

// carry is cross with another way to send the frame.
func (p *passage) carry(from *wire, b []byte, send func()) []byte {
	p.t.Helper()
	p.sent++
	send()
	end := make([]byte, 60)
	copy(end, []byte{2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1})
	binary.BigEndian.PutUint16(end[12:], etherTypeEnd)
	binary.BigEndian.PutUint16(end[14:], p.sent)
	from.send(end)
	out := []byte{}
	for {
		got := p.far.receive()
		switch {
		case got == nil:
			return nil
		case binary.BigEndian.Uint16(got[12:]) == etherTypeEnd:
			if binary.BigEndian.Uint16(got[14:]) == p.sent {
				return out
			}
		case b != nil && bytes.Equal(got[:12], b[:12]): // the kernel itself speaks, too
			out = got
		}
	}
}

// through has a frame cross the bridge, which may not fail.
func (p *passage) through(b []byte) []byte { p.t.Helper(); return p.sure(p.near, b) }

func (p *passage) sure(from *wire, b []byte) []byte {
	p.t.Helper()
	out := p.cross(from, b)
	if out == nil {
		p.t.Fatal("nothing came out within 5 s")
	}
	return out
}

// wire is a packet socket at an interface.
type wire struct {
	t     testing.TB
	fd    int
	index int
	proto uint16 // what the kernel is told the frames to be; 0: nothing
}

func openWire(t testing.TB, name string) *wire {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all := swap(unix.ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	w := &wire{t: t, fd: fd, index: link.Attrs().Index}
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	for _, err := range []error{
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: w.index}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *wire) send(b []byte) {
	w.t.Helper()
	if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrLinklayer{Protocol: swap(w.proto), Ifindex: w.index}); err != nil {
		w.t.Fatal(err)
	}
}

// receive returns the next frame with the tag in it that the kernel has put beside
// it; nil if none comes for 5 s.
func (w *wire) receive() []byte {
	w.t.Helper()
	b, oob := make([]byte, 1<<16), make([]byte, 128)
	n, m, _, _, err := unix.Recvmsg(w.fd, b, oob, 0)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		w.t.Fatal(err)
	}
	b = b[:n]
	for _, c := range list {
		if c.Header.Level != unix.SOL_PACKET || c.Header.Type != unix.PACKET_AUXDATA || len(c.Data) < int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&c.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID != 0 {
			tag := binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid)
			tag = binary.BigEndian.AppendUint16(tag, aux.Vlan_tci)
			b = append(b[:12:12], append(tag, b[12:]...)...)
		}
	}
	return b
}

// sendSuper sends a TCP segment of IPv4 or IPv6 that the kernel is to cut into packets,
// as hosts' own stacks and those of virtual machines do.
func (w *wire) sendSuper(b []byte, l3, l4, mss int) {
	w.t.Helper()
	if err := unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 0) }()
	kind := byte(1) // VIRTIO_NET_HDR_GSO_TCPV4
	if b[l3]>>4 == 6 {
		kind = 4
	}
	h := []byte{1, kind} // VIRTIO_NET_HDR_F_NEEDS_CSUM
	for _, v := range []int{l4 + 32, mss, l4, 16} {
		h = binary.NativeEndian.AppendUint16(h, uint16(v))
	}
	w.send(append(h, b...))
}
