package bpf

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// skb is the part of struct __sk_buff that test runs read and write.
type skb struct {
	Len, PktType, Mark, Queue, Protocol, VlanPresent, VlanTCI, VlanProto uint32
	Priority, IngressIfindex, Ifindex, TCIndex                           uint32
	CB                                                                   [5]uint32
	Hash, TCClassid, Data, DataEnd, NapiID, Family, RemoteIP4, LocalIP4  uint32
	RemoteIP6, LocalIP6                                                  [4]uint32
	RemotePort, LocalPort, DataMeta                                      uint32
	FlowKeys, Tstamp                                                     uint64
	WireLen, GSOSegs                                                     uint32
	Sk                                                                   uint64
	GSOSize                                                              uint32
	TstampType                                                           uint8
	_                                                                    [3]uint8
	Hwtstamp                                                             uint64
}

var (
	key4 = packet.MakeKey(unix.IPPROTO_UDP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5004"))
	key6 = packet.MakeKey(unix.IPPROTO_UDP, netip.MustParseAddrPort("[fd00:1::2]:4000"), netip.MustParseAddrPort("[fd00:2::2]:5004"))
)

// frame builds an Ethernet frame around an IP packet of n bytes. TCP headers
// have 32 bytes, as those with timestamps have.
func frame(k packet.FlowKey, tos uint8, n int) []byte {
	b := make([]byte, 14+n)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1})
	ip := b[14:]
	header := 20
	if k.Is4() {
		binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
		ip[0], ip[1], ip[8], ip[9] = 0x45, tos, 64, k.Proto
		binary.BigEndian.PutUint16(ip[2:], uint16(n))
		src, dst := k.SrcAddr().As4(), k.DstAddr().As4()
		copy(ip[12:], src[:])
		copy(ip[16:], dst[:])
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:20]))
	} else {
		header = 40
		binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
		binary.BigEndian.PutUint32(ip, 6<<28|uint32(tos)<<20|0x54321)
		binary.BigEndian.PutUint16(ip[4:], uint16(n-40))
		ip[6], ip[7] = k.Proto, 64
		copy(ip[8:], k.Src[:])
		copy(ip[24:], k.Dst[:])
	}
	if l4 := ip[header:]; len(l4) >= 8 {
		binary.BigEndian.PutUint16(l4, k.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], k.DstPort)
		if k.Proto == unix.IPPROTO_TCP && len(l4) > 12 {
			l4[12] = 8 << 4
		}
	}
	return b
}

// harness is a table with its egress program ready for test runs.
type harness struct {
	*Table
	t       testing.TB
	ifindex int
	prog    *ebpf.Program
}

func newHarness(t testing.TB) *harness {
	ifindex := newNamespace(t)
	table := openTable(t, pinDir(t), 1000)
	prog, err := table.loadFor(Egress, plan.Program{Header: 14, Control: plan.Control})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return &harness{Table: table, t: t, ifindex: ifindex, prog: prog}
}

type result struct {
	verdict  int32
	priority uint32
	frame    []byte
}

// send runs the program on a frame. gso is the segment size, 0 for a plain packet.
func (h *harness) send(b []byte, gso int) result {
	h.t.Helper()
	ctx := skb{Ifindex: uint32(h.ifindex), IngressIfindex: 1, GSOSize: uint32(gso)}
	if gso > 0 {
		ctx.GSOSegs = uint32((len(b) + gso - 1) / gso)
	}
	opts := ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+256), Context: ctx, ContextOut: &ctx}
	ret, err := h.prog.Run(&opts)
	if err != nil {
		h.t.Fatal(err)
	}
	return result{verdict: int32(ret), priority: ctx.Priority, frame: opts.DataOut}
}

func (h *harness) put(tr plan.Treatment, class plan.ClassID) {
	h.t.Helper()
	if err := h.Put(h.ifindex, tr, class, plan.BestEffort, 0); err != nil {
		h.t.Fatal(err)
	}
}
