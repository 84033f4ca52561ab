package nft

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// callTimeout bounds every exchange with the kernel. A commit waits for
	// others' commits, which may flush big sets.
	callTimeout = 3 * time.Second
	// openTimeout bounds those at the start, for which nothing waits yet: on a busy
	// machine the tables of processes that have ended may be cleared away first.
	openTimeout = 10 * time.Second
	// drainTimeout is how long late answers are waited for after a timeout.
	drainTimeout = time.Millisecond
	// socketBuffer holds a batch of elements, and the answers to it.
	socketBuffer = 1 << 20
)

// conn is one lasting netlink connection; the owned tables live as long as it.
type conn struct {
	*nftables.Conn
	raw     *netlink.Conn
	timeout time.Duration // of an exchange
	stale   bool          // a timeout left answers behind
}

// dial opens the connection in the calling thread's network namespace.
func dial(timeout time.Duration) (*conn, error) {
	c := &conn{timeout: timeout}
	var err error
	c.Conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(raw *netlink.Conn) error {
		c.raw = raw
		return errors.Join(raw.SetReadBuffer(socketBuffer), raw.SetWriteBuffer(socketBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	// Refused batches are told with the error alone. An old kernel repeats the
	// message as well, which fits the buffer too.
	_ = c.raw.SetOption(netlink.CapAcknowledge, true)
	return c, nil
}

// call gives a deadline to what f does with the connection.
func (c *conn) call(f func() error) error {
	if c.stale {
		if err := c.drain(); err != nil {
			return err
		}
	}
	if err := c.raw.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return fmt.Errorf("netlink deadline: %w", err)
	}
	err := f()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.stale = true
	}
	return explain(err)
}

// drain reads answers that came too late, lest they be taken for those to the
// next question.
func (c *conn) drain() error {
	for {
		if err := c.raw.SetDeadline(time.Now().Add(drainTimeout)); err != nil {
			return fmt.Errorf("netlink deadline: %w", err)
		}
		_, err := c.raw.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.stale = false
			return nil
		}
		if err != nil && errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("netlink: %w", err)
		}
	}
}

// commit sends what was collected, as one transaction.
func (c *conn) commit() error { return c.call(c.Flush) }

// From linux/netfilter/nf_tables.h, newer than golang.org/x/sys.
const (
	tableFlagOwner    = 0x2
	attrTableUserdata = 6
	attrTableOwner    = 7
)

// createOwned makes a table that belongs to this connection. google/nftables
// sends no table flags, so this message is our own; it must be its own
// transaction, too, before those which fill the table.
func (c *conn) createOwned(family nftables.TableFamily, name, comment string) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(name), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(tableFlagOwner)},
		{Type: attrTableUserdata, Data: userdata.AppendString(nil, userdata.Type(0), comment)},
	})
	if err != nil {
		return fmt.Errorf("table message: %w", err)
	}
	batch := []netlink.Message{
		{
			Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
			Data:   nfgenmsg(0, unix.NFNL_SUBSYS_NFTABLES),
		},
		{
			Header: netlink.Header{
				Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
				Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
			},
			Data: append(nfgenmsg(byte(family), 0), attrs...),
		},
		{
			Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
			Data:   nfgenmsg(0, unix.NFNL_SUBSYS_NFTABLES),
		},
	}
	return c.call(func() error {
		if _, err := c.raw.SendMessages(batch); err != nil {
			return err
		}
		_, err := c.raw.Receive()
		return err
	})
}

// nfgenmsg is struct nfgenmsg.
func nfgenmsg(family byte, resource uint16) []byte {
	return []byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}
}

// owner describes who has a table of the name; "" if there is none.
func (c *conn) owner(family nftables.TableFamily, name string) (string, error) {
	msg := netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: nfgenmsg(byte(family), 0),
	}
	var tables []netlink.Message
	if err := c.call(func() (err error) { tables, err = c.raw.Execute(msg); return err }); err != nil {
		return "", err
	}
	for _, t := range tables {
		if len(t.Data) < 4 || t.Data[0] != byte(family) {
			continue
		}
		if who, ok := tableOwner(t.Data[4:], name); ok {
			return who, nil
		}
	}
	return "", nil
}

// tableOwner reads a table message's attributes.
func tableOwner(attrs []byte, want string) (string, bool) {
	ad, err := netlink.NewAttributeDecoder(attrs)
	if err != nil {
		return "", false
	}
	var name, comment, port string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_TABLE_NAME:
			name = ad.String()
		case attrTableOwner:
			if b := ad.Bytes(); len(b) == 4 {
				port = fmt.Sprintf("netlink port %d", binaryutil.BigEndian.Uint32(b))
			}
		case attrTableUserdata:
			comment, _ = userdata.GetString(ad.Bytes(), userdata.Type(0))
		}
	}
	if ad.Err() != nil || name != want {
		return "", false
	}
	switch {
	case port == "":
		return "nobody: it has no owner flag", true
	case comment != "":
		return comment + ", " + port, true
	}
	return port, true
}
