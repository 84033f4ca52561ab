package bpf

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func without(k packet.FlowKey, ports ...string) packet.FlowKey {
	for _, p := range ports {
		switch p {
		case "source":
			k.SrcPort = 0
		case "destination":
			k.DstPort = 0
		default:
			panic(p)
		}
	}
	return k
}

// RFC 2205 section 3.2: a session may be without a destination port, and a sender
// without a source port; then the reservation is for whatever ports there are. What
// is named more exactly comes first.
func TestZeroPortsRFC2205Section3_2(t *testing.T) {
	const bySource, byNone = plan.ClassID(0x1_0030), plan.ClassID(0x1_0040)
	for _, whole := range []packet.FlowKey{key4, key6} {
		for _, proto := range []uint8{unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE} {
			h := newHarness(t)
			whole.Proto = proto
			other, third := whole, whole
			other.SrcPort++
			third.DstPort++
			want := func(when string, k packet.FlowKey, class plan.ClassID) {
				t.Helper()
				if r := h.send(frame(k, 0, 120), 0); r.priority != uint32(class) {
					t.Errorf("%s: %s has priority %#x, want %#x", when, k, r.priority, uint32(class))
				}
			}
			any, none := without(whole, "source"), without(whole, "source", "destination")
			want("nothing", whole, 0)
			h.put(plan.Treatment{Key: any}, bySource)
			want("any source port", whole, bySource)
			want("any source port", other, bySource)
			want("any source port", third, 0)
			h.put(plan.Treatment{Key: none}, byNone)
			want("any ports", other, bySource)
			want("any ports", third, byNone)
			h.put(plan.Treatment{Key: whole}, mine)
			want("all three", whole, mine)
			want("all three", other, bySource)
			want("the other way", whole.Reverse(), 0)
			for _, k := range []packet.FlowKey{whole, any} {
				if err := h.Delete(h.ifindex, k); err != nil {
					t.Fatal(err)
				}
			}
			want("any ports, alone", whole, byNone)
			if err := h.Delete(h.ifindex, none); err != nil {
				t.Fatal(err)
			}
			want("gone", whole, 0)
			if h.rows != [kinds]int{} {
				t.Errorf("rows %v", h.rows)
			}
		}
	}
}

// A row that names no ports is also for later fragments whose first one did not pass
// here; a row that has one is for those whose first one did.
func TestLaterFragmentWithoutPorts(t *testing.T) {
	h := newHarness(t)
	b := frame(key4, 0, 120)
	b[14+7] = 10
	h.put(plan.Treatment{Key: without(key4, "source")}, mine)
	if r := h.send(b, 0); r.priority != 0 {
		t.Error("a fragment was taken for a flow's that has a port")
	}
	h.put(plan.Treatment{Key: without(key4, "source", "destination")}, mine+1)
	if r := h.send(b, 0); r.priority != uint32(mine+1) {
		t.Error("a fragment between the hosts was missed")
	}
	first := frame(key4, 0, 100)
	first[14+6] = 0x20
	if r := h.send(first, 0); r.priority != uint32(mine) {
		t.Error("a first fragment was missed")
	}
	if r := h.send(b, 0); r.priority != uint32(mine) {
		t.Error("a later fragment was not taken for what its first one was")
	}
}

// RFC 2205 Appendix A.9: a sender may be named by its IPv6 flow label.
func TestFlowLabelRFC2205AppendixA9(t *testing.T) {
	h := newHarness(t)
	const label = 0xabcde
	labelled := func(k packet.FlowKey, label uint32) []byte {
		b := frame(k, 0, 120)
		binary.BigEndian.PutUint32(b[14:], 6<<28|label)
		return b
	}
	sender := without(key6, "source")
	sender.Label = label
	h.put(plan.Treatment{Key: sender}, mine)
	elsewhere := key6
	elsewhere.DstPort++
	stranger := packet.MakeKey(key6.Proto, netip.MustParseAddrPort("[fd00:1::3]:4000"), key6.DstAddrPort())
	for name, c := range map[string]struct {
		frame []byte
		want  plan.ClassID
	}{
		"the sender":                {labelled(key6, label), mine},
		"another label":             {labelled(key6, label+1), 0},
		"no label":                  {labelled(key6, 0), 0},
		"another session":           {labelled(elsewhere, label), 0},
		"another's label":           {labelled(stranger, label), 0},
		"bits of the traffic class": {labelled(key6, label|3<<20), mine},
	} {
		if r := h.send(c.frame, 0); r.priority != uint32(c.want) {
			t.Errorf("%s: priority %#x, want %#x", name, r.priority, uint32(c.want))
		}
	}
	// A session without a port.
	if err := h.Delete(h.ifindex, sender); err != nil {
		t.Fatal(err)
	}
	h.put(plan.Treatment{Key: without(sender, "destination")}, mine)
	if r := h.send(labelled(elsewhere, label), 0); r.priority != uint32(mine) {
		t.Error("a session without a port missed its sender")
	}
	var got []Entry
	if err := h.Each(func(e Entry) { got = append(got, e) }); err != nil || len(got) != 1 || got[0].Treatment.Key != without(sender, "destination") {
		t.Errorf("read back %+v, %v", got, err)
	}
}

// Who adopts a table knows what rows it has.
func TestPartialRowsAreAdopted(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	first := openTable(t, dir, 100)
	for _, k := range []packet.FlowKey{key4, without(key4, "source"), without(key6, "source", "destination")} {
		if err := first.Put(ifindex, plan.Treatment{Key: k}, mine, plan.BestEffort, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openTable(t, dir, 100)
	if !second.Adopted || second.rows != first.rows || second.rows[kindSport] != 1 || second.rows[kindPorts] != 1 {
		t.Errorf("adopted %t: rows %v, were %v", second.Adopted, second.rows, first.rows)
	}
}
