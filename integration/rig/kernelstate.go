package rig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// passing are attributes that say how things go and not how they are set, in
// what a link says of itself: of a bridge its timers and what it has elected, of a
// port the same, and counters.
var passing = map[string][]uint16{
	"bridge": {
		unix.IFLA_BR_ROOT_ID, unix.IFLA_BR_BRIDGE_ID, unix.IFLA_BR_ROOT_PORT, unix.IFLA_BR_ROOT_PATH_COST, unix.IFLA_BR_TOPOLOGY_CHANGE, unix.IFLA_BR_TOPOLOGY_CHANGE_DETECTED,
		unix.IFLA_BR_HELLO_TIMER, unix.IFLA_BR_TCN_TIMER, unix.IFLA_BR_TOPOLOGY_CHANGE_TIMER, unix.IFLA_BR_GC_TIMER, unix.IFLA_BR_MCAST_QUERIER_STATE, unix.IFLA_BR_FDB_N_LEARNED,
	},
	"port": {
		unix.IFLA_BRPORT_ROOT_ID, unix.IFLA_BRPORT_BRIDGE_ID, unix.IFLA_BRPORT_DESIGNATED_PORT, unix.IFLA_BRPORT_DESIGNATED_COST, unix.IFLA_BRPORT_STATE,
		unix.IFLA_BRPORT_TOPOLOGY_CHANGE_ACK, unix.IFLA_BRPORT_CONFIG_PENDING, unix.IFLA_BRPORT_MESSAGE_AGE_TIMER, unix.IFLA_BRPORT_FORWARD_DELAY_TIMER, unix.IFLA_BRPORT_HOLD_TIMER, unix.IFLA_BRPORT_MCAST_N_GROUPS,
	},
}

// listLinks returns how the interfaces of a namespace are set, as "INTERFACE WHAT
// VALUE", and their addresses but for those of IPv6 links, which the kernel makes when
// it gets round to it.
func listLinks(fd int) (found []string, err error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: fd})
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	dump := func(kind netlink.HeaderType, header int) ([]netlink.Message, error) {
		return conn.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: make([]byte, header)})
	}
	links, err := dump(unix.RTM_GETLINK, unix.SizeofIfInfomsg)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[uint32]string{}
	for _, m := range links {
		name, lines, err := linkLines(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		names[binary.NativeEndian.Uint32(m.Data[4:8])] = name
		found = append(found, lines...)
	}
	addrs, err := dump(unix.RTM_GETADDR, unix.SizeofIfAddrmsg)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range addrs {
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfAddrmsg:])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		for ad.Next() {
			if ad.Type() == unix.IFA_ADDRESS && !net.IP(ad.Bytes()).IsLinkLocalUnicast() {
				found = append(found, fmt.Sprintf("%s address %v/%d", names[binary.NativeEndian.Uint32(m.Data[4:8])], net.IP(ad.Bytes()), m.Data[1]))
			}
		}
	}
	return found, nil
}

func linkLines(b []byte) (name string, lines []string, err error) {
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return "", nil, err
	}
	add := func(what string, value any) { lines = append(lines, fmt.Sprintf("%s %v", what, value)) }
	add("flags", fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b[8:12])&^(unix.IFF_RUNNING|unix.IFF_LOWER_UP|unix.IFF_DORMANT)))
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			name = ad.String()
		case unix.IFLA_MTU, unix.IFLA_MASTER, unix.IFLA_TXQLEN, unix.IFLA_PROMISCUITY, unix.IFLA_GROUP, unix.IFLA_LINK, unix.IFLA_ALLMULTI:
			add(fmt.Sprintf("attribute %d", ad.Type()), ad.Uint32())
		case unix.IFLA_ADDRESS, unix.IFLA_IFALIAS, unix.IFLA_LINKMODE:
			add(fmt.Sprintf("attribute %d", ad.Type()), fmt.Sprintf("%x", ad.Bytes()))
		case unix.IFLA_LINKINFO:
			ad.Nested(func(ad *netlink.AttributeDecoder) error { return infoLines(ad, add) })
		case unix.IFLA_AF_SPEC:
			ad.Nested(func(ad *netlink.AttributeDecoder) error { return genModeLines(ad, add) })
		}
	}
	for i := range lines {
		lines[i] = name + " " + lines[i]
	}
	return name, lines, ad.Err()
}

// infoLines are what only this kind of link has, or only a port of its kind.
func infoLines(ad *netlink.AttributeDecoder, add func(string, any)) error {
	own, port := "", ""
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			own = ad.String()
			add("kind", own)
		case unix.IFLA_INFO_SLAVE_KIND:
			port = ad.String()
		case unix.IFLA_INFO_DATA:
			if own == "bridge" {
				ad.Nested(func(ad *netlink.AttributeDecoder) error { return allBut(ad, own, add) })
			}
		case unix.IFLA_INFO_SLAVE_DATA:
			if port == "bridge" {
				ad.Nested(func(ad *netlink.AttributeDecoder) error { return allBut(ad, "port", add) })
			}
		}
	}
	return ad.Err()
}

func allBut(ad *netlink.AttributeDecoder, kind string, add func(string, any)) error {
	for ad.Next() {
		if !slices.Contains(passing[kind], ad.Type()) {
			add(fmt.Sprintf("%s %d", kind, ad.Type()), fmt.Sprintf("%x", ad.Bytes()))
		}
	}
	return ad.Err()
}

// genModeLines is how IPv6 makes addresses. All else that IPv4 and IPv6 have for an
// interface is in its sysctls.
func genModeLines(ad *netlink.AttributeDecoder, add func(string, any)) error {
	for ad.Next() {
		if ad.Type() != unix.AF_INET6 {
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				if ad.Type() == unix.IFLA_INET6_ADDR_GEN_MODE {
					add("genmode", ad.Uint8())
				}
			}
			return ad.Err()
		})
	}
	return ad.Err()
}

// listSysctls returns what the network sysctls of this thread's namespace are set to
// that concern interfaces and bridges, as "PATH VALUE".
func listSysctls() (found []string, err error) {
	const root = "/proc/sys/net"
	for _, dir := range []string{"bridge", "ipv4/conf", "ipv6/conf"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // of an interface that goes away just now, or no such module
			}
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				return nil // write-only, or without a value
			}
			found = append(found, strings.TrimPrefix(path, root+"/")+" "+strings.TrimSpace(string(raw)))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list sysctls: %w", err)
		}
	}
	return found, nil
}
