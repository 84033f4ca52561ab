package rig

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// question is one dump of rtnetlink or nf_tables: what it lists, and what in it
// changes by itself. Attributes are named by their numbers from the outermost in.
type question struct {
	name   string
	kind   netlink.HeaderType
	data   []byte
	header int // bytes before the attributes
	skip   []string
	nested []string // attributes that hold others, of which some are skipped
}

// Attributes of statistics and of clocks.
var (
	linkClocks = []string{
		"7", "23", "26", "35", "47", "48", // IFLA_STATS, STATS64, AF_SPEC (the sysctls tell), CARRIER_*
		"12.21", "12.22", "12.23", // timers of a bridge's port
		"18.2.16", "18.2.17", "18.2.18", "18.2.19", "18.3", // timers of a bridge, XSTATS
		"18.5.21", "18.5.22", "18.5.23",
		"62", // IFLA_DEVLINK_PORT and the like are of devices
	}
	linkNests = []string{"12", "18", "18.2", "18.5"}
	tcClocks  = []string{"3", "4", "7"} // TCA_STATS, XSTATS, STATS2
)

// whole lists all that can be set of a namespace's network: links, addresses, routes,
// rules, queueing disciplines, classes, filters and programs, nf_tables with rules
// and elements, and sysctls. What the kernel counts is left out.
func (s Snapshot) whole(ns *netns.NetNS) error {
	return ns.Do(func() error {
		rt, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		nf, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return errors.Join(fmt.Errorf("netlink: %w", err), rt.Close())
		}
		err = errors.Join(s.rtnetlink(rt, ns.Name()), s.nftables(nf, ns.Name()), s.sysctls(ns.Name()))
		return errors.Join(err, rt.Close(), nf.Close())
	})
}

func (s Snapshot) rtnetlink(c *netlink.Conn, name string) error {
	links, err := s.ask(c, name, &question{name: "link", kind: unix.RTM_GETLINK, data: make([]byte, unix.SizeofIfInfomsg), header: unix.SizeofIfInfomsg, skip: linkClocks, nested: linkNests})
	if err != nil {
		return err
	}
	const tcmsg = 20
	all := []question{
		{name: "address", kind: unix.RTM_GETADDR, data: make([]byte, unix.SizeofIfAddrmsg), header: unix.SizeofIfAddrmsg, skip: []string{"6"}},
		{name: "route", kind: unix.RTM_GETROUTE, data: make([]byte, unix.SizeofRtMsg), header: unix.SizeofRtMsg, skip: []string{"12"}},
		{name: "rule", kind: unix.RTM_GETRULE, data: make([]byte, unix.SizeofRtMsg), header: unix.SizeofRtMsg},
		{name: "qdisc", kind: unix.RTM_GETQDISC, data: make([]byte, tcmsg), header: tcmsg, skip: tcClocks},
	}
	for _, l := range links {
		index := l.Data[4:8]
		of := func(parent uint32) []byte {
			b := make([]byte, tcmsg)
			copy(b[4:], index)
			binary.NativeEndian.PutUint32(b[12:], parent)
			return b
		}
		all = append(all, question{name: "class", kind: unix.RTM_GETTCLASS, data: of(0), header: tcmsg, skip: tcClocks})
		for _, parent := range []uint32{0, 0xfffffff2, 0xfffffff3} { // root, clsact's two
			all = append(all, question{name: "filter", kind: unix.RTM_GETTFILTER, data: of(parent), header: tcmsg, skip: tcClocks})
		}
		for hook, attach := range map[string]uint32{"ingress": 46, "egress": 47} { // BPF_TCX_*
			n, err := programs(binary.NativeEndian.Uint32(index), attach)
			if err != nil {
				return err
			}
			s.add("programs %s %d %s %d", name, binary.NativeEndian.Uint32(index), hook, n)
		}
	}
	for i := range all {
		if _, err := s.ask(c, name, &all[i]); err != nil {
			return err
		}
	}
	return nil
}

// programs counts the programs that are attached to a hook of an interface.
func programs(index, attach uint32) (uint32, error) {
	// struct bpf_attr of BPF_PROG_QUERY.
	attr := struct {
		index, attach, flags, attached uint32
		ids                            uint64
		count, _                       uint32
		_                              [6]uint64
	}{index: index, attach: attach}
	const progQuery = 16
	_, _, errno := unix.Syscall(unix.SYS_BPF, progQuery, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return 0, fmt.Errorf("programs of interface %d: %w", index, errno)
	}
	return attr.count, nil
}

