package tc

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

func newNamespace(t testing.TB) *Conn {
	t.Helper()
	roottest.Need(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp0", MTU: 9000}, PeerName: "qp1"}); err != nil {
		t.Fatal(err)
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// What is set is read back the same, from the slowest link to 400 Gbit/s, whose
// rates do not fit in 32 bits.
func TestRoundTrip(t *testing.T) {
	c := newNamespace(t)
	f, err := c.Facts(t.Context(), "qp0")
	if err != nil {
		t.Fatal(err)
	}
	if f.MTU != 9000 || f.Header != 14 || !f.Ethernet {
		t.Errorf("facts %+v", f)
	}
	before, err := c.Read(t.Context(), "qp0", f.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, mtu := range []uint32{1280, 1500, 9000} {
		f.MTU = mtu
		for _, capacity := range []uint64{8000, 32_000, 2_375_000, 31_250_001, 125_000_000, 1_250_000_000, 50_000_000_000} {
			p := plan.Plan{Interfaces: []plan.Interface{{Name: "qp0", Capacity: capacity}}}
			key := packet.MakeKey(17, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"))
			flow := plan.Treatment{Key: key, Interface: "qp0", Rate: float64(capacity) / 3, Bucket: 64000, Peak: math.Inf(1), Reserve: true}
			cheated := flow
			cheated.Cheated = true
			want := plan.Want(p, map[string]plan.Facts{"qp0": f}, []plan.Assigned{
				{Treatment: flow, Class: plan.FirstPooled}, {Treatment: cheated, Class: 0x1ffff},
			}).Port("qp0")
			want.Egress = plan.Program{}
			for _, op := range plan.Diff(plan.State{}, plan.State{Ports: []plan.Port{want}}) {
				if err := c.Apply(t.Context(), f.Index, op); err != nil {
					t.Fatal(err)
				}
			}
			got, err := c.Read(t.Context(), "qp0", f.Index)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("capacity %d, MTU %d: %s", capacity, mtu, d)
			}
			if err := c.Apply(t.Context(), f.Index, plan.Op{Kind: plan.DelRoot, Interface: "qp0"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	after, err := c.Read(t.Context(), "qp0", f.Index)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
}

func TestErrors(t *testing.T) {
	c := newNamespace(t)
	var missing *MissingInterfaceError
	if _, err := c.Facts(t.Context(), "nothere"); !errors.As(err, &missing) || missing.Name != "nothere" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := c.Read(ctx, "qp0", 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	op := plan.Op{Kind: plan.DelRoot, Interface: "qp0"}
	if err := c.Apply(t.Context(), 1, op); err == nil {
		t.Error("a root that is not there was deleted")
	}
	if err := c.Apply(t.Context(), 1, plan.Op{Kind: plan.AttachEgress}); err == nil {
		t.Error("an operation that is not ours was done")
	}
}

// The probe makes what it asks for elsewhere: an unknown kind must fail, one
// that a kernel with HTB surely has must not.
func TestProbe(t *testing.T) {
	newNamespace(t)
	if err := probe("nosuchqdisc"); err == nil {
		t.Error("the kernel has nosuchqdisc")
	}
	if err := probe("pfifo"); err != nil {
		t.Error(err)
	}
	t.Logf("fq_codel: %t", HasFQCodel())
}

// An interface's transmit queue length is what it was when the queues go, by whatever
// process: the kernel makes 1000 of 0, and leaves it so.
func TestQueueLengthComesBack(t *testing.T) {
	c := newNamespace(t)
	f, err := c.Facts(t.Context(), "qp0")
	if err != nil {
		t.Fatal(err)
	}
	link := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: f.Index}}
	for _, tt := range []struct{ before, meanwhile, want int }{
		{0, -1, 0}, {kernelQueueLen, -1, kernelQueueLen}, {500, -1, 500}, {0, 700, 700}, {500, 0, 0},
	} {
		if err := netlink.LinkSetTxQLen(link, tt.before); err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(t.Context(), f.Index, plan.Op{Kind: plan.AddRoot, Interface: "qp0"}); err != nil {
			t.Fatal(err)
		}
		if tt.meanwhile >= 0 {
			if err := netlink.LinkSetTxQLen(link, tt.meanwhile); err != nil {
				t.Fatal(err)
			}
		}
		next, err := Open() // another process
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Apply(t.Context(), f.Index, plan.Op{Kind: plan.DelRoot, Interface: "qp0"}); err != nil {
			t.Fatal(err)
		}
		next.Close()
		if got, err := c.queueLen(t.Context(), f.Index); err != nil || got != tt.want {
			t.Errorf("%+v: it is %d, %v", tt, got, err)
		}
	}
}
