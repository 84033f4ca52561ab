package bpf

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const (
	next = -1 // TCX_NEXT
	drop = 2  // TCX_DROP
	mine = plan.FirstPooled
)

func parsed(t *testing.T, r result) packet.View {
	t.Helper()
	v, err := packet.Parse(r.frame[14:])
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMarksAndClasses(t *testing.T) {
	h := newHarness(t)
	for _, k := range []packet.FlowKey{key4, key6} {
		tr := plan.Treatment{Key: k, DSCP: 26, Mark: true}
		h.put(tr, mine)
		for ecn := range uint8(4) {
			in := frame(k, 46<<2|ecn, 200)
			r := h.send(in, 0)
			v := parsed(t, r)
			if r.verdict != next || r.priority != uint32(mine) {
				t.Errorf("%s: verdict %d, priority %#x", k, r.verdict, r.priority)
			}
			if v.DSCP() != 26 || v.ECN() != ecn || !v.IPv4ChecksumOK() {
				t.Errorf("%s: DSCP %d, ECN %d (want %d), checksum right: %t", k, v.DSCP(), v.ECN(), ecn, v.IPv4ChecksumOK())
			}
			want, err := packet.Parse(bytes.Clone(in[14:]))
			if err != nil {
				t.Fatal(err)
			}
			want.SetDSCP(26)
			if d := cmp.Diff(want.Bytes(), v.Bytes()); d != "" {
				t.Errorf("%s: another field changed:\n%s", k, d)
			}
		}
		if r := h.send(frame(k.Reverse(), 0, 200), 0); r.priority != 0 {
			t.Errorf("the other direction of %s was treated", k)
		}
		other := k
		other.DstPort++
		if r := h.send(frame(other, 0, 200), 0); r.priority != 0 {
			t.Errorf("another port than that of %s was treated", k)
		}
		c, err := h.Counters(h.ifindex, k)
		if err != nil {
			t.Fatal(err)
		}
		want := Counters{Packets: 4, Bytes: 800, Conform: 4, ConformBytes: 800}
		if c != want {
			t.Errorf("counted %+v, want %+v", c, want)
		}
	}
}

func TestExcess(t *testing.T) {
	h := newHarness(t)
	for _, dropIt := range []bool{false, true} {
		tr := plan.Treatment{Key: key4, Rate: 1, Bucket: 500, Peak: math.Inf(1), DSCP: 46, Mark: true, Police: true, Drop: dropIt}
		h.put(tr, mine)
		h.send(frame(key4, 0, 400), 0)
		r := h.send(frame(key4, 46<<2|1, 400), 0)
		if dropIt {
			if r.verdict != drop {
				t.Errorf("verdict %d, want a drop", r.verdict)
			}
		} else if v := parsed(t, r); r.priority != uint32(plan.BestEffort) || v.DSCP() != 0 || v.ECN() != 1 || !v.IPv4ChecksumOK() {
			t.Errorf("excess has priority %#x, DSCP %d, ECN %d", r.priority, v.DSCP(), v.ECN())
		}
		if err := h.Delete(h.ifindex, key4); err != nil {
			t.Fatal(err)
		}
	}
}

// A byte that was acknowledged in the receiver's name may not be dropped.
func TestCheatedIsNotPoliced(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key4, Rate: 1, Bucket: 100, Police: true, Drop: true, Cheated: true}, mine)
	for range 10 {
		if r := h.send(frame(key4, 0, 1000), 0); r.verdict != next || r.priority != uint32(mine) {
			t.Fatalf("verdict %d, priority %#x", r.verdict, r.priority)
		}
	}
}

