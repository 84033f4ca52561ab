package nft

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 1191 and RFC 8201: an error about a packet of a cheated connection that was
// too big comes to its worker, whichever direction it is about. Errors about
// other connections, other errors, and other ICMP do not.
func TestTooBigGoesToItsWorker(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	for i, a := range []struct {
		key   packet.FlowKey
		proto int
	}{
		{packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(srcAddr, 4000), netip.AddrPortFrom(dstAddr, 80)), unix.IPPROTO_ICMP},
		{packet.MakeKey(packet.ProtoTCP, netip.AddrPortFrom(srcAddr6, 4000), netip.AddrPortFrom(dstAddr6, 80)), unix.IPPROTO_ICMPV6},
	} {
		shard := i % len(testQueue.Cheat)
		must(t, q.AddCheated(shard, a.key, a.key.Reverse()))
		name := "too big " + q.tables[0].cheated[shard].Name
		other := a.key
		other.SrcPort++
		c := &counts{q: q}
		c.since(t)
		got := l.collect(t, testQueue.Cheat[shard])
		for _, c4 := range []struct {
			what string
			b    []byte
			want uint64
		}{
			{"of it", tooBig(a.key, 0), 1},
			{"of its other direction", tooBig(a.key.Reverse(), 0), 1},
			{"of another connection", tooBig(other, 0), 0},
			{"another error", tooBig(a.key, 1), 0},
			{"of it", tooBig(a.key, 0), 1}, // and by now the others would have come
		} {
			before := got.n.Load()
			rawSend(t, l.Sink, a.proto, a.key.SrcAddr(), c4.b)
			waitFor(t, func() bool { return got.n.Load() >= before+c4.want })
			if n := c.since(t)[name]; n != c4.want {
				t.Errorf("%v, %s: %d queued", a.key, c4.what, n)
			}
		}
		if n := got.n.Load(); n != 3 {
			t.Errorf("%d came to the worker", n)
		}
		v, err := packet.Parse(got.at(0))
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := v.TooBig(); !ok || e.Key != a.key || e.MTU != 1400 || e.Seq != 7 {
			t.Errorf("%+v, %v", e, ok)
		}
	}
}

// tooBig is an ICMP message about a segment of a flow; kind 0: it was too big.
func tooBig(key packet.FlowKey, kind byte) []byte {
	p := packet.AppendTCP(nil, &packet.Segment{Key: key, TTL: 60, DF: true, Seq: 7, Flags: packet.FlagACK, Payload: make([]byte, 1448)})
	if !key.Is4() {
		return append([]byte{2 + kind, 0, 0, 0, 0, 0, 1400 >> 8, 1400 & 255}, p[:60]...)
	}
	b := append([]byte{3, 4 - kind, 0, 0, 0, 0, 1400 >> 8, 1400 & 255}, p[:28]...)
	binary.BigEndian.PutUint16(b[2:], packet.Checksum(b))
	return b
}
