package bridge

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A port that was there before and comes back, another one of the same name, is put
// into the bridge again; and so is all that was done to the bridge itself if it is ours
// and somebody removes it.
func TestRepair(t *testing.T) {
	b := newBox(t)
	before := b.snapshot(t)
	br := b.made(t)
	index := br.Index()
	repair := func(want ...string) {
		t.Helper()
		b.in(t, func() error {
			got, err := br.Repair()
			if err != nil || len(got) != len(want) {
				t.Errorf("%q, %v, want %q", got, err, want)
				return nil
			}
			for i := range want {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("%q, want %q", got[i], want[i])
				}
			}
			return nil
		})
	}
	repair()
	b.ip(t, "link", "del", "wan0")
	repair("interface wan0 is gone")
	b.cable(t, "wan0", b.right)
	b.ip(t, "link", "set", "wan0", "down")
	came := of("wan0", b.snapshot(t))
	repair()
	if p := b.link(t, "wan0"); p.Master != "qp0" || p.Info.Port.Groups != "0xfffd" || p.GenMode != "none" || !strings.Contains(strings.Join(p.Flags, ","), "UP") {
		t.Errorf("came back: %+v", p)
	}
	// What is changed later is for whoever did it to know.
	b.arrange(t, []string{"link set wan0 type bridge_slave group_fwd_mask 0", "link set lan0 down"})
	repair("interface lan0 is down")
	if p := b.link(t, "wan0"); p.Info.Port.Groups != "0" {
		t.Errorf("changed back: %+v", p.Info)
	}
	b.ip(t, "link", "set", "lan0", "up")
	b.ip(t, "link", "set", "qp0", "down")
	repair("the bridge qp0 is down")
	b.ip(t, "link", "set", "qp0", "up")
	b.ip(t, "link", "set", "lan0", "nomaster")
	repair()
	b.ip(t, "link", "del", "qp0")
	repair()
	if now := br.Index(); now == index || now == 0 {
		t.Errorf("the bridge has index %d, it was %d", now, index)
	}
	if l := b.link(t, "qp0"); l.Info.Data.V4 != 1 || b.link(t, "lan0").Master != "qp0" {
		t.Errorf("made again: %+v", l)
	}
	b.in(t, br.Undo)
	b.settled(t, "lan0")
	after := b.snapshot(t)
	if left := of("wan0", after); came.Added(left) != nil || left.Added(came) != nil {
		t.Errorf("wan0 came with %q and is left with %q", left.Added(came), came.Added(left))
	}
	was, left := of("lan0", before), of("lan0", after)
	if was.Added(left) != nil || left.Added(was) != nil {
		t.Errorf("lan0 was found with %q and is left with %q", left.Added(was), was.Added(left))
	}
}

// A port that cannot be put back, here since somebody else takes its packets, keeps no
// other one out; it stays silent, and is left alone for a while, with nothing written.
func TestRepairsEachPortByItself(t *testing.T) {
	b := newBox(t)
	third := newHost(t)
	b.cable(t, "aux0", third)
	for _, ports := range [][]string{{"aux0", "lan0", "wan0"}, {"wan0", "lan0", "aux0"}} {
		b.config.Ports = ports
		br := b.made(t)
		b.ip(t, "link", "del", "wan0")
		b.ip(t, "link", "del", "aux0")
		b.cable(t, "wan0", b.right)
		b.ip(t, "link", "set", "wan0", "down")
		b.cable(t, "aux0", third)
		came := of("wan0", b.snapshot(t))
		b.arrange(t, []string{"link add link wan0 name mv0 type macvlan"})
		repair := func() (err error) {
			b.in(t, func() error { _, err = br.Repair(); return nil })
			return err
		}
		err := repair()
		if err == nil || !strings.Contains(err.Error(), "interface wan0 cannot be a port") {
			t.Errorf("%v", err)
		}
		if p := b.link(t, "aux0"); p.Master != "qp0" || p.Info.Port.Groups != "0xfffd" {
			t.Errorf("the other port: %+v", p)
		}
		if p := b.link(t, "wan0"); p.Master != "" || p.GenMode != "none" {
			t.Errorf("it speaks: %+v", p)
		}
		written := filepath.Join(t.TempDir(), "link")
		if err := os.Link(b.config.File, written); err != nil {
			t.Fatal(err)
		}
		b.ip(t, "link", "del", "mv0")
		if again := repair(); again == nil || again.Error() != err.Error() {
			t.Errorf("at once: %v", again)
		}
		one, err1 := os.Stat(b.config.File)
		other, err2 := os.Stat(written)
		if err := errors.Join(err1, err2); err != nil || !os.SameFile(one, other) {
			t.Errorf("the record was written again, %v", err)
		}
		br.failed["wan0"] = failure{} // some time later
		if err := repair(); err != nil || b.link(t, "wan0").Master != "qp0" {
			t.Errorf("later: %v, %+v", err, b.link(t, "wan0"))
		}
		b.in(t, br.Undo)
		left := of("wan0", b.snapshot(t))
		if came.Added(left) != nil || left.Added(came) != nil {
			t.Errorf("wan0 came with %q and is left with %q", left.Added(came), came.Added(left))
		}
	}
}

