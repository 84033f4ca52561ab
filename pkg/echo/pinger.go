package echo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Config says how requests are sent.
type Config struct {
	Mark uint32 // packet mark of everything that is sent
}

// Counters are what a Pinger did.
type Counters struct {
	Sent       uint64 // requests, those included that could not be
	Answered   uint64
	Unanswered uint64 // within a second
	Shared     uint64 // wishes that another one's request was for
	Limited    uint64 // wishes beyond the limits
	Stray      uint64 // answers to nothing that was asked
	Errors     uint64 // requests that could not be sent, and reads that failed
}

const (
	queued = 256 // wishes that wait for the loop
	rcvBuf = 64 << 10

	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

type wish struct {
	to      netip.Addr
	ifindex int
	done    func(time.Duration)
}

// Pinger asks hosts for echoes. It is safe for concurrent use.
type Pinger struct {
	v4, v6 *net.IPConn // v6 is nil on a kernel without IPv6
	id     uint16
	wishes chan wish

	mu    sync.Mutex
	table table
}

// New opens the raw sockets in the calling thread's network namespace.
func New(cfg Config) (*Pinger, error) {
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	p := &Pinger{id: binary.BigEndian.Uint16(id[:]), wishes: make(chan wish, queued)}
	p.table.hosts = map[netip.Addr]*host{}
	var err error
	if p.v4, err = open(cfg, "ip4:icmp", "0.0.0.0", filter4); err != nil {
		return nil, err
	}
	p.v6, err = open(cfg, "ip6:ipv6-icmp", "::", filter6)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		p.v6 = nil
	} else if err != nil {
		return nil, errors.Join(err, p.v4.Close())
	}
	return p, nil
}

func open(cfg Config, network, addr string, filter func(fd int) error) (*net.IPConn, error) {
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		control := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark)),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf),
				filter(int(fd)),
			)
		})
		return errors.Join(control, err)
	}}
	c, err := l.ListenPacket(context.Background(), network, addr)
	if err != nil {
		return nil, fmt.Errorf("echo: raw socket: %w", err)
	}
	return c.(*net.IPConn), nil
}

// filter4 lets echo replies through alone: the kernel wakes nobody for others.
func filter4(fd int) error {
	const icmpFilter = 1 // ICMP_FILTER of linux/icmp.h
	return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, int(^uint32(1<<echoReply4)))
}

func filter6(fd int) error {
	var f unix.ICMPv6Filter
	for i := range f.Data {
		f.Data[i] = ^uint32(0)
	}
	f.Data[echoReply6/32] &^= 1 << (echoReply6 % 32)
	return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
}

// Ask wants the round trip to a host that is behind an interface; it is sent by
// no other. Ask never blocks. If the host answers, done is called, once,
// by another goroutine; it must not block.
func (p *Pinger) Ask(to netip.Addr, ifindex int, done func(time.Duration)) {
	select {
	case p.wishes <- wish{to.Unmap(), ifindex, done}:
	default:
		p.mu.Lock()
		p.table.count.Limited++
		p.mu.Unlock()
	}
}

// Run sends and receives until the context ends, and closes the sockets.
func (p *Pinger) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { errs[0] = p.receive(ctx, p.v4, echoReply4) })
	if p.v6 != nil {
		wg.Go(func() { errs[1] = p.receive(ctx, p.v6, echoReply6) })
	}
	for ctx.Err() == nil {
		select {
		case w := <-p.wishes:
			p.send(w)
		case <-ctx.Done():
		}
	}
	err := p.Close()
	wg.Wait()
	return errors.Join(err, errs[0], errs[1])
}

// Close closes the sockets of a Pinger that does not run. Run does so itself.
func (p *Pinger) Close() error {
	err := p.v4.Close()
	if p.v6 != nil {
		err = errors.Join(err, p.v6.Close())
	}
	return err
}

// send asks for a wish, if the limits allow it and nobody else has.
func (p *Pinger) send(w wish) {
	var chance payload
	if _, err := rand.Read(chance[:]); err != nil {
		p.failed()
		return
	}
	p.mu.Lock()
	q, due := p.table.ask(time.Now(), w.to, chance, w.done)
	p.mu.Unlock()
	if !due {
		return
	}
	if err := p.transmit(w, q); err != nil {
		p.failed() // as if it were lost on the way
	}
}

func (p *Pinger) failed() {
	p.mu.Lock()
	p.table.count.Errors++
	p.mu.Unlock()
}

func (p *Pinger) transmit(w wish, q request) error {
	to := &net.IPAddr{IP: w.to.AsSlice()}
	if w.to.Is4() {
		b := message(echoRequest4, p.id, q.seq, q.chance[:])
		binary.BigEndian.PutUint16(b[2:], packet.Checksum(b))
		return write(p.v4, b, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(w.ifindex)}), to)
	}
	if p.v6 == nil {
		return unix.EAFNOSUPPORT
	}
	// The kernel computes the checksum of ICMPv6 (RFC 3542 section 3.1).
	b := message(echoRequest6, p.id, q.seq, q.chance[:])
	return write(p.v6, b, unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(w.ifindex)}), to)
}

func write(c *net.IPConn, b, oob []byte, to *net.IPAddr) error {
	_, _, err := c.WriteMsgIP(b, oob, to)
	return err
}

// receive reads answers until the socket is closed.
func (p *Pinger) receive(ctx context.Context, c *net.IPConn, reply byte) error {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromIP(b)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("echo: %w", err)
		case err != nil:
			p.failed()
			continue
		}
		addr, ok := netip.AddrFromSlice(from.IP)
		if !ok || n < 8 || b[0] != reply || binary.BigEndian.Uint16(b[4:]) != p.id {
			continue // another program's
		}
		p.mu.Lock()
		d, list := p.table.answered(now, addr.Unmap(), binary.BigEndian.Uint16(b[6:]), b[8:n])
		p.mu.Unlock()
		for _, done := range list {
			done(d)
		}
	}
}

// Counters reads the counters.
func (p *Pinger) Counters() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.table.count
}
