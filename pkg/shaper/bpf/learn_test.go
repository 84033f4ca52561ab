package bpf

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

var (
	tcp4 = packet.MakeKey(unix.IPPROTO_TCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.1.0.3:80"))
	tcp6 = packet.MakeKey(unix.IPPROTO_TCP, netip.MustParseAddrPort("[fd00:1::2]:4000"), netip.MustParseAddrPort("[fd00:1::3]:80"))
)

// The Ethernet addresses that frame writes.
var (
	frameDst = [6]byte{2, 0, 0, 0, 0, 2}
	frameSrc = [6]byte{2, 0, 0, 0, 0, 1}
)

// tagged puts VLAN tags into a frame, the outer one first.
func tagged(b []byte, tags ...packet.Tag) []byte {
	out := append([]byte{}, b[:12]...)
	for _, t := range tags {
		out = binary.BigEndian.AppendUint16(out, t.TPID)
		out = binary.BigEndian.AppendUint16(out, t.TCI)
	}
	return append(out, b[12:]...)
}

func dot1q(tci uint16) packet.Tag  { return packet.Tag{TPID: unix.ETH_P_8021Q, TCI: tci} }
func dot1ad(tci uint16) packet.Tag { return packet.Tag{TPID: unix.ETH_P_8021AD, TCI: tci} }

// learner is a table whose program for learning is ready for test runs.
type learner struct {
	*Frames
	t    testing.TB
	prog *ebpf.Program
}

func newLearner(t testing.TB, frames int) *learner {
	newNamespace(t)
	dir := pinDir(t)
	table, err := Open(dir, 1000, frames)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	})
	prog, err := table.loadFor(Learn, plan.Program{Header: 14})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	l := &learner{Frames: NewFrames(), t: t, prog: prog}
	l.Use(table)
	return l
}

// arrive has a frame come in by a port. It must come through as it is.
func (l *learner) arrive(port int, b []byte) {
	l.t.Helper()
	ctx := skb{Ifindex: uint32(port)}
	opts := ebpf.RunOptions{Data: b, DataOut: make([]byte, len(b)+256), Context: ctx, ContextOut: &ctx}
	ret, err := l.prog.Run(&opts)
	if err != nil {
		l.t.Fatal(err)
	}
	if int32(ret) != next || string(opts.DataOut) != string(b) {
		l.t.Errorf("verdict %d, or the frame changed", int32(ret))
	}
}

// known is what is learned; the zero Frame if nothing is.
func (l *learner) known(k packet.FlowKey) packet.Frame {
	var f packet.Frame
	if !l.Frame(&k, &f) {
		return packet.Frame{}
	}
	return f
}

// seen is when a frame was last noted.
func (l *learner) seen(k packet.FlowKey) time.Duration {
	l.t.Helper()
	x := <-l.idle
	defer func() { l.idle <- x }()
	key, v := frameKey(&k), treatmentFrame{}
	if err := x.frames.Lookup(raw(&key), raw(&v)); err != nil {
		l.t.Fatal(err)
	}
	return time.Duration(v.Seen)
}

func monotonic(t testing.TB) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

func TestFramesAreLearned(t *testing.T) {
	l := newLearner(t, 1000)
	for name, tags := range map[string][]packet.Tag{
		"no tag": nil, "one": {dot1q(7)}, "one with priority and DEI": {dot1q(5<<13 | 1<<12 | 4094)},
		"QinQ": {dot1ad(3<<13 | 100), dot1q(7)}, "two of 802.1Q": {dot1q(100), dot1q(7)},
	} {
		for _, k := range []packet.FlowKey{tcp4, tcp6, key4, key6} {
			k.Src[15], k.Dst[15] = uint8(len(name)), uint8(len(name)+1)
			want := packet.Frame{Port: 1, Dst: frameDst, Src: frameSrc, NTags: len(tags)}
			copy(want.Tags[:], tags)
			l.arrive(1, tagged(frame(k, 0, 100), tags...))
			if got := l.known(k.PairKey()); got != want {
				t.Errorf("%s: %s: the pair: %+v, want %+v", name, k, got, want)
			}
			if k.Proto != unix.IPPROTO_TCP { // only TCP is told apart by ports
				want = packet.Frame{}
			}
			if got := l.known(k); got != want {
				t.Errorf("%s: %s: %+v, want %+v", name, k, got, want)
			}
			if got := l.known(k.Reverse()); got != (packet.Frame{}) {
				t.Errorf("%s: the other direction of %s is known: %+v", name, k, got)
			}
		}
	}
}