// A bridge that was adopted and has gone is nobody's to make.
func TestAdoptedBridgeGoes(t *testing.T) {
	b := newBox(t)
	b.arrange(t, arrangements["a bridge"])
	br := b.made(t)
	b.ip(t, "link", "del", "br0")
	b.in(t, func() error {
		got, err := br.Repair()
		if err != nil || len(got) != 1 || !strings.Contains(got[0], "the bridge br0 is gone") {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
	if br.Index() != 0 {
		t.Errorf("index %d", br.Index())
	}
	b.in(t, br.Undo)
}

// Where a bridge cannot be made again, here since that cannot be written down, it is not
// said to be somebody else's.
func TestCannotBeMadeAgain(t *testing.T) {
	b := newBox(t)
	br := b.made(t)
	b.ip(t, "link", "del", "qp0")
	br.c.File = "/proc/self/status/bridge.json"
	br.record.Changes = nil
	b.in(t, func() error {
		got, err := br.Repair()
		if err == nil || !strings.Contains(err.Error(), "could not be written down") || len(got) > 0 {
			t.Errorf("%q, %v", got, err)
		}
		return br.Close()
	})
}

// What is wrong with a bridge that works is told, and the path stays open.
func TestComplaints(t *testing.T) {
	b := newBox(t)
	br := b.made(t)
	b.arrange(t, []string{"link set wan0 mtu 1400", "addr add 192.0.2.7/24 dev lan0", "addr add 192.0.2.8/24 dev qp0"})
	var got []string
	b.in(t, func() (err error) { got, err = br.Repair(); return err })
	all := strings.Join(got, "\n")
	for _, want := range []string{"wan0 has an MTU of 1400 and lan0 one of 1500", "lan0 has the address 192.0.2.7/24", "qp0 has the address 192.0.2.8/24"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q has no %q", all, want)
		}
	}
	if len(got) != 3 || b.link(t, "lan0").Info.Port.State != "forwarding" {
		t.Errorf("%q", got)
	}
	b.cable(t, "eth5", newHost(t))
	b.arrange(t, []string{"link set eth5 master qp0"})
	b.in(t, func() (err error) { got, err = br.Repair(); return err })
	if !strings.Contains(strings.Join(got, "\n"), "the bridge qp0 has the port eth5, which is not listed") || len(br.Unlisted()) != 1 {
		t.Errorf("%q, %d", got, br.Unlisted())
	}
	b.ip(t, "link", "set", "eth5", "nomaster")
	b.in(t, func() (err error) { got, err = br.Repair(); return err })
	if len(got) != 3 || len(br.Unlisted()) != 0 {
		t.Errorf("%q, %d", got, br.Unlisted())
	}
	b.arrange(t, []string{"link add br9 type bridge", "link set lan0 master br9"})
	b.in(t, func() (err error) { got, err = br.Repair(); return err })
	if !strings.Contains(strings.Join(got, "\n"), "lan0 is part of br9 (bridge) now") {
		t.Errorf("%q", got)
	}
	b.in(t, br.Undo)
}

// A kernel whose socket is closed answers nothing.
func TestClosed(t *testing.T) {
	b := newBox(t)
	br := b.made(t)
	b.in(t, br.Close)
	if _, err := br.Repair(); err == nil {
		t.Error("a bridge that was closed was repaired")
	}
	if err := unix.Access(b.config.File, unix.R_OK); err != nil {
		t.Errorf("the record is gone: %v", err)
	}
	b.in(t, func() error { _, err := Undo(b.config.File); return err })
}
