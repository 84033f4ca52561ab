package rig

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	vnetlink "github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// listTables returns the nftables tables of a namespace as "FAMILY NAME". It
// speaks the protocol itself because the library for it belongs to the product.
func listTables(fd int) ([]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: fd})
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	messages, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	families := map[byte]string{
		unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6",
		unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev", unix.NFPROTO_BRIDGE: "bridge",
	}
	var tables []string
	for _, m := range messages {
		const header = 4 // struct nfgenmsg
		if len(m.Data) < header {
			return nil, errors.New("list nftables tables: short message")
		}
		attributes, err := netlink.NewAttributeDecoder(m.Data[header:])
		if err != nil {
			return nil, fmt.Errorf("list nftables tables: %w", err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_TABLE_NAME {
				tables = append(tables, families[m.Data[0]]+" "+attributes.String())
			}
		}
		if err := attributes.Err(); err != nil {
			return nil, fmt.Errorf("list nftables tables: %w", err)
		}
	}
	return tables, nil
}

// listQdiscs returns the queueing disciplines that somebody has set, as
// "INTERFACE KIND HANDLE". Those the kernel gives by itself have no handle.
func listQdiscs(fd int) ([]string, error) {
	h, err := vnetlink.NewHandleAt(vnetns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var found []string
	for _, link := range links {
		qdiscs, err := h.QdiscList(link)
		if err != nil {
			return nil, fmt.Errorf("list qdiscs of %s: %w", link.Attrs().Name, err)
		}
		for _, q := range qdiscs {
			if q.Attrs().Handle != 0 {
				found = append(found, fmt.Sprintf("%s %s %s", link.Attrs().Name, q.Type(), vnetlink.HandleStr(q.Attrs().Handle)))
			}
		}
	}
	return found, nil
}
