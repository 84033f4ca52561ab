package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// link is an interface as the kernel describes it.
type link struct {
	index, master, mtu int
	lower              int // the link that a VLAN's is on
	name, kind         string
	flags              uint32
	genMode            string            // how IPv6 makes addresses; empty: no IPv6 here
	own                map[uint16][]byte // attributes of a bridge
	port               map[uint16][]byte // attributes as the port of a bridge
	addrs              []netip.Prefix    // but for those that every interface has by itself
}

// links is one reading of all interfaces of this network namespace.
type links []*link

func (l links) named(name string) *link {
	i := slices.IndexFunc(l, func(k *link) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return l[i]
}

func (l links) at(index int) *link {
	i := slices.IndexFunc(l, func(k *link) bool { return k.index == index })
	if i < 0 {
		return nil
	}
	return l[i]
}

// ports of a bridge.
func (l links) ports(bridge int) (list []*link) {
	for _, k := range l {
		if k.master == bridge {
			list = append(list, k)
		}
	}
	return list
}

// unlisted are the ports of a bridge that are none of these.
func (l links) unlisted(bridge int, ports []string) []*link {
	return slices.DeleteFunc(l.ports(bridge), func(p *link) bool { return slices.Contains(ports, p.name) })
}

// kernel is rtnetlink of one network namespace.
type kernel struct{ conn *netlink.Conn }

func dial() (*kernel, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &kernel{conn: conn}, nil
}

// request sends one message and takes the answers.
func (k *kernel) request(typ uint16, flags netlink.HeaderFlags, header []byte, attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	if attrs != nil {
		attrs(ae)
	}
	body, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	return k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | flags},
		Data:   append(header, body...),
	})
}

// Lengths of struct ifinfomsg and struct ifaddrmsg.
const (
	ifInfo = unix.SizeofIfInfomsg
	ifAddr = unix.SizeofIfAddrmsg
)

// ifaProto is IFA_PROTO.
const ifaProto = 11

// infoHeader is struct ifinfomsg: family, index, and flags with those that change.
func infoHeader(family uint8, index int, flags, change uint32) []byte {
	b := make([]byte, ifInfo)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:8], uint32(index))
	binary.NativeEndian.PutUint32(b[8:12], flags)
	binary.NativeEndian.PutUint32(b[12:16], change)
	return b
}

// read lists all interfaces.
func (k *kernel) read() (links, error) {
	messages, err := k.request(unix.RTM_GETLINK, netlink.Dump, infoHeader(unix.AF_UNSPEC, 0, 0, 0), nil)
	if err != nil {
		return nil, fmt.Errorf("list of interfaces: %w", err)
	}
	var list links
	for _, m := range messages {
		l, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list of interfaces: %w", err)
		}
		list = append(list, l)
	}
	messages, err = k.request(unix.RTM_GETADDR, netlink.Dump, make([]byte, ifAddr), nil)
	if err != nil {
		return nil, fmt.Errorf("list of addresses: %w", err)
	}
	for _, m := range messages {
		index, addr, made, err := parseAddr(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list of addresses: %w", err)
		}
		// A link-local address that the kernel has made it makes again.
		if l := list.at(index); l != nil && addr.IsValid() && (!made || l.genMode == genNone) {
			l.addrs = append(l.addrs, addr)
		}
	}
	return list, nil
}

var errShort = errors.New("a message that is too short")

func parseLink(b []byte) (*link, error) {
	if len(b) < ifInfo {
		return nil, errShort
	}
	l := &link{index: int(binary.NativeEndian.Uint32(b[4:8])), flags: binary.NativeEndian.Uint32(b[8:12])}
	ad, err := netlink.NewAttributeDecoder(b[ifInfo:])
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.name = ad.String()
		case unix.IFLA_MASTER:
			l.master = int(ad.Uint32())
		case unix.IFLA_LINK:
			l.lower = int(ad.Uint32())
		case unix.IFLA_MTU:
			l.mtu = int(ad.Uint32())
		case unix.IFLA_LINKINFO:
			ad.Nested(l.info)
		case unix.IFLA_AF_SPEC:
			ad.Nested(l.families)
		}
	}
	return l, ad.Err()
}

func (l *link) info(ad *netlink.AttributeDecoder) error {
	var portOf string
	var own, port []byte
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			l.kind = ad.String()
		case unix.IFLA_INFO_DATA:
			own = ad.Bytes()
		case unix.IFLA_INFO_SLAVE_KIND:
			portOf = ad.String()
		case unix.IFLA_INFO_SLAVE_DATA:
			port = ad.Bytes()
		}
	}
	var err error
	if l.kind == kindBridge {
		l.own, err = attributes(own)
	}
	if portOf == kindBridge && err == nil {
		l.port, err = attributes(port)
	}
	return errors.Join(err, ad.Err())
}

