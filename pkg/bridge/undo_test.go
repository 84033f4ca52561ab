package bridge

import (
	"errors"
	"strings"
	"testing"
)

// arrangements are what a box may be found in.
var arrangements = map[string][]string{
	"ports up":           nil,
	"ports down":         {"link set lan0 down", "link set wan0 down"},
	"one down":           {"link set wan0 down"},
	"no IPv6 address":    {"link set lan0 addrgenmode none", "link set lan0 down", "link set lan0 up"},
	"an empty bridge":    {"link add qp0 type bridge"},
	"a bridge":           {"link add br0 type bridge", "link set lan0 master br0", "link set wan0 master br0", "link set br0 up"},
	"a bridge, down":     {"link add br0 type bridge", "link set lan0 master br0", "link set wan0 master br0"},
	"a bridge, set up":   {"link add br0 type bridge mcast_snooping 0 group_fwd_mask 0x4000 nf_call_iptables 1 ageing_time 1000", "link set lan0 master br0", "link set wan0 master br0", "link set br0 up", "link set lan0 type bridge_slave group_fwd_mask 0x4000 hairpin on"},
	"half of its bridge": {"link add qp0 type bridge", "link set lan0 master qp0", "link set qp0 up"},
}

func (b *box) arrange(t *testing.T, commands []string) {
	t.Helper()
	for _, c := range commands {
		b.ip(t, strings.Fields(c)...)
		if f := strings.Fields(c); len(f) == 4 && f[3] == "up" && (f[2] == "br0" || f[2] == "qp0") {
			b.settled(t, f[2])
		}
	}
}

// Whatever was there is there again afterwards, byte for byte: after an ordinary stop,
// and after a process that died at any point and another that has taken over, or has
// not even begun to.
func TestUndo(t *testing.T) {
	for name, commands := range arrangements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for crashed := -1; crashed <= 5 && !t.Failed(); crashed++ {
				undo(t, commands, crashed)
			}
		})
	}
}

func undo(t *testing.T, commands []string, crashed int) {
	t.Helper()
	b := newBox(t)
	b.arrange(t, commands)
	before := b.snapshot(t)
	if crashed >= 0 {
		b.in(t, func() error { return b.begin(crashed) })
	}
	if crashed%2 == 1 {
		b.in(t, func() error { found, err := Undo(b.config.File); return errors.Join(err, want(found)) })
		b.unchanged(t, before)
		b.in(t, func() error { return b.begin(crashed) })
	}
	br := b.made(t)
	if p := b.link(t, "wan0"); p.Master != br.Name() || p.Info.Port.Groups != "0xfffd" {
		t.Errorf("crash in %d: %+v", crashed, p)
	}
	b.in(t, br.Undo)
	b.unchanged(t, before)
	b.in(t, func() error { found, err := Undo(b.config.File); return errors.Join(err, want(!found)) })
	if t.Failed() {
		t.Errorf("after a crash in stage %d", crashed)
	}
}

var errUnwanted = errors.New("there was a record, or there was none")

func want(ok bool) error {
	if !ok {
		return errUnwanted
	}
	return nil
}

// begin is a Make that dies after so many stages.
func (b *box) begin(stages int) error {
	br, err := open(b.config)
	if err != nil {
		return err
	}
	all, err := br.state.read()
	if err != nil {
		return err
	}
	ch, err := choose(all, br.c, br.madeBefore)
	if err != nil {
		return err
	}
	br.name, br.made = ch.name, ch.made
	for _, s := range br.stages()[:stages] {
		if _, err := br.stage(s); err != nil {
			return err
		}
	}
	return br.Close()
}

// What somebody else has changed in the meantime is theirs.
func TestUndoLeavesWhatOthersChanged(t *testing.T) {
	b := newBox(t)
	b.arrange(t, arrangements["a bridge"])
	br := b.made(t)
	b.arrange(t, []string{"link set br0 type bridge group_fwd_mask 0x8"})
	b.in(t, br.Undo)
	if l := b.link(t, "br0"); l.Info.Data.Groups != "0x8" || l.Info.Data.V4 != 0 || l.Info.Data.Snooping != 1 {
		t.Errorf("%+v", l.Info.Data)
	}
}

// A port that the configuration has no more is let go by the next process.
func TestPortIsLetGo(t *testing.T) {
	b := newBox(t)
	b.cable(t, "lan1", newHost(t))
	b.settled(t, "lan1")
	before := b.snapshot(t)
	all := b.config
	all.Ports = append(all.Ports, "lan1")
	b.in(t, func() error {
		br, err := Make(all)
		if err != nil {
			return err
		}
		return br.Close()
	})
	br := b.made(t)
	if p := b.link(t, "lan1"); p.Master != "" || p.GenMode != "eui64" {
		t.Errorf("%+v", p)
	}
	if !br.Made() || !br.Found() {
		t.Errorf("made %t, found %t", br.Made(), br.Found())
	}
	b.in(t, br.Undo)
	b.unchanged(t, before)
}
