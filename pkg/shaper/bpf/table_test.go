package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// raw gives the kernel the values' memory, so there may be no gap in them.
func TestValuesHaveNoPadding(t *testing.T) {
	for _, v := range []any{
		treatmentFlowKey{},
		treatmentFlow{},
		treatmentSpec{},
		treatmentChangeArgs{},
		treatmentGroup{},
		treatmentGroupArgs{},
		treatmentLevels{},
		treatmentFragmentKey{},
		treatmentLevelKey{},
		treatmentLevel{},
		treatmentLevelArgs{},
		treatmentFrameKey{},
		treatmentFrame{},
	} {
		typ := reflect.TypeOf(v)
		end := uintptr(0)
		for f := range typ.Fields() {
			if f.Type.Size() == 0 {
				continue // structs.HostLayout
			}
			if f.Offset != end {
				t.Errorf("%s: a gap before %s", typ, f.Name)
			}
			end = f.Offset + f.Type.Size()
		}
		if end != typ.Size() {
			t.Errorf("%s: a gap at the end", typ)
		}
	}
}

func TestTableIsCopiedToAnotherSize(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	small, err := Open(dir, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	for port := range uint16(10) {
		k := key4
		k.SrcPort = port
		if err := small.Put(ifindex, plan.Treatment{Key: k, Mark: true, DSCP: uint8(port)}, mine, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	k := key4
	k.SrcPort = 99
	if err := small.Put(ifindex, plan.Treatment{Key: k}, mine, 0, 0); !errors.Is(err, ErrFull) {
		t.Errorf("an eleventh of ten: %v", err)
	}
	if err := small.Close(); err != nil {
		t.Fatal(err)
	}
	big := openTable(t, dir, 2000)
	if !big.Adopted {
		t.Error("the table was not adopted")
	}
	if err := big.Put(ifindex, plan.Treatment{Key: k}, mine, 0, 0); err != nil {
		t.Error(err)
	}
	for port := uint16(100); port < 1500; port++ { // more than one batch
		k.SrcPort = port
		if err := big.Put(ifindex, plan.Treatment{Key: k}, mine, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[packet.FlowKey]plan.Treatment{}
	if err := big.Each(func(e Entry) { seen[e.Treatment.Key] = e.Treatment }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1411 {
		t.Errorf("%d treatments, want 1411", len(seen))
	}
	k.SrcPort = 7
	if got := seen[k]; got.DSCP != 7 || !got.Mark {
		t.Errorf("copied %+v", got)
	}
	if err := big.Delete(ifindex, key6); !errors.Is(err, ErrNoFlow) {
		t.Errorf("removing what is not there: %v", err)
	}
}

// Pins of another layout are replaced, not read.
func TestOtherLayoutIsReplaced(t *testing.T) {
	newNamespace(t)
	dir := pinDir(t)
	old := openTable(t, dir, 10)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, flowsPin), filepath.Join(dir, "flows-0")); err != nil {
		t.Fatal(err)
	}
	table := openTable(t, dir, 10)
	if table.Adopted {
		t.Error("a table of another layout was adopted")
	}
	if _, err := os.Stat(filepath.Join(dir, "flows-0")); err == nil {
		t.Error("the pin of another layout is still there")
	}
}

func TestOwnMount(t *testing.T) {
	for info, want := range map[string]bool{
		"36 35 0:30 / /sys/fs/bpf rw,nosuid - bpf qosproxy rw,mode=700\n":                                   true,
		"36 35 0:30 / /sys/fs/bpf rw,nosuid shared:5 - bpf bpf rw,mode=700\n":                               false,
		"36 35 0:30 / /mnt rw - bpf qosproxy rw\n":                                                          false,
		"1 1 0:1 / / rw - ext4 /dev/vda rw\n36 35 0:30 / /sys/fs/bpf rw shared:1 - bpf qosproxy rw\nbroken": true,
		"": false,
	} {
		if got := ownMount(info); got != want {
			t.Errorf("%q: %t", info, got)
		}
	}
}

func TestExplainNamesTheRemedy(t *testing.T) {
	if err := explain("x", unix.EPERM); !errors.Is(err, plan.ErrPrivilege) || !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
	if explain("x", nil) != nil {
		t.Error("an error of nothing")
	}
}

// The DSCP goes, ECN and the rest stay.
func TestIngressResets(t *testing.T) {
	h := newHarness(t)
	prog, err := h.loadFor(Ingress, plan.Program{Header: 14})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = prog.Close() }()
	h.prog = prog
	for _, k := range []packet.FlowKey{key4, key6} {
		in := frame(k, 46<<2|1, 100)
		v := parsed(t, h.send(in, 0))
		want, err := packet.Parse(in[14:])
		if err != nil {
			t.Fatal(err)
		}
		want.SetDSCP(0)
		if v.ECN() != 1 || string(v.Bytes()) != string(want.Bytes()) {
			t.Errorf("%s: got % x", k, v.Bytes())
		}
	}
}

// A process that lives keeps its pins even while all its interfaces are gone;
// those of one that died go with its network namespace.
func TestSweepSparesTheLiving(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	table := openTable(t, dir, 10)
	if err := table.Attach(Egress, ifindex, plan.Program{Attached: true, Current: true, Header: 14}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "qp0", Index: ifindex}}); err != nil {
		t.Fatal(err)
	}
	openTable(t, pinDir(t), 10)
	if _, err := os.Stat(filepath.Join(dir, flowsPin)); err != nil {
		t.Errorf("the pins of a living process were swept: %v", err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	openTable(t, pinDir(t), 10)
	if _, err := os.Stat(dir); err == nil {
		t.Error("the pins of a process that died were not swept")
	}
}
