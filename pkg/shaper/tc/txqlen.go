package tc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernelQueueLen is what the kernel makes of an interface's transmit queue length
// of 0 when it gets a queueing discipline, and leaves so when that goes
// (DEFAULT_TX_QUEUE_LEN).
const kernelQueueLen = 1000

// wasZero is how an HTB root of ours says that the length was 0, to whichever
// process takes it away: its own queue for packets of no class, which there are none
// of once the classes are there, is one longer than usual.
const wasZero = kernelQueueLen + 1

// addRoot makes the HTB root.
func (c *Conn) addRoot(ctx context.Context, ifindex int, at *nl.TcMsg) error {
	length, err := c.queueLen(ctx, ifindex)
	if err != nil {
		return err
	}
	options := htbRoot()
	if length == 0 {
		options.AddRtAttr(nl.TCA_HTB_DIRECT_QLEN, nl.Uint32Attr(wasZero))
	}
	return c.do(ctx, unix.RTM_NEWQDISC, createAnew, at, kind("htb"), options)
}

// delRoot removes the HTB root, and brings back the interface's transmit queue
// length where the kernel had changed it.
func (c *Conn) delRoot(ctx context.Context, ifindex int, at *nl.TcMsg) error {
	qdiscs, err := c.objects(ctx, unix.RTM_GETQDISC, unix.RTM_NEWQDISC, ifindex)
	if err != nil {
		return err
	}
	zero := false
	for _, q := range qdiscs {
		if q.msg.Parent != handleRoot || !q.ours() {
			continue
		}
		if v, err := option(q.options, nl.TCA_HTB_DIRECT_QLEN, 4); err == nil {
			zero = binary.NativeEndian.Uint32(v) == wasZero
		}
	}
	if err := c.do(ctx, unix.RTM_DELQDISC, 0, at); err != nil || !zero {
		return err
	}
	length, err := c.queueLen(ctx, ifindex)
	if err != nil || length != kernelQueueLen { // somebody has set another one since
		return err
	}
	err = c.links.LinkSetTxQLen(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, 0)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("transmit queue length: %w", explain(err))
	}
	return nil
}

func (c *Conn) queueLen(ctx context.Context, ifindex int) (int, error) {
	if err := c.deadline(ctx); err != nil {
		return 0, err
	}
	link, err := c.links.LinkByIndex(ifindex)
	if err != nil {
		return 0, fmt.Errorf("interface number %d: %w", ifindex, explain(err))
	}
	return link.Attrs().TxQLen, nil
}
