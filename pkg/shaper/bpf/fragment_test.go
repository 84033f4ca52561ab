package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// split cuts a frame into fragments of this many bytes behind the IP header (and
// the fragment header), as RFC 791 section 3.2 and RFC 8200 section 4.5 say.
func split(t *testing.T, b []byte, id uint32, size int) [][]byte {
	t.Helper()
	if size%8 != 0 {
		t.Fatal("not a multiple of 8")
	}
	v4 := b[14]>>4 == 4
	head, rest := b[:34], b[34:]
	if !v4 {
		head, rest = b[:54], b[54:]
	}
	var out [][]byte
	for at := 0; at < len(rest); at += size {
		part := rest[at:min(at+size, len(rest))]
		more := at+size < len(rest)
		f := bytes.Clone(head)
		ip := f[14:]
		if v4 {
			where := uint16(at / 8)
			if more {
				where |= 0x2000
			}
			binary.BigEndian.PutUint16(ip[2:], uint16(20+len(part)))
			binary.BigEndian.PutUint16(ip[4:], uint16(id))
			binary.BigEndian.PutUint16(ip[6:], where)
			ip[10], ip[11] = 0, 0
			binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:20]))
		} else {
			where := uint16(at)
			if more {
				where |= 1
			}
			binary.BigEndian.PutUint16(ip[4:], uint16(8+len(part)))
			h := binary.BigEndian.AppendUint16([]byte{ip[6], 0}, where)
			ip[6] = unix.IPPROTO_FRAGMENT
			f = append(f, binary.BigEndian.AppendUint32(h, id)...)
		}
		out = append(out, append(f, part...))
	}
	return out
}

// classes sends fragments and returns what classes they were given.
func (h *harness) classes(fragments ...[]byte) []plan.ClassID {
	h.t.Helper()
	out := make([]plan.ClassID, 0, len(fragments))
	for _, f := range fragments {
		out = append(out, plan.ClassID(h.send(f, 0).priority))
	}
	return out
}

func all(classes []plan.ClassID, want plan.ClassID) bool {
	for _, c := range classes {
		if c != want {
			return false
		}
	}
	return len(classes) > 0
}

// Every fragment of a packet is its flow's: class, mark and counters.
func TestFragmentsOfAFlow(t *testing.T) {
	for _, k := range []packet.FlowKey{key4, key6} {
		for _, row := range []packet.FlowKey{k, without(k, "source"), without(k, "source", "destination")} {
			h := newHarness(t)
			h.put(plan.Treatment{Key: row, Mark: true, DSCP: 46}, mine)
			parts := split(t, frame(k, 0, 4000), 0xfffe, 1448)
			if len(parts) != 3 {
				t.Fatalf("%d fragments", len(parts))
			}
			bytes := uint64(0)
			for i, f := range parts {
				r := h.send(f, 0)
				if v := parsed(t, r); r.verdict != next || r.priority != uint32(mine) || v.DSCP() != 46 || !v.IPv4ChecksumOK() {
					t.Errorf("%s: fragment %d: verdict %d, priority %#x, DSCP %d", row, i, r.verdict, r.priority, v.DSCP())
				}
				bytes += uint64(len(f) - 14)
			}
			c, err := h.Counters(h.ifindex, row)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Counters{Packets: 3, Bytes: bytes, Conform: 3, ConformBytes: bytes}); c != want {
				t.Errorf("%s: counted %+v, want %+v", row, c, want)
			}
		}
	}
}

// A later fragment is recognized after the first one of its packet alone, and only
// then: not before it, not that of another host, protocol or packet, not that of a
// flow without a row, and not one of the same identification after another packet
// had it.
func TestFragmentsOfOthers(t *testing.T) {
	for _, k := range []packet.FlowKey{key4, key6} {
		h := newHarness(t)
		h.put(plan.Treatment{Key: k}, mine)
		const id = 7
		whole := func(k packet.FlowKey, id uint32) [][]byte { return split(t, frame(k, 0, 4000), id, 1448) }
		mineParts := whole(k, id)
		if c := h.classes(mineParts[1:]...); !all(c, 0) {
			t.Errorf("%s: before the first fragment: %v", k, c)
		}
		if c := h.classes(mineParts[0], mineParts[2], mineParts[1]); !all(c, mine) {
			t.Errorf("%s: the later ones in another order: %v", k, c)
		}
		host := k
		switch addr := k.SrcAddr().Next(); {
		case k.Is4():
			host = packet.MakeKey(k.Proto, netip.AddrPortFrom(addr, k.SrcPort), k.DstAddrPort())
		default:
			host.Src = addr.As16()
		}
		if c := h.classes(whole(host, id)[1:]...); !all(c, 0) {
			t.Errorf("%s: of another host: %v", k, c)
		}
		if c := h.classes(whole(k, id+1)[1:]...); !all(c, 0) {
			t.Errorf("%s: of another packet: %v", k, c)
		}
		if k.Is4() { // RFC 791 section 3.1: identifications are of a protocol
			tcp := k
			tcp.Proto = unix.IPPROTO_TCP
			if c := h.classes(whole(tcp, id)...); !all(c, 0) {
				t.Errorf("%s: of another protocol: %v", k, c)
			}
		}
		if c := h.classes(mineParts[1:]...); !all(c, mine) {
			t.Errorf("%s: the packet is not known any more: %v", k, c)
		}
		// The identification comes again, in a flow without a row, then in one with.
		other := k
		other.SrcPort++
		if c := h.classes(whole(other, id)...); !all(c, 0) {
			t.Errorf("%s: of an ordinary flow between the same hosts: %v", k, c)
		}
		if c := h.classes(whole(k, id)...); !all(c, mine) {
			t.Errorf("%s: again: %v", k, c)
		}
		h.put(plan.Treatment{Key: other}, mine+1)
		if c := h.classes(whole(other, id)...); !all(c, mine+1) {
			t.Errorf("%s: of another reserved flow between the same hosts: %v", k, c)
		}
		// The row goes between two fragments.
		if err := h.Delete(h.ifindex, other); err != nil {
			t.Fatal(err)
		}
		if c := h.classes(whole(other, id)[1:]...); !all(c, 0) {
			t.Errorf("%s: of a flow that has ended: %v", k, c)
		}
	}
}