// What is there already is written again after a second, not with each packet.
func TestFramesAreDated(t *testing.T) {
	l := newLearner(t, 1000)
	before := monotonic(t)
	l.arrive(1, frame(tcp4, 0, 100))
	// The clock of the program is a tick behind, at the slowest one every 10 ms.
	first := l.seen(tcp4)
	if first < before-10*time.Millisecond || first > monotonic(t) {
		t.Fatalf("seen at %s, and it was %s", first, before)
	}
	now := first
	for end := time.Now().Add(10 * time.Second); now == first && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		l.arrive(1, frame(tcp4, 0, 100))
		now = l.seen(tcp4)
	}
	if pair := l.seen(tcp4.PairKey()); now-first < time.Second || pair != now {
		t.Errorf("written again after %s; the pair at %s and the connection at %s", now-first, pair, now)
	}
	if f, p := l.known(tcp4), l.known(tcp4.PairKey()); f.Moves != 0 || p.Moves != 0 {
		t.Errorf("moved %d and %d times", f.Moves, p.Moves)
	}
	// So is the priority: it is no move.
	l.arrive(1, tagged(frame(key4, 0, 100), dot1ad(100), dot1q(7)))
	want := l.known(key4.PairKey())
	want.Tags = [2]packet.Tag{dot1ad(1<<13 | 100), dot1q(5<<13 | 7)}
	var got packet.Frame
	for end := time.Now().Add(10 * time.Second); got != want && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		l.arrive(1, tagged(frame(key4, 0, 100), want.Tags[:]...))
		got = l.known(key4.PairKey())
	}
	if got != want {
		t.Errorf("another priority: %+v, want %+v", got, want)
	}
}

// What makes a flow one that comes by two ways is counted, and nothing else.
func TestMovesAreCounted(t *testing.T) {
	l := newLearner(t, 1000)
	other := func(at int) []byte {
		b := frame(tcp4, 0, 100)
		b[at] ^= 0x40
		return b
	}
	for _, step := range []struct {
		name  string
		port  int
		frame []byte
		moves uint32
	}{
		{"the first one", 1, frame(tcp4, 0, 100), 0},
		{"the same again", 1, frame(tcp4, 46<<2, 1000), 0},
		{"another port", 2, frame(tcp4, 0, 100), 1},
		{"and back", 1, frame(tcp4, 0, 100), 2},
		{"another destination", 1, other(5), 3},
		{"and back", 1, frame(tcp4, 0, 100), 4},
		{"another source", 1, other(11), 4},
		{"and back", 1, frame(tcp4, 0, 100), 4},
		{"a tag", 1, tagged(frame(tcp4, 0, 100), dot1q(7)), 5},
		{"another priority", 1, tagged(frame(tcp4, 0, 100), dot1q(5<<13|7)), 5},
		{"DEI", 1, tagged(frame(tcp4, 0, 100), dot1q(1<<12|7)), 5},
		{"another VLAN", 1, tagged(frame(tcp4, 0, 100), dot1q(8)), 6},
		{"another kind of tag", 1, tagged(frame(tcp4, 0, 100), dot1ad(8)), 7},
		{"two", 1, tagged(frame(tcp4, 0, 100), dot1ad(8), dot1q(8)), 8},
		{"another inner VLAN", 1, tagged(frame(tcp4, 0, 100), dot1ad(8), dot1q(9)), 9},
	} {
		l.arrive(step.port, step.frame)
		for _, k := range []packet.FlowKey{tcp4, tcp4.PairKey()} {
			if f := l.known(k); f.Moves != step.moves || f.Port != step.port || f.Src != [6]byte(step.frame[6:12]) {
				t.Errorf("%s: %s: %+v, want %d moves", step.name, k, f, step.moves)
			}
		}
	}
}

// What has no ports is of its pair alone: a later fragment, and one of TCP too.
func TestFramesOfFragments(t *testing.T) {
	l := newLearner(t, 1000)
	for _, k := range []packet.FlowKey{tcp4, tcp6} {
		parts := split(t, frame(k, 0, 200), 77, 64)
		l.arrive(3, tagged(parts[1], dot1q(7)))
		if l.known(k) != (packet.Frame{}) || l.known(k.PairKey()).Port != 3 {
			t.Errorf("%s: after a later fragment: %+v, the pair %+v", k, l.known(k), l.known(k.PairKey()))
		}
		l.arrive(3, tagged(parts[0], dot1q(7)))
		if f := l.known(k); f.Port != 3 || f.NTags != 1 {
			t.Errorf("%s: after the first fragment: %+v", k, f)
		}
	}
}

