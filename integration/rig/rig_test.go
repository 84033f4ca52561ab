package rig

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

func snapshot(t *testing.T, cfg SnapshotConfig) Snapshot {
	t.Helper()
	s, err := TakeSnapshot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	roottest.Need(t)
	cfg := SnapshotConfig{Host: true}
	before := snapshot(t, cfg)
	top, err := NewTopology(Asymmetric(1))
	if err != nil {
		t.Fatal(err)
	}
	during := before.Added(snapshot(t, cfg))
	if len(during) != 8 {
		t.Errorf("while it stands: %v, want 8 namespaces", during)
	}
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			if err := top.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if diff := cmp.Diff([]string(nil), before.Added(snapshot(t, cfg))); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if _, err := top.Namespace("late"); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed rig makes a namespace: %v", err)
	}
}

func TestPartialBuildIsRemoved(t *testing.T) {
	roottest.Need(t)
	before := snapshot(t, SnapshotConfig{})
	cfg := Asymmetric(1)
	cfg.AB.Loss = 2 // refused after all namespaces were built
	if _, err := NewTopology(cfg); err == nil || !strings.Contains(err.Error(), "probability") {
		t.Fatalf("error %v, want one about the probability", err)
	}
	if left := before.Added(snapshot(t, SnapshotConfig{})); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestCloseGoesOnAfterErrors(t *testing.T) {
	r := newRig(t)
	broken := errors.New("broken")
	var ran []int
	for i := range 3 {
		err := r.OnClose(func() error {
			ran = append(ran, i)
			if i == 1 {
				return broken
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); !errors.Is(err, broken) {
		t.Errorf("close: %v, want %v", err, broken)
	}
	if diff := cmp.Diff([]int{2, 1, 0}, ran); diff != "" {
		t.Errorf("order of closing (-want +got):\n%s", diff)
	}
}

func TestSnapshotSeesTablesAndQdiscs(t *testing.T) {
	r := newRig(t)
	ns, err := r.Namespace("box")
	if err != nil {
		t.Fatal(err)
	}
	cfg := SnapshotConfig{Namespaces: []*netns.NetNS{ns}, Processes: []string{"no-such-process"}}
	before := snapshot(t, cfg)
	addTable(t, ns.FD(), "leftover")
	err = ns.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(netlink.NewHtb(netlink.QdiscAttrs{
			LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"qdisc " + ns.Name() + " lo htb 1:0", "table " + ns.Name() + " inet leftover"}
	if diff := cmp.Diff(want, before.Added(snapshot(t, cfg))); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
}

// addTable makes an nftables table of family inet.
func addTable(t *testing.T, fd int, name string) {
	t.Helper()
	conn, err := mdl.Dial(unix.NETLINK_NETFILTER, &mdl.Config{NetNS: fd})
	if err != nil {
		t.Fatal(err)
	}
	attributes, err := mdl.MarshalAttributes([]mdl.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(name + "\x00")}})
	if err != nil {
		t.Fatal(err)
	}
	batch := []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	_, err = conn.SendMessages([]mdl.Message{
		{Header: mdl.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: mdl.Request}, Data: batch},
		{
			Header: mdl.Header{
				Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
				Flags: mdl.Request | mdl.Acknowledge | mdl.Create,
			},
			Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attributes...),
		},
		{Header: mdl.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: mdl.Request}, Data: batch},
	})
	if err == nil {
		_, err = conn.Receive() // the acknowledgement, or the kernel's error
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
}
