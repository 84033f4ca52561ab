package shaper

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// The sums of all treatments are counters: what a row has counted stays in them when
// the row goes, whoever takes it away, and is not there twice when it comes again.
func TestTotalsNeverGoDown(t *testing.T) {
	n := newNet(t)
	n.pair("qp2")
	s := n.shaper(Options{OnCrash: time.Hour})
	both := plan.Plan{Flows: 100, Interfaces: []plan.Interface{plan20.Interfaces[0], {Name: "qp2", Capacity: 1 << 20}}}
	n.check(s.Set(t.Context(), both))
	n.listenUDP("10.9.0.2:5004")
	out := n.dialUDP("10.9.0.1:4000", "10.9.0.2:5004")
	sent := uint64(0)
	send := func() {
		t.Helper()
		for range 3 {
			_, err := out.Write(make([]byte, 100))
			n.check(err)
			sent++
		}
	}
	want := func(when string, rows int) {
		t.Helper()
		sum, now, err := s.Totals()
		n.check(err)
		if sum.Packets != sent || sum.Bytes != sent*128 || sum.Conform+sum.Exceed != sent || now != rows {
			t.Errorf("%s: %+v of %d rows, want %d packets of %d", when, sum, now, sent, rows)
		}
	}
	install := func() {
		t.Helper()
		_, err := s.Install(t.Context(), voice)
		n.check(err)
	}
	want("before all", 0)
	for range 3 {
		install()
		send()
		want("in force", 1)
		install() // in place
		want("changed", 1)
		_, err := s.Take(t.Context(), "qp0", voice.Key)
		n.check(err)
		want("taken", 0)
	}
	// A plan with a table of another size, and one that the interface is not in.
	install()
	send()
	both.Flows = 200
	n.check(s.Set(t.Context(), both))
	want("in another table", 1)
	n.check(s.Set(t.Context(), plan.Plan{Flows: 200, Interfaces: both.Interfaces[1:]}))
	want("not in the plan", 0)
	// What an earlier process left and nobody asks for.
	n.check(s.Set(t.Context(), both))
	install()
	send()
	crash(t, s)
	s, sent = n.shaper(Options{OnCrash: time.Hour}), 3
	n.check(s.Set(t.Context(), both))
	want("adopted", 1)
	n.check(s.Reconcile(t.Context()))
	want("reconciled", 0)
	// An interface that is made again has rows of its own.
	other := voice
	other.Interface = "qp2"
	_, err := s.Install(t.Context(), other)
	n.check(err)
	link, err := netlink.LinkByName("qp2")
	n.check(err)
	n.check(netlink.LinkDel(link))
	n.pair("qp2")
	n.check(s.Set(t.Context(), both))
	want("made again", 1)
}
