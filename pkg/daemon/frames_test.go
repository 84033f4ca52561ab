package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/inject"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// learned are frames as a bridge has seen them.
type learned map[packet.FlowKey]packet.Frame

func (l learned) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	got, ok := l[*k]
	*f = got
	return ok
}

var _ inject.Frames = learned(nil)

const imagingSrc, imagingDst = "10.1.0.2:4000", "10.2.0.2:104"

func imaging(t *testing.T) packet.FlowKey {
	t.Helper()
	return tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN).Key()
}

// On a bridge a connection is cheated only if packets of our own could be sent to
// its ends, and one that is not says why.
func TestConnectionWithoutFramesIsNotCheated(t *testing.T) {
	key := imaging(t)
	for name, tt := range map[string]struct {
		frames learned
		why    error
	}{
		"nothing was seen":    {learned{}, errUnseen},
		"its own":             {learned{key: {}}, nil},
		"its other direction": {learned{key.Reverse(): {}}, nil},
		"of its addresses":    {learned{key.PairKey(): {}}, nil},
		"of other addresses":  {learned{packet.FlowKey{Src: key.Src}: {}}, errUnseen},
		"in a VLAN":           {learned{key: {NTags: 1, Tags: [packet.MaxTags]packet.Tag{{TPID: 0x8100, TCI: 7}}}}, nil},
		"of a provider":       {learned{key: {NTags: 1, Tags: [packet.MaxTags]packet.Tag{{TPID: 0x88a8, TCI: 7}}}}, errTags},
	} {
		table := testTable(t)
		table.frames = frames{learned: tt.frames}
		d := table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), lan, wan)
		f, _, _ := table.get(key)
		if (d.shard >= 0) != (tt.why == nil) || len(d.ask) != 1 {
			t.Errorf("%s: %+v", name, d)
		}
		if tt.why != nil && !strings.HasSuffix(f.text(), "; not cheated: "+tt.why.Error()) || tt.why == nil && strings.Contains(f.text(), "not cheated") {
			t.Errorf("%s: %q", name, f.text())
		}
	}
}

// unlocked are frames that are asked for while nobody holds the table.
type unlocked struct {
	learned
	t     *testing.T
	table *flowTable
	asked int
}

func (u *unlocked) Frame(k *packet.FlowKey, f *packet.Frame) bool {
	u.asked++
	if !u.table.mu.TryLock() {
		u.t.Error("the table is held while the kernel is asked")
		return false
	}
	u.table.mu.Unlock()
	return u.learned.Frame(k, f)
}

// What a bridge knows of frames is asked without the table's lock, and only about
// connections that may be engaged.
func TestFramesAreAskedForWithoutTheTable(t *testing.T) {
	for _, known := range []learned{{}, {imaging(t): {}}} {
		table := testTable(t)
		u := &unlocked{learned: known, t: t, table: table}
		table.frames = frames{learned: u}
		table.first(time.Now(), udpPacket(t, "10.1.0.1:9000", "10.2.0.2:5004"), lan, wan)
		table.first(time.Now(), tcpPacket(t, imagingSrc, "10.2.0.2:80", packet.FlagSYN), lan, wan)
		table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagFIN), lan, wan)
		if u.asked != 0 {
			t.Errorf("asked %d times about what is not engaged", u.asked)
		}
		table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), lan, wan)
		if u.asked == 0 {
			t.Error("not asked")
		}
	}
}

// A packet of a known connection by another port of the bridge: it is not cheated any
// more, whatever it says. On a router routes may change.
func TestConnectionByAnotherPortIsNotCheated(t *testing.T) {
	key := imaging(t)
	for _, bridge := range []bool{true, false} {
		table := testTable(t)
		if bridge {
			table.frames = frames{learned: learned{key: {}}}
		}
		// Its handshake was not seen: its packets come here.
		table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagACK), lan, wan)
		d := table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), wan, lan)
		f, _, _ := table.get(key)
		if cheated := d.shard >= 0; cheated == bridge {
			t.Errorf("bridge %v: %+v", bridge, d)
		}
		if said := strings.Contains(f.text(), tcpcheat.ErrTwoPorts.Error()); said != bridge {
			t.Errorf("bridge %v: %q", bridge, f.text())
		}
		if !bridge {
			continue
		}
		// And again by its own ports.
		if d = table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), lan, wan); d.shard < 0 {
			t.Errorf("by its own ports: %+v", d)
		}
	}
}

func TestMoving(t *testing.T) {
	for name, tt := range map[string]struct {
		moves []uint32
		want  bool // at the last look
	}{
		"never":                             {[]uint32{0, 0, 0}, false},
		"long ago":                          {[]uint32{1000, 1000}, false},
		"a gateway that fails over":         {[]uint32{0, 1, 1, 1}, false},
		"and back":                          {[]uint32{0, 1, 1, 2, 2}, false},
		"to another port, each way":         {[]uint32{0, 2}, false},
		"again and again":                   {[]uint32{0, 1, 2}, true},
		"with every packet":                 {[]uint32{0, 20}, true},
		"a connection of the same name":     {[]uint32{50, 0, 1}, false},
		"the kernel forgot, and it goes on": {[]uint32{50, 1, 9}, true},
	} {
		var m moving
		got := false
		for i, n := range tt.moves {
			if got = m.look(n); got && i < len(tt.moves)-1 {
				t.Errorf("%s: at look %d", name, i)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A connection whose frames keep moving is given back by its engine.
func TestMovingConnectionIsLeftAlone(t *testing.T) {
	key := imaging(t)
	seen := learned{key: {Moves: 3}, key.Reverse(): {}}
	d := &Daemon{flows: testTable(t)}
	h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}}
	d.cheat = &cheatWorkers{handlers: []*cheatHandler{h, h}}
	d.flows.frames = frames{learned: seen}
	d.flows.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), lan, wan)
	if err := h.engine.Watch(time.Now(), key); err != nil {
		t.Fatal(err)
	}
	look := func() (reason string) {
		d.lookForMoving()
		h.open(time.Now())
		s, _ := h.engine.Flow(key)
		return s.Reason
	}
	for range 3 {
		if why := look(); why != "" {
			t.Fatalf("its frames do not move: %q", why)
		}
	}
	seen[key] = packet.Frame{Moves: 30}
	if why := look(); why != errMoving.Error() {
		t.Errorf("its frames move: %q", why)
	}
}

// It is not begun to cheat a connection whose frames have been forgotten meanwhile;
// but one that is cheated goes on.
func TestStartNeedsFrames(t *testing.T) {
	key := imaging(t)
	seen := learned{}
	h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}}
	w := &cheatWorkers{handlers: []*cheatHandler{h}, frames: frames{learned: seen}, failed: func(_ packet.FlowKey, err error) { t.Error(err) }}
	p := tcpcheat.Params{Mode: tcpcheat.Reliable, Rate: 1e6, Bucket: 64e3}
	if err := h.engine.Watch(time.Now(), key); err != nil {
		t.Fatal(err)
	}
	w.start(0, key, p)
	h.open(time.Now())
	if s, _ := h.engine.Flow(key); s.State != tcpcheat.LeftAlone || s.Reason != errUnseen.Error() {
		t.Errorf("%+v", s)
	}
	if err := h.engine.Start(time.Now(), key, p); !errors.Is(err, errUnseen) {
		t.Error(err)
	}
}

// A port is known by its name: it keeps its number and its connections their rows
// when it comes back with another index, and whatever the order of the file is.
func TestPortsKeepTheirNumbers(t *testing.T) {
	of := func(names []string, index ...int) *links {
		var list []link
		for i, n := range names {
			list = append(list, link{Link: route.Link{Name: n, Index: index[i]}, cfg: config.Interface{Name: n}})
		}
		return newLinks(list)
	}
	old, now := of([]string{"wan0", "lan0"}, wan, lan), of([]string{"lan0", "wan0"}, lan, 7)
	if old.port(lan) != 1 || old.port(wan) != 2 || now.port(lan) != 1 || now.port(7) != 2 || now.port(wan) != 0 {
		t.Error("a port has changed its number")
	}
	if got := of([]string{"a", "b", "c"}, 3, 9, 5).ports(); !cmp.Equal(got, []int{3, 9, 5}) {
		t.Errorf("ports: %v", got)
	}
	guest := of([]string{"a", "b"}, 3, 9)
	guest.unlisted = []int{5}
	if all, listed := guest.allPorts(), guest.ports(); !cmp.Equal(all, []int{3, 9, 5}) || !cmp.Equal(listed, []int{3, 9}) || guest.same(of([]string{"a", "b"}, 3, 9)) {
		t.Errorf("with one that is not listed: %v, of these listed %v", all, listed)
	}
	table := testTable(t)
	key := imaging(t)
	table.first(time.Now(), tcpPacket(t, imagingSrc, imagingDst, packet.FlagSYN), lan, wan)
	table.renumber(old, now)
	there, _, _ := table.get(key)
	back, _, _ := table.get(key.Reverse())
	if there.in != lan || there.out != 7 || back.in != 7 || back.out != lan {
		t.Errorf("in %d and out %d, back in %d and out %d", there.in, there.out, back.in, back.out)
	}
}

func TestFramesAreLearnedOnABridge(t *testing.T) {
	c := &config.Config{Limits: config.Limits{Flows: 1000}}
	if frameRoom(c) != 0 {
		t.Error("a router learns frames")
	}
	c.Mode = config.ModeBridge
	if n := frameRoom(c); n != leastFrames {
		t.Error(n)
	}
	if c.Limits.Flows = 100_000; frameRoom(c) != 400_000 {
		t.Error(frameRoom(c))
	}
	if wanted(c, newPolicies(c), 1, time.Now()).Frames != 400_000 {
		t.Error("the kernel is not told")
	}
	if c.Limits.Flows = 8_000_000; frameRoom(c) != mostFrames {
		t.Error(frameRoom(c))
	}
}