// Nothing is learned of what the box can never have to send, or that says nothing of
// who is where.
func TestFramesThatAreNotLearned(t *testing.T) {
	l := newLearner(t, 1000)
	count := func() int {
		n := 0
		var key treatmentFrameKey
		var value treatmentFrame
		x := <-l.idle
		for it := x.frames.Iterate(); it.Next(raw(&key), raw(&value)); {
			n++
		}
		l.idle <- x
		return n
	}
	nobody4, nobody6 := key4, key6
	nobody4.Src = netip.MustParseAddr("0.0.0.0").As16()
	nobody6.Src = [16]byte{}
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], unix.ETH_P_ARP)
	bpdu := make([]byte, 60)
	copy(bpdu, []byte{1, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 38, 0x42, 0x42, 3})
	for name, b := range map[string][]byte{
		"ARP": arp, "BPDU": bpdu, "IPv4 without an address": frame(nobody4, 0, 100), "IPv6 without an address": frame(nobody6, 0, 100),
		"three tags": tagged(frame(tcp4, 0, 100), dot1ad(1), dot1ad(2), dot1q(3)), "cut off": frame(tcp4, 0, 100)[:14+22],
		"no IP header": append(append([]byte{}, frame(tcp4, 0, 100)[:14]...), make([]byte, 46)...),
	} {
		if l.arrive(1, b); count() != 0 {
			t.Errorf("%s: learned", name)
		}
	}
	if l.arrive(1, frame(tcp4, 0, 100)); count() != 2 {
		t.Errorf("%d entries, want a connection and a pair", count())
	}
}

// The table is no larger than it was made, whoever comes by.
func TestFramesAreBounded(t *testing.T) {
	const room = 512
	l := newLearner(t, room)
	k := tcp4
	for i := range 5 * room {
		binary.BigEndian.PutUint16(k.Src[13:], uint16(i))
		l.arrive(1, frame(k, 0, 60))
	}
	n := 0
	for i := range 5 * room {
		binary.BigEndian.PutUint16(k.Src[13:], uint16(i))
		for _, one := range []packet.FlowKey{k, k.PairKey()} {
			if l.known(one).Port != 0 {
				n++
			}
		}
	}
	if n > room || n < room/4 || l.known(k).Port == 0 {
		t.Errorf("%d of %d are known; the last one: %+v", n, room, l.known(k))
	}
}

// The kernel moves the outermost tag out of the frame before programs see it.
func TestFramesWithTagsOfTheDriver(t *testing.T) {
	ifindex := newNamespace(t)
	table, err := Open(pinDir(t), 10, 1000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := table.Attach(Learn, ifindex, plan.Program{Attached: true, Current: true, Header: 14}); err != nil {
		t.Fatal(err)
	}
	l := &learner{Frames: NewFrames(), t: t}
	l.Use(table)
	near := openWire(t, "qp1")
	for i, tags := range [][]packet.Tag{nil, {dot1q(5<<13 | 1<<12 | 7)}, {dot1ad(100)}, {dot1ad(1<<13 | 100), dot1q(7)}, {dot1q(100), dot1q(7)}} {
		k := tcp6
		k.Src[15] = uint8(100 + i)
		want := packet.Frame{Port: ifindex, Dst: frameDst, Src: frameSrc, NTags: len(tags)}
		copy(want.Tags[:], tags)
		near.send(tagged(frame(k, 0, 100), tags...))
		got := l.known(k)
		for end := time.Now().Add(10 * time.Second); got.Port == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = l.known(k)
		}
		if got != want {
			t.Errorf("%v: %+v, want %+v", tags, got, want)
		}
	}
	k := tcp6
	k.Src[15] = 200
	near.send(tagged(frame(k, 0, 100), dot1ad(1), dot1q(2), dot1q(3)))
	k.Src[15] = 201
	near.send(frame(k, 0, 100))
	for end := time.Now().Add(10 * time.Second); l.known(k).Port == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if k.Src[15] = 200; l.known(k).Port != 0 {
		t.Error("three tags were learned")
	}
}

// Whatever is between the tags and the ports: the connection is the one that user
// space sees, and so is the pair.
func TestFramesOfTheSameFlowAsUserSpace(t *testing.T) {
	l := newLearner(t, 10_000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	whole := 0
	for i := range 1000 {
		k := []packet.FlowKey{tcp4, tcp6}[rng.IntN(2)]
		binary.BigEndian.PutUint16(k.Src[13:], uint16(i))
		b := extended(rng, k)
		v, err := packet.Parse(b[14:])
		if err != nil {
			t.Fatal(err)
		}
		ways := slices.Sorted(maps.Keys(tagging))
		tags := tagging[ways[rng.IntN(len(ways))]]
		l.arrive(2, tagged(b, tags...))
		want := packet.Frame{Port: 2, Dst: frameDst, Src: frameSrc, NTags: len(tags)}
		copy(want.Tags[:], tags)
		if got := l.known(k.PairKey()); got != want {
			t.Fatalf("the pair of %s: %+v, want %+v\n% x", k, got, want, b)
		}
		if v.Key() == k { // of a fragment without ports
			whole++
		} else {
			want = packet.Frame{}
		}
		if got := l.known(k); got != want {
			t.Fatalf("%s: %+v, want %+v\n% x", k, got, want, b)
		}
	}
	if whole < 250 || whole == 1000 {
		t.Errorf("%d of 1000 packets have ports", whole)
	}
}
