package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// layout is where a family's headers and keys have their parts. A key is
// protocol, source address, source port, destination address, destination
// port, each in registers of 4 bytes of its own.
type layout struct {
	family   nftables.TableFamily
	srcOff   uint32 // of the source address in the network header
	addrLen  uint32
	addrType nftables.SetDatatype
	keyType  nftables.SetDatatype
}

var (
	layout4 = newLayout(nftables.TableFamilyIPv4, 12, 4, nftables.TypeIPAddr)
	layout6 = newLayout(nftables.TableFamilyIPv6, 8, 16, nftables.TypeIP6Addr)
)

func newLayout(family nftables.TableFamily, srcOff, addrLen uint32, addr nftables.SetDatatype) *layout {
	return &layout{
		family: family, srcOff: srcOff, addrLen: addrLen, addrType: addr,
		keyType: nftables.MustConcatSetType(nftables.TypeInetProto,
			addr, nftables.TypeInetService, addr, nftables.TypeInetService),
	}
}

// key is a flow in the kernel's form.
func (l *layout) key(k packet.FlowKey) []byte {
	n := int(l.addrLen)
	b := make([]byte, 12+2*n)
	b[0] = k.Proto
	copy(b[4:], k.Src[16-n:])
	binary.BigEndian.PutUint16(b[4+n:], k.SrcPort)
	copy(b[8+n:], k.Dst[16-n:])
	binary.BigEndian.PutUint16(b[8+2*n:], k.DstPort)
	return b
}

// Registers of 4 bytes; the first is where a key starts.
const reg0 = unix.NFT_REG32_00

// loadKey loads a packet's flow. Without ports they are 0, as in the keys of
// protocols that have none; with ports it ends the rule for later fragments.
func (l *layout) loadKey(ports bool) []expr.Any {
	words := l.addrLen / 4
	sport, daddr := reg0+1+words, reg0+2+words
	dport := daddr + words
	e := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0},
		l.loadAddr(reg0+1, false), l.loadAddr(daddr, true),
	}
	if ports {
		return append(e, loadPort(sport, false), loadPort(dport, true))
	}
	zero := make([]byte, 4)
	return append(e, &expr.Immediate{Register: sport, Data: zero}, &expr.Immediate{Register: dport, Data: zero})
}

// loadQuotedKey loads the flow of the packet that an ICMP error quotes: its
// header follows the error's 8 bytes. It has no options or extension headers, as
// TCP segments have none in practice.
func (l *layout) loadQuotedKey() []expr.Any {
	words, proto, ports := l.addrLen/4, uint32(8+9), uint32(8+20)
	if l.addrLen != 4 {
		proto, ports = 8+6, 8+40
	}
	load := func(register, off, n uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: off, Len: n}
	}
	return []expr.Any{
		load(reg0, proto, 1),
		load(reg0+1, 8+l.srcOff, l.addrLen), load(reg0+1+words, ports, 2),
		load(reg0+2+words, 8+l.srcOff+l.addrLen, l.addrLen), load(reg0+2+2*words, ports+2, 2),
	}
}

func (l *layout) loadAddr(register uint32, dst bool) expr.Any {
	off := l.srcOff
	if dst {
		off += l.addrLen
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: off, Len: l.addrLen}
}

func loadPort(register uint32, dst bool) expr.Any {
	off := uint32(0)
	if dst {
		off = 2
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: off, Len: 2}
}

// matchTransport compares bytes of the transport header.
func matchTransport(off uint32, want ...byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: off, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: want},
	}
}

// matchTCPFlags wants one of the flags at least.
func matchTCPFlags(flags byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 1, Mask: []byte{flags}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: []byte{0}},
	}
}

// matchProto compares the transport protocol.
func matchProto(op expr.CmpOp, protos ...uint8) []expr.Any {
	e := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}}
	for _, p := range protos {
		e = append(e, &expr.Cmp{Op: op, Register: reg0, Data: []byte{p}})
	}
	return e
}

// matchMark compares the packet mark under a mask; it is of the host's order.
func matchMark(mark, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0},
		&expr.Bitwise{
			SourceRegister: reg0, DestRegister: reg0, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }
