package route

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/mroute"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

var (
	group  = netip.MustParseAddr("239.1.2.3")
	source = netip.MustParseAddr("10.1.0.2")
	any4   = netip.IPv4Unspecified()
)

func mfc(group, source netip.Addr, in int, out ...int) entry {
	e := entry{Group: group, Source: source, Table: unix.RT_TABLE_DEFAULT, In: in}
	for _, i := range out {
		e.Out = append(e.Out, Oif{Index: i, Threshold: 1})
	}
	return e
}

func indexes(list []Oif) (out []int) {
	for _, o := range list {
		out = append(out, o.Index)
	}
	return out
}

// RFC 2205 section 3.9: a group's packets are expected by one interface, and go
// by those that have listeners, never back. Entries for any source and for any
// group are looked up as ip_mr_forward does.
func TestRoutesRFC2205Section3_9(t *testing.T) {
	other := netip.MustParseAddr("10.7.0.7")
	for name, tt := range map[string]struct {
		cache  []entry
		source netip.Addr
		in     int
		want   []int
	}{
		"no entry":                     {nil, source, 1, nil},
		"from where it is expected":    {[]entry{mfc(group, source, 1, 2, 3)}, source, 1, []int{2, 3}},
		"from elsewhere":               {[]entry{mfc(group, source, 1, 2, 3)}, source, 2, nil},
		"from where it is not known":   {[]entry{mfc(group, source, 1, 2, 3)}, source, 0, []int{2, 3}},
		"nobody listens":               {[]entry{mfc(group, source, 1)}, source, 1, nil},
		"unresolved":                   {[]entry{mfc(group, source, 0)}, source, 1, nil},
		"unresolved, source not known": {[]entry{mfc(group, source, 0, 2)}, source, 0, nil},
		"another source":               {[]entry{mfc(group, source, 1, 2)}, other, 1, nil},
		"any source":                   {[]entry{mfc(group, any4, 1, 1, 2, 3)}, other, 1, []int{2, 3}},
		"any source, in not known":     {[]entry{mfc(group, any4, 1, 2, 3)}, other, 0, []int{2, 3}},
		"any source, not of the tree":  {[]entry{mfc(group, any4, 1, 2, 3)}, other, 1, nil},
		"any source, from a leaf":      {[]entry{mfc(group, any4, 1, 1, 2, 3)}, other, 2, nil},
		"the source's own comes first": {[]entry{mfc(group, any4, 1, 1, 2, 3), mfc(group, source, 1, 3)}, source, 1, []int{3}},
		"static tree, from its root":   {[]entry{mfc(group, any4, 1, 2, 3), mfc(any4, any4, 1, 1, 2, 3)}, other, 1, []int{2, 3}},
		"static tree, from a leaf":     {[]entry{mfc(group, any4, 1, 1, 2, 3), mfc(any4, any4, 1, 1, 2, 3)}, other, 2, []int{1, 3}},
		"tree alone, from a leaf":      {[]entry{mfc(any4, any4, 1, 1, 2)}, other, 2, []int{1}},
		"tree alone, from the root":    {[]entry{mfc(any4, any4, 1, 1, 2)}, other, 1, nil},
		"tree alone, from outside":     {[]entry{mfc(any4, any4, 1, 1, 2)}, other, 5, nil},
		"an entry of another table":    {[]entry{{Group: group, Source: source, Table: 7, In: 1, Out: []Oif{{Index: 2}}}}, source, 1, nil},
	} {
		m := newMulticast()
		m.replace(tt.cache)
		if got := indexes(m.Routes(group, tt.source, tt.in)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// What is read anew tells of what is different, and of nothing else.
func TestReplaceTellsDifferences(t *testing.T) {
	m, g := newMulticast(), func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{239, 0, 0, i}) }
	m.replace([]entry{mfc(g(1), source, 1, 2), mfc(g(2), source, 1, 2), mfc(g(3), source, 1, 2)})
	got := m.replace([]entry{mfc(g(1), source, 1, 2), mfc(g(2), source, 1, 2, 3), mfc(g(4), any4, 1, 2)})
	for i, want := range []bool{1: false, 2: true, 3: true, 4: true} {
		if i > 0 && slices.Contains(got, groups(g(byte(i)))) != want {
			t.Errorf("group %d: told %v, want %v (%v)", i, !want, want, got)
		}
	}
	if got := m.replace([]entry{mfc(any4, any4, 1, 2)}); !slices.Contains(got, netip.MustParsePrefix("224.0.0.0/4")) {
		t.Errorf("%v, want all groups", got)
	}
}

func TestCopyIsBounded(t *testing.T) {
	m := newMulticast()
	for i := range maxEntries + 3 {
		m.set(mfc(netip.AddrFrom4([4]byte{239, byte(i >> 16), byte(i >> 8), byte(i)}), source, 1, 2))
	}
	if len(m.entries) != maxEntries || m.Limited() != 3 {
		t.Errorf("%d entries, %d refused", len(m.entries), m.Limited())
	}
}

// The kernel's own cache, as a routing daemon fills it, changes it and leaves it.
func TestFollowMulticast(t *testing.T) {
	roottest.Need(t)
	for _, tt := range []struct {
		name          string
		v6            bool
		group, source string
	}{{"IPv4", false, "239.1.2.3", "10.1.0.2"}, {"IPv6", true, "ff3e::1:2", "fd00:1::2"}} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := netns.NewNamed(netns.NewGroup() + "mfc")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			})
			p := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
			if err := errors.Join(netns.Veth(netns.End{NS: n, Name: "in0", Addrs: p("10.1.0.1/24")}, netns.End{NS: n, Name: "out0", Addrs: p("10.2.0.1/24")}),
				netns.Veth(netns.End{NS: n, Name: "out1", Addrs: p("10.3.0.1/24")}, netns.End{NS: n, Name: "peer", Addrs: p("10.3.0.2/24")})); err != nil {
				t.Fatal(err)
			}
			r, err := mroute.New(n, tt.v6, 3, "in0", "out0", "out1")
			if err != nil {
				t.Fatal(err)
			}
			group, source := netip.MustParseAddr(tt.group), netip.MustParseAddr(tt.source)
			if err := r.Set(mroute.Route{Source: source, Group: group, In: "in0", Out: []string{"out0"}}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var (
				m       *Multicast
				changes <-chan []netip.Prefix
				index   = map[string]int{}
			)
			if err := n.Do(func() (err error) {
				for _, name := range []string{"in0", "out0", "out1"} {
					i, err := net.InterfaceByName(name)
					if err != nil {
						return err
					}
					index[name] = i.Index
				}
				m, changes, err = FollowMulticast(ctx)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if got := m.Routes(group, source, index["in0"]); len(got) != 1 || got[0].Index != index["out0"] || !tt.v6 && got[0].Threshold != 3 {
				t.Errorf("dumped: %+v, want by %d", got, index["out0"])
			}
			changed := func(what string, want ...int) {
				t.Helper()
				if list := next(t, changes); !slices.Contains(list, groups(group)) {
					t.Errorf("%s: told of %v", what, list)
				}
				if got := indexes(m.Routes(group, source, index["in0"])); !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			if err := r.Set(mroute.Route{Source: source, Group: group, In: "in0", Out: []string{"out0", "out1"}}); err != nil {
				t.Fatal(err)
			}
			changed("a join", index["out0"], index["out1"])
			if err := r.Set(mroute.Route{Source: source, Group: group, In: "out0", Out: []string{"out1"}}); err != nil {
				t.Fatal(err)
			}
			changed("a move")
			if err := r.Remove(mroute.Route{Source: source, Group: group, In: "out0"}); err != nil {
				t.Fatal(err)
			}
			changed("removed")
			if err := r.Set(mroute.Route{Source: source, Group: group, In: "in0", Out: []string{"out1"}}); err != nil {
				t.Fatal(err)
			}
			changed("again", index["out1"])
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			changed("the daemon's end")
			cancel()
			for end := time.After(5 * time.Second); ; {
				select {
				case _, open := <-changes:
					if !open {
						return
					}
				case <-end:
					t.Fatal("the channel is not closed")
				}
			}
		})
	}
}

// encode writes an entry as the kernel does.
func encode(e entry) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[4] = familyIPMR, byte(e.Table)
	if !e.Group.Is4() {
		b[0] = familyIP6MR
	}
	attr := func(typ uint16, v []byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(v)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), v...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	u32 := func(v int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(v)) }
	attr(unix.RTA_TABLE, u32(int(e.Table)))
	attr(unix.RTA_SRC, e.Source.AsSlice())
	attr(unix.RTA_DST, e.Group.AsSlice())
	if e.In != 0 {
		attr(unix.RTA_IIF, u32(e.In))
	}
	var hops []byte
	for _, o := range e.Out {
		hops = append(append(binary.NativeEndian.AppendUint16(hops, unix.SizeofRtNexthop), 0, o.Threshold), u32(o.Index)...)
	}
	attr(unix.RTA_MULTIPATH, hops)
	attr(unix.RTA_MFC_STATS, make([]byte, 24))
	return b
}

func equal(a, b entry) bool {
	return a.Group == b.Group && a.Source == b.Source && a.Table == b.Table && same(a, b)
}

func TestParseMFC(t *testing.T) {
	for _, e := range []entry{
		mfc(group, source, 1, 2, 3), mfc(group, any4, 4), mfc(any4, any4, 1, 1),
		mfc(netip.MustParseAddr("ff3e::1"), netip.MustParseAddr("fd00::2"), 7, 8),
		{Group: group, Source: source, Table: 99},
	} {
		b := encode(e)
		if got, err := parseMFC(b); err != nil || !equal(got, e) {
			t.Errorf("%+v, %v, want %+v", got, err, e)
		}
		for n := range unix.SizeofRtMsg {
			if _, err := parseMFC(b[:n]); !errors.Is(err, errMFC) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
	good := encode(mfc(group, source, 1, 2))
	for name, at := range map[string]int{"family": 0, "attribute": unix.SizeofRtMsg} {
		bad := bytes.Clone(good)
		bad[at] = 3
		if _, err := parseMFC(bad); !errors.Is(err, errMFC) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	if got, err := parseMFC(encode(entry{Group: group, Source: source, In: 1, Out: []Oif{{2, noForward}, {3, 254}}})); err != nil || !slices.Equal(indexes(got.Out), []int{3}) {
		t.Errorf("%+v, %v: an interface with threshold 255 does not forward", got, err)
	}
}

func FuzzParseMFC(f *testing.F) {
	f.Add(encode(mfc(group, source, 1, 2, 3)))
	f.Add(encode(mfc(netip.MustParseAddr("ff3e::1"), netip.IPv6Unspecified(), 7, 8)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseMFC(b)
		if err != nil {
			if !errors.Is(err, errMFC) {
				t.Fatal(err)
			}
			return
		}
		if !e.Group.IsValid() || !e.Source.IsValid() || e.Group.Is4() != e.Source.Is4() {
			t.Fatalf("%+v", e)
		}
		e.Table &= 0xff
		if got, err := parseMFC(encode(e)); err != nil || !equal(got, e) {
			t.Fatalf("%+v became %+v, %v", e, got, err)
		}
	})
}