func TestControlTraffic(t *testing.T) {
	h := newHarness(t)
	rsvp, nd := key4, key6
	rsvp.Proto, rsvp.SrcPort, rsvp.DstPort = 46, 0, 0
	nd.Proto = unix.IPPROTO_ICMPV6
	ndp := func(typ, hops uint8) []byte {
		b := frame(nd, 0, 72)
		b[14+7], b[14+40] = hops, typ
		return b
	}
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], unix.ETH_P_ARP)
	for name, c := range map[string]struct {
		frame []byte
		want  plan.ClassID
	}{
		"RSVP":                        {frame(rsvp, 0, 100), plan.Control},
		"ARP":                         {arp, plan.Control},
		"neighbour solicitation":      {ndp(135, 255), plan.Control},
		"forwarded ND is not from ND": {ndp(135, 254), 0},
		"echo request":                {ndp(128, 255), 0},
		"CS6 of somebody else":        {frame(key4, 48<<2, 100), 0},
	} {
		if r := h.send(c.frame, 0); r.priority != uint32(c.want) {
			t.Errorf("%s: priority %#x, want %#x", name, r.priority, uint32(c.want))
		}
	}
}

// RFC 8200 section 4.1: the transport header is behind the extension headers.
func TestIPv6ExtensionHeaders(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key6}, mine)
	insert := func(ext ...byte) []byte {
		b := frame(key6, 0, 100)
		out := append(bytes.Clone(b[:54]), ext...)
		out = append(out, b[54:]...)
		out[14+6] = 0
		out[54] = 60 // hop-by-hop first, destination options next
		binary.BigEndian.PutUint16(out[18:], uint16(len(out)-54))
		return out
	}
	ext := make([]byte, 8+16)
	ext[8], ext[9] = unix.IPPROTO_UDP, 1
	if r := h.send(insert(ext...), 0); r.priority != uint32(mine) {
		t.Error("a packet with extension headers was missed")
	}
	later := make([]byte, 16)
	later[0], later[8], later[10] = 44, unix.IPPROTO_UDP, 1 // fragment at offset 32
	b := insert(later...)
	b[54] = 44
	if r := h.send(b, 0); r.priority != 0 {
		t.Error("a fragment without ports was treated")
	}
}

func TestChangeKeepsCountersAndLevels(t *testing.T) {
	h := newHarness(t)
	tr := plan.Treatment{Key: key4, Rate: 1, Bucket: 1000, Police: true}
	h.put(tr, mine)
	h.send(frame(key4, 0, 600), 0)
	tr.DSCP, tr.Mark, tr.Bucket = 10, true, 2000
	h.put(tr, mine+1)
	if r := h.send(frame(key4, 0, 600), 0); r.priority != uint32(plan.BestEffort) {
		t.Errorf("the bucket was filled by a change: priority %#x", r.priority)
	}
	c, err := h.Counters(h.ifindex, key4)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Counters{Packets: 2, Bytes: 1200, Conform: 1, ConformBytes: 600, Exceed: 1, ExceedBytes: 600}); c != want {
		t.Errorf("counted %+v, want %+v", c, want)
	}
}

func TestLeaseEnds(t *testing.T) {
	h := newHarness(t)
	h.put(plan.Treatment{Key: key4}, mine)
	if err := h.Renew(time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Microsecond)
	if r := h.send(frame(key4, 0, 100), 0); r.priority != 0 {
		t.Error("a treatment outlived its lease")
	}
	if err := h.Renew(time.Hour); err != nil {
		t.Fatal(err)
	}
	if r := h.send(frame(key4, 0, 100), 0); r.priority != uint32(mine) {
		t.Error("a renewed lease gives no treatment")
	}
}

func TestGarbageIsLeftAlone(t *testing.T) {
	h := newHarness(t)
	whole4, whole6 := frame(key4, 0, 200), frame(key6, 0, 200)
	for n := range 40 { // the test run itself wants a whole IP header
		for _, b := range [][]byte{whole4[:34+n], whole6[:54+n]} {
			if n >= 4 {
				b = bytes.Clone(b) // the ports are there: another version of IP
				b[14] = 0x13
			}
			if r := h.send(b, 0); r.verdict != next || r.priority != 0 || !bytes.Equal(r.frame, b) {
				t.Errorf("%d bytes behind the header: verdict %d, priority %#x", n, r.verdict, r.priority)
			}
		}
	}
}
