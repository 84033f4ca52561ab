package bridge

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
)

// apply sets up what is not yet so, of the bridge and of these ports: first what was is
// written down, then it is changed. It goes in stages, since what a later one changes may
// be there only after an earlier one. After an error nothing of it is left but what keep
// says.
func (b *Bridge) apply(ports []string, keep func(change) bool) error {
	b.among = ports
	if all, err := b.state.read(); err != nil || b.steady(all) {
		return err
	}
	before := slices.Clone(b.record.Changes)
	var fresh []change
	for _, stage := range b.stages() {
		added, err := b.stage(stage)
		fresh = append(fresh, added...)
		if err != nil {
			var stays, goes []change
			for _, c := range fresh {
				if keep(c) {
					stays = append(stays, c)
				} else {
					goes = append(goes, c)
				}
			}
			left, undoErr := b.state.undo(goes)
			b.record.Changes = slices.Concat(before, stays, left)
			return errors.Join(err, undoErr, b.record.save(b.c.File))
		}
	}
	return b.settle()
}

func nothing(change) bool { return false }

// silent tells whether a change keeps a port from speaking.
func silent(c change) bool { return c.Kind == kindGen || c.Kind == kindSysctl && c.Link != "" }

// failure is a port that could not be put back into the bridge.
type failure struct {
	index int
	until time.Time // it is left alone
	err   error
}

// pause is how long a port is left alone that could not be put back. That it was tried
// is news of the interface too, by which it would be tried again at once.
const pause = 10 * time.Second

// repair sets up again what has gone: the bridge, then each port by itself, so that one
// that cannot be put back keeps no other one out. It stays silent: what it says would be
// a listed port's own words.
func (b *Bridge) repair(now time.Time) error {
	err := b.apply(nil, nothing)
	if err != nil {
		return err
	}
	all, err := b.state.read()
	if err != nil {
		return err
	}
	b.among = b.c.Ports
	for _, p := range b.unsettled(all) {
		was := b.failed[p.name]
		if was.index != p.index || !now.Before(was.until) {
			was = failure{p.index, now.Add(pause), b.apply([]string{p.name}, silent)}
		}
		if was.err == nil {
			delete(b.failed, p.name)
			continue
		}
		b.failed[p.name] = was
		err = errors.Join(err, was.err)
	}
	return err
}

func (b *Bridge) stages() []func(links) []change {
	return []func(links) []change{b.quiet, b.itself, b.bridge, b.members, b.ports}
}

// stage does one of them, and returns what is new in the record.
func (b *Bridge) stage(wanted func(links) []change) (fresh []change, err error) {
	all, err := b.state.read()
	if err != nil {
		return nil, err
	}
	var todo []change
	for _, c := range wanted(all) {
		now, ok := b.state.now(all, &c)
		if !ok && c.Kind != kindMade || now == c.Set {
			continue
		}
		todo = append(todo, c)
		// What is in the record already was found by the first who changed it. What
		// goes with the bridge, or with being its port, needs no record.
		if b.record.find(&c) == nil && !b.goes(&c) {
			c.Was = now
			fresh = append(fresh, c)
		}
	}
	if len(fresh) > 0 {
		b.record.forget(all)
		b.record.Changes = append(b.record.Changes, fresh...)
		if err := b.record.save(b.c.File); err != nil {
			return fresh, fmt.Errorf("what has to be restored later could not be written down: %w", err)
		}
	}
	for i := range todo {
		if err := b.state.put(all, &todo[i], todo[i].Set); err != nil {
			return fresh, err
		}
	}
	return fresh, nil
}

// goes tells whether a change ends with another one.
func (b *Bridge) goes(c *change) bool {
	if c.Link == b.name && c.Kind != kindMade {
		return b.made
	}
	return c.Kind == kindPort && b.record.find(&change{Kind: kindMaster, Link: c.Link, Index: c.Index}) != nil
}

