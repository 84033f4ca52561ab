package daemon

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
)

// A transparent box is one by the configuration. Its neighbours are as many as there
// are hosts, and its handle is the same after a restart, whatever the order of the
// interfaces or their indexes, and another box's is another.
func TestTransparentNode(t *testing.T) {
	box := func(index int, macs ...string) *links {
		var list []link
		for i, mac := range macs {
			list = append(list, link{Link: route.Link{Index: index + i, MAC: mac}})
		}
		return newLinks(list)
	}
	c := &config.Config{Mode: config.ModeBridge, RSVP: config.RSVP{Hop: config.HopTransparent}, Limits: config.Limits{Sessions: 20_000, Neighbors: 1000}}
	l := box(3, "\x02\x00\x00\x00\x00\x07", "\x02\x00\x00\x00\x00\x08")
	n := rsvpNode(c, l)
	if !n.Transparent || !n.Bridge || n.Limits.Neighbors != 20_000 || n.Handle == 0 {
		t.Errorf("%+v", n)
	}
	for name, same := range map[string]*links{
		"other indexes": box(9, "\x02\x00\x00\x00\x00\x07", "\x02\x00\x00\x00\x00\x08"),
		"another order": box(3, "\x02\x00\x00\x00\x00\x08", "\x02\x00\x00\x00\x00\x07"),
		"a tunnel":      box(3, "\x02\x00\x00\x00\x00\x07", "", "\x02\x00\x00\x00\x00\x08"),
	} {
		if got := rsvpNode(c, same).Handle; got != n.Handle {
			t.Errorf("%s: handle %#x, want %#x", name, got, n.Handle)
		}
	}
	if got := rsvpNode(c, box(3, "\x02\x00\x00\x00\x00\x17", "\x02\x00\x00\x00\x00\x18")).Handle; got == n.Handle {
		t.Error("two boxes have one handle")
	}
	c.Mode, c.RSVP.Hop = config.ModeRouter, config.HopRouter
	if n = rsvpNode(c, l); n.Transparent || n.Bridge || n.Limits.Neighbors != 1000 {
		t.Errorf("%+v", n)
	}
}
