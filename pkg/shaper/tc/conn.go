package tc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Timeout is the longest that the kernel may take for one request when the
// context says nothing. It answers in less than a millisecond, unless
// something holds the rtnl lock.
const Timeout = 5 * time.Second

// Conn is a connection to rtnetlink in one network namespace. It is not safe
// for concurrent use.
type Conn struct {
	links   *netlink.Handle
	socket  *nl.NetlinkSocket
	sockets map[int]*nl.SocketHandle
	timeout time.Duration
}

// Open connects in the network namespace of the calling thread. The Conn stays
// in that namespace, whichever thread uses it.
func Open() (*Conn, error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		links.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	c := &Conn{links: links, socket: socket}
	c.sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	if err := c.deadline(context.Background()); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() {
	c.links.Close()
	c.socket.Close()
}

// deadline gives the next request the time that ctx has left, at most Timeout.
func (c *Conn) deadline(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := Timeout
	if t, ok := ctx.Deadline(); ok {
		// Not 0, which the kernel takes for "no timeout".
		d = min(d, max(time.Until(t), time.Millisecond))
	}
	if d == c.timeout {
		return nil
	}
	tv := unix.NsecToTimeval(d.Nanoseconds())
	err := errors.Join(c.socket.SetSendTimeout(&tv), c.socket.SetReceiveTimeout(&tv), c.links.SetSocketTimeout(d))
	if err != nil {
		return fmt.Errorf("set the timeout of rtnetlink: %w", err)
	}
	c.timeout = d
	return nil
}

func (c *Conn) request(kind, flags int, msg *nl.TcMsg, attrs ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = c.sockets
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	return req
}

// do sends a request that changes something and waits for its acknowledgement.
func (c *Conn) do(ctx context.Context, kind, flags int, msg *nl.TcMsg, attrs ...nl.NetlinkRequestData) error {
	if err := c.deadline(ctx); err != nil {
		return err
	}
	_, err := c.request(kind, flags|unix.NLM_F_ACK, msg, attrs...).Execute(unix.NETLINK_ROUTE, 0)
	return explain(err)
}

// dump asks for a list, and again when it changed while it was read.
func (c *Conn) dump(ctx context.Context, kind int, reply uint16, msg *nl.TcMsg) ([][]byte, error) {
	var err error
	for range 5 {
		if err := c.deadline(ctx); err != nil {
			return nil, err
		}
		var msgs [][]byte
		msgs, err = c.request(kind, unix.NLM_F_DUMP, msg).Execute(unix.NETLINK_ROUTE, reply)
		if err == nil {
			return msgs, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return nil, explain(err)
}

func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN: %w", plan.ErrPrivilege, err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("the kernel did not answer in time: %w", context.DeadlineExceeded)
	}
	return err
}