func (s Snapshot) nftables(c *netlink.Conn, name string) error {
	const (
		getTable, getChain, getRule, getSet, getElem, getObj = unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_GETOBJ
		header                                               = 4
	)
	of := func(what string, msg int, data []byte, skip ...string) question {
		return question{name: what, kind: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg), data: data, header: header, skip: skip}
	}
	unspec := []byte{0, unix.NFNETLINK_V0, 0, 0}
	var sets []netlink.Message
	for _, q := range []question{
		of("nft table", getTable, unspec), of("nft chain", getChain, unspec, "8"), // NFTA_CHAIN_COUNTERS
		of("nft rule", getRule, unspec), of("nft object", getObj, unspec), of("nft set", getSet, unspec),
	} {
		got, err := s.ask(c, name, &q)
		if err != nil {
			return err
		}
		if q.name == "nft set" {
			sets = got
		}
	}
	for _, set := range sets {
		a, err := netlink.UnmarshalAttributes(set.Data[header:])
		if err != nil {
			return err
		}
		var want []netlink.Attribute
		for _, x := range a {
			if x.Type == 1 || x.Type == 2 { // table, name
				want = append(want, x)
			}
			if name := strings.TrimRight(string(x.Data), "\x00"); x.Type == 2 && (name == "alive" || name == "settled") {
				want = nil // these live for moments
				break
			}
		}
		if want == nil {
			continue
		}
		b, err := netlink.MarshalAttributes(want)
		if err != nil {
			return err
		}
		q := of("nft elements", getElem, append([]byte{set.Data[0], unix.NFNETLINK_V0, 0, 0}, b...))
		if _, err := s.ask(c, name, &q); err != nil {
			return err
		}
	}
	return nil
}

// ask adds a line for each thing that a dump lists.
func (s Snapshot) ask(c *netlink.Conn, name string, q *question) ([]netlink.Message, error) {
	list, err := c.Execute(netlink.Message{Header: netlink.Header{Type: q.kind, Flags: netlink.Request | netlink.Dump}, Data: q.data})
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, nil // there is nothing of the kind
		}
		return nil, fmt.Errorf("%s of %s: %w", q.name, name, err)
	}
	for _, m := range list {
		if len(m.Data) < q.header {
			return nil, fmt.Errorf("%s of %s: short message", q.name, name)
		}
		if q.kind == unix.RTM_GETROUTE && binary.NativeEndian.Uint32(m.Data[8:])&unix.RTM_F_CLONED != 0 {
			continue // of a cache
		}
		var text strings.Builder
		head := m.Data[:q.header]
		if strings.HasPrefix(q.name, "nft") {
			head = head[:1] // the family; the rest is the version and the generation
		}
		text.WriteString(hex.EncodeToString(head))
		if err := q.attributes(&text, "", m.Data[q.header:]); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", q.name, name, err)
		}
		s.add("%s %s %s", q.name, name, text.String())
	}
	return list, nil
}

// attributes writes attributes down as TYPE=BYTES, without those that are skipped.
func (q *question) attributes(text *strings.Builder, path string, b []byte) error {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return err
	}
	for _, a := range list {
		at := fmt.Sprintf("%s%d", path, a.Type)
		switch {
		case slices.Contains(q.skip, at):
		case slices.Contains(q.nested, at):
			if err := q.attributes(text, at+".", a.Data); err != nil {
				return err
			}
		case q.name == "nft rule" && at == "4": // NFTA_RULE_EXPRESSIONS
			if err := rule(text, a.Data); err != nil {
				return err
			}
		default:
			fmt.Fprintf(text, " %s=%s", at, readable(a.Data))
		}
	}
	return nil
}

// rule writes a rule's expressions down, without what they have counted.
func rule(text *strings.Builder, b []byte) error {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return err
	}
	for _, e := range list {
		parts, err := netlink.UnmarshalAttributes(e.Data)
		if err != nil {
			return err
		}
		counter := false
		for _, p := range parts {
			counter = counter || p.Type == 1 && string(p.Data) == "counter\x00"
			if !counter || p.Type == 1 {
				fmt.Fprintf(text, " expr=%s", readable(p.Data))
			}
		}
	}
	return nil
}

// readable is a name as it is, and anything else in hexadecimal.
func readable(b []byte) string {
	name := strings.TrimSuffix(string(b), "\x00")
	for _, r := range name {
		if r <= ' ' || r > '~' {
			return hex.EncodeToString(b)
		}
	}
	if len(name) < 3 || len(name) == len(b) {
		return hex.EncodeToString(b)
	}
	return name
}

// sysctls lists the values of all network sysctls that can be read.
func (s Snapshot) sysctls(name string) error {
	const root = "/proc/sys/net"
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || strings.HasSuffix(path, "_count") {
			return nil //nolint:nilerr // some can only be written; and a count is no setting
		}
		s.add("sysctl %s %s %s", name, strings.TrimPrefix(path, root+"/"), strings.TrimSpace(string(b)))
		return nil
	})
}