func attributes(b []byte) (map[uint16][]byte, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, err
	}
	out := map[uint16][]byte{}
	for ad.Next() {
		out[ad.Type()] = ad.Bytes()
	}
	return out, ad.Err()
}

func (l *link) families(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() == unix.AF_INET6 {
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.IFLA_INET6_ADDR_GEN_MODE {
						l.genMode = fmt.Sprint(ad.Uint8())
					}
				}
				return ad.Err()
			})
		}
	}
	return ad.Err()
}

// protoKernelLL is the origin of a link-local address that the kernel has made
// (IFAPROT_KERNEL_LL). Before Linux 5.18 no origin is told.
const protoKernelLL = 3

// parseAddr reads an address; made tells of one that is link-local and the kernel's own.
func parseAddr(b []byte) (index int, addr netip.Prefix, made bool, err error) {
	if len(b) < ifAddr {
		return 0, addr, false, errShort
	}
	index = int(binary.NativeEndian.Uint32(b[4:8]))
	ad, err := netlink.NewAttributeDecoder(b[ifAddr:])
	if err != nil {
		return 0, addr, false, err
	}
	var local, other netip.Addr
	proto := uint8(protoKernelLL)
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_LOCAL: // this end's, where IFA_ADDRESS is the other's
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_ADDRESS:
			other, _ = netip.AddrFromSlice(ad.Bytes())
		case ifaProto:
			proto = ad.Uint8()
		}
	}
	if !local.IsValid() {
		local = other
	}
	if local.IsValid() {
		addr = netip.PrefixFrom(local, int(b[1]))
	}
	return index, addr, local.Is6() && local.IsLinkLocalUnicast() && proto == protoKernelLL, ad.Err()
}

// create makes a bridge that is down, with all that it shall be.
func (k *kernel) create(name string) error {
	_, err := k.request(unix.RTM_NEWLINK, netlink.Create|netlink.Excl|netlink.Acknowledge, infoHeader(unix.AF_UNSPEC, 0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(unix.IFLA_INFO_KIND, kindBridge)
			ae.Nested(unix.IFLA_INFO_DATA, func(ae *netlink.AttributeEncoder) error {
				for _, a := range madeAttrs {
					a.encode(ae, a.want)
				}
				return nil
			})
			return nil
		})
	})
	return err
}

func (k *kernel) remove(index int) error {
	_, err := k.request(unix.RTM_DELLINK, netlink.Acknowledge, infoHeader(unix.AF_UNSPEC, index, 0, 0), nil)
	return err
}

func (k *kernel) set(index int, flags, change uint32, attrs func(*netlink.AttributeEncoder)) error {
	_, err := k.request(unix.RTM_NEWLINK, netlink.Acknowledge, infoHeader(unix.AF_UNSPEC, index, flags, change), attrs)
	return err
}

// setFlag changes one flag of an interface, such as IFF_UP.
func (k *kernel) setFlag(index int, flag uint32, on bool) error {
	value := uint32(0)
	if on {
		value = flag
	}
	return k.set(index, value, flag, nil)
}

func (k *kernel) setMaster(index, master int) error {
	return k.set(index, 0, 0, func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_MASTER, uint32(master)) })
}

func (k *kernel) setGenMode(index int, mode uint8) error {
	return k.set(index, 0, 0, func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_AF_SPEC, func(ae *netlink.AttributeEncoder) error {
			ae.Nested(unix.AF_INET6, func(ae *netlink.AttributeEncoder) error {
				ae.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, mode)
				return nil
			})
			return nil
		})
	})
}

// setOwn changes an attribute of a bridge, setPort one of a port.
func (k *kernel) setOwn(index int, a attr, value uint64) error {
	return k.setInfo(index, unix.IFLA_INFO_KIND, unix.IFLA_INFO_DATA, a, value)
}

func (k *kernel) setPort(index int, a attr, value uint64) error {
	return k.setInfo(index, unix.IFLA_INFO_SLAVE_KIND, unix.IFLA_INFO_SLAVE_DATA, a, value)
}

func (k *kernel) setInfo(index int, kind, data uint16, a attr, value uint64) error {
	return k.set(index, 0, 0, func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
			ae.String(kind, kindBridge)
			ae.Nested(data, func(ae *netlink.AttributeEncoder) error {
				a.encode(ae, value)
				return nil
			})
			return nil
		})
	})
}

// list joins names for a sentence.
func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
