package daemon

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// A worker whose queue fills is asked to let connections go, once at a time; new ones
// are kept from it until it is quiet again.
func TestOverloadAsksTheWorker(t *testing.T) {
	woken := 0
	h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() { woken++ }, events: func([]tcpcheat.Event) {}}
	var b nfq.Backlog
	o := newOverload(zap.NewNop())
	o.add(h, func() (nfq.Backlog, bool) { return b, true })
	now := time.Unix(1e9, 0)
	look := func() {
		o.look(now, 0, o.queues[0])
		now = now.Add(lookEvery)
	}
	look()
	if o.full(0) || o.pressed(0) || woken != 0 {
		t.Fatal("an empty queue is overloaded")
	}
	b = nfq.Backlog{Waiting: 6000, Fill: 0.7}
	for range 20 {
		look()
	}
	if !o.pressed(0) || !o.full(0) || o.refused.get() != 1 {
		t.Errorf("pressed %v, refused %d", o.pressed(0), o.refused.get())
	}
	if woken != 1 {
		t.Errorf("the worker was asked %d times and has not answered", woken)
	}
	// A worker that was slow to answer is asked again at once, and not only to count:
	// what it has not heard of does not count as let go.
	h.open(now)
	o.queues[0].counted = now
	look()
	if woken != 2 {
		t.Errorf("the worker has answered and was asked %d times", woken)
	}
	h.open(now)
	b = nfq.Backlog{Handled: 6000}
	for range 70 {
		look()
		h.open(now)
	}
	if o.pressed(0) || !o.full(0) {
		t.Errorf("pressed %v after a calm second, open %v", o.pressed(0), !o.full(0))
	}
	now = now.Add(time.Minute)
	look()
	if o.full(0) {
		t.Error("a quiet minute, and no new connections are taken")
	}
}

// A new connection that finds its queue overloaded is not cheated, and says why.
func TestNoNewConnectionsInOverload(t *testing.T) {
	table := testTable(t)
	table.crowded = func(int) bool { return true }
	v := tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN)
	if d := table.first(time.Now(), v, lan, wan); d.shard >= 0 {
		t.Errorf("%+v", d)
	}
	f, _, ok := table.get(v.Key())
	if want := "; not cheated: " + tcpcheat.ErrOverload.Error(); !ok || f.caveat != want {
		t.Errorf("%q, want %q", f.caveat, want)
	}
	// The same ports again, when it is over.
	table.crowded = func(int) bool { return false }
	if d := table.first(time.Now(), v, lan, wan); d.shard < 0 {
		t.Errorf("afterwards: %+v", d)
	}
}