// unsettled are the ports, among those that it is about, that have yet to be set up.
func (b *Bridge) unsettled(all links) (list []*link) {
	for _, name := range b.among {
		p := all.named(name)
		if p != nil && (b.settled[name] != p.index || p.master == 0) && (p.master == 0 || p.master == b.current(all)) {
			list = append(list, p)
		}
	}
	return list
}

// steady tells that there is nothing to set up, nor anything gone that has been.
func (b *Bridge) steady(all links) bool {
	bridge := b.current(all)
	return bridge != 0 && b.settled[b.name] == bridge && len(b.unsettled(all)) == 0
}

func (b *Bridge) current(all links) int {
	if l := all.named(b.name); l != nil {
		return l.index
	}
	return 0
}

// silence keeps IPv6 from an interface: from then on it asks for no router, joins no
// group and looks for no neighbour. Each of the two is enough as long as nobody changes
// it: disable_ipv6 of `all` changes that of every interface.
func silence(l *link) []change {
	return []change{
		{Kind: kindSysctl, Link: l.name, Index: l.index, Key: path.Join("net/ipv6/conf", l.name, "disable_ipv6"), Set: "1"},
		{Kind: kindGen, Link: l.name, Index: l.index, Set: genNone},
	}
}

// quiet is what has to be before an interface may be a port.
func (b *Bridge) quiet(all links) (list []change) {
	if len(b.settled) == 0 {
		list = append(list, change{Kind: kindSysctl, Key: vlanTagged, Set: "1"})
	}
	for _, p := range b.unsettled(all) {
		list = append(list, silence(p)...)
	}
	return list
}

func (b *Bridge) itself(all links) []change {
	if !b.made || all.named(b.name) != nil {
		return nil
	}
	return []change{{Kind: kindMade, Link: b.name, Set: "there"}}
}

// bridge sets up the bridge itself. It answers no ARP, not for other addresses of this
// machine either, which Linux otherwise does on every interface.
func (b *Bridge) bridge(all links) (list []change) {
	l := all.named(b.name)
	if l == nil || b.settled[b.name] == l.index {
		return nil
	}
	list = silence(l)
	list = append(list, change{Kind: kindFlag, Link: l.name, Index: l.index, Key: "noarp", Set: "true"})
	for _, a := range adoptedAttrs {
		list = append(list, change{Kind: kindOwn, Link: l.name, Index: l.index, Key: a.name, Set: fmt.Sprint(a.want)})
	}
	return append(list, change{Kind: kindFlag, Link: l.name, Index: l.index, Key: "up", Set: "true"})
}

func (b *Bridge) members(all links) (list []change) {
	if all.named(b.name) == nil {
		return nil
	}
	for _, p := range b.unsettled(all) {
		list = append(list, change{Kind: kindMaster, Link: p.name, Index: p.index, Set: b.name})
	}
	return list
}

// ports sets up those that are in the bridge.
func (b *Bridge) ports(all links) (list []change) {
	for _, p := range b.unsettled(all) {
		if p.master == 0 {
			continue
		}
		for _, a := range portAttrs {
			list = append(list, change{Kind: kindPort, Link: p.name, Index: p.index, Key: a.name, Set: fmt.Sprint(a.want)})
		}
		list = append(list, change{Kind: kindFlag, Link: p.name, Index: p.index, Key: "up", Set: "true"})
	}
	return list
}

// settle notes what is set up now.
func (b *Bridge) settle() error {
	all, err := b.state.read()
	if err != nil {
		return err
	}
	bridge := b.current(all)
	if bridge == 0 {
		clear(b.settled)
		return nil
	}
	b.settled[b.name] = bridge
	for _, name := range b.among {
		delete(b.settled, name)
		if p := all.named(name); p != nil && p.master == bridge {
			b.settled[name] = p.index
		}
	}
	return nil
}

// forget drops what is about interfaces of which there are others by the same name now.
func (r *record) forget(all links) {
	r.Changes = slices.DeleteFunc(r.Changes, func(c change) bool {
		l := all.named(c.Link)
		return c.Index != 0 && l != nil && l.index != c.Index
	})
}