// Another interface knows nothing of it: what goes there may be another's packet.
func TestFragmentsOfAnotherInterface(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key4}, mine)
	parts := split(t, frame(key4, 0, 4000), 7, 1448)
	h.send(parts[0], 0)
	first := h.ifindex
	h.ifindex = 1 // lo
	if err := h.Put(h.ifindex, plan.Treatment{Key: key4}, mine, plan.BestEffort, 0); err != nil {
		t.Fatal(err)
	}
	if c := h.classes(parts[1:]...); !all(c, 0) {
		t.Errorf("on another interface: %v", c)
	}
	h.ifindex = first
	if c := h.classes(parts[1:]...); !all(c, mine) {
		t.Errorf("on the first's: %v", c)
	}
}

// Flows that RFC 2207 names by an SPI: the first fragment alone has it.
func TestFragmentsBySPI(t *testing.T) {
	for _, whole := range []packet.FlowKey{key4, key6} {
		whole.Proto, whole.SrcPort, whole.DstPort = unix.IPPROTO_ESP, 0x1234, 0x5678
		h := newHarness(t)
		h.put(plan.Treatment{Key: whole}, mine)
		if c := h.classes(split(t, frame(whole, 0, 4000), 9, 1448)...); !all(c, mine) {
			t.Errorf("%s: %v", whole, c)
		}
	}
}

// Fragments are policed one by one, as the packets that they are: never more than
// the bucket holds passes, to the byte, and no less than fits.
func TestFragmentsArePolicedExactly(t *testing.T) {
	for _, k := range []packet.FlowKey{key4, key6} {
		h := newHarness(t)
		parts := split(t, frame(k, 0, 4000), 1, 1448)
		var all uint64
		for _, f := range parts {
			all += uint64(len(f) - 14)
		}
		// Nine packets and the first fragment of the tenth; the rate adds nothing in
		// the time that this takes.
		bucket := 9*all + uint64(len(parts[0])-14)
		h.put(plan.Treatment{Key: k, Rate: 1, Bucket: float64(bucket), Police: true, Drop: true}, mine)
		for id := range uint32(10) {
			for i, f := range split(t, frame(k, 0, 4000), id, 1448) {
				want := int32(next)
				if id == 9 && i > 0 {
					want = drop
				}
				if r := h.send(f, 0); r.verdict != want {
					t.Errorf("%s: packet %d, fragment %d: verdict %d, want %d", k, id, i, r.verdict, want)
				}
			}
		}
		c, err := h.Counters(h.ifindex, k)
		if err != nil {
			t.Fatal(err)
		}
		if c.Packets != 30 || c.Bytes != 10*all || c.ConformBytes != bucket || c.DroppedBytes != 10*all-bucket {
			t.Errorf("%s: counted %+v, want %d bytes of which %d conform", k, c, 10*all, bucket)
		}
	}
}

// However many packets in fragments there are, the table of them has room for those
// that pass now; those of ordinary flows take none of it.
func TestFragmentsAreBounded(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key4}, mine)
	other := key4
	other.SrcPort++
	ordinary := split(t, frame(other, 0, 4000), 0, 1448)
	parts := split(t, frame(key4, 0, 4000), 0, 1448)
	name := func(f []byte, id uint16) []byte {
		binary.BigEndian.PutUint16(f[14+4:], id)
		return f
	}
	h.send(name(parts[0], 60000), 0)
	for id := range uint16(10000) {
		h.send(name(ordinary[0], id), 0)
	}
	if c := h.classes(name(parts[1], 60000)); !all(c, mine) {
		t.Errorf("ordinary fragments pushed it out: %v", c)
	}
	for id := range uint16(10000) {
		h.send(name(parts[0], id), 0)
		if c := h.classes(name(parts[1], id), name(parts[2], id)); !all(c, mine) {
			t.Fatalf("packet %d: %v", id, c)
		}
	}
	n := 0
	var key treatmentFragmentKey
	var value treatmentFlowKey
	for it := h.fragments.Iterate(); it.Next(raw(&key), raw(&value)); {
		n++
	}
	if n == 0 || n > 4096 {
		t.Errorf("%d packets are noted", n)
	}
}

// Who adopts the table goes on with programs that know fragments.
func TestFragmentsAfterAdoption(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	first := openTable(t, dir, 100)
	if err := first.Put(ifindex, plan.Treatment{Key: key4}, mine, plan.BestEffort, 0); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openTable(t, dir, 100)
	prog, err := second.loadFor(Egress, plan.Program{Header: 14})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	h := &harness{Table: second, t: t, ifindex: ifindex, prog: prog}
	if c := h.classes(split(t, frame(key4, 0, 4000), 3, 1448)...); !second.Adopted || !all(c, mine) {
		t.Errorf("adopted %t: %v", second.Adopted, c)
	}
}
