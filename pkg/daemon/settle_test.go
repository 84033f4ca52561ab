package daemon

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// settled is the kernel's set.
type settled struct {
	calls
	in, out, again []packet.FlowKey
	all            bool
	err            error
}

func (s *settled) Settle(keys ...packet.FlowKey) error { s.in = append(s.in, keys...); return s.err }

func (s *settled) Unsettle(keys ...packet.FlowKey) error { s.out = append(s.out, keys...); return nil }
func (s *settled) UnsettleAll() error                    { s.all = true; return nil }
func (s *settled) Renew(keys ...packet.FlowKey) error    { s.again = append(s.again, keys...); return nil }

func keyNumber(n int) packet.FlowKey {
	k := packet.FlowKey{Proto: packet.ProtoUDP, SrcPort: uint16(n), DstPort: uint16(n >> 16)}
	return k
}

// Flows are settled when their packets were answered and no more are waiting; in a
// flood, after a while.
func TestSettleWhenTheQueueIsEmpty(t *testing.T) {
	p := &policies{}
	s := settler{current: func() *policies { return p }}
	var k settled
	now := time.Now()
	decide := func(n, packets int) {
		s.handled += packets
		s.later(now, &decision{settle: []packet.FlowKey{keyNumber(n)}, by: p})
		if err := s.settle(now, &k); err != nil {
			t.Fatal(err)
		}
	}
	decide(1, 1)
	if len(k.in) != 1 {
		t.Fatalf("settled %v", k.in)
	}
	decide(2, firstBatch)
	decide(3, firstBatch)
	if len(k.in) != 1 {
		t.Errorf("settled %v while more packets wait", k.in)
	}
	now = now.Add(settleLate)
	decide(4, firstBatch)
	if len(k.in) != 4 {
		t.Errorf("settled %v in a flood", k.in)
	}
	for n := range settleMost + 1 {
		decide(100+n, firstBatch)
	}
	if len(k.in) < 4+settleMost {
		t.Errorf("%d settled of many flows at once", len(k.in))
	}
	k.err = errors.New("full")
	s.later(now, &decision{settle: []packet.FlowKey{keyNumber(1)}, by: p})
	if err := s.settle(now, &k); err == nil {
		t.Error("an error of the kernel is not told")
	}
}

// What earlier policies have decided is not settled after a reload, and what they
// did not claim is decided anew; all else stays settled.
func TestSettleAcrossReload(t *testing.T) {
	old, next := &policies{}, &policies{}
	current := old
	s := settler{current: func() *policies { return current }}
	var k settled
	now := time.Now()
	s.later(now, &decision{settle: []packet.FlowKey{keyNumber(1)}, by: old})
	s.later(now, &decision{settle: []packet.FlowKey{keyNumber(2)}, by: old, stranger: true})
	current = next
	if err := s.anew(&k, []packet.FlowKey{keyNumber(3)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []packet.FlowKey{keyNumber(2), keyNumber(3), keyNumber(3).Reverse()} {
		if !slices.Contains(k.out, want) {
			t.Errorf("%v is not decided anew: %v", want, k.out)
		}
	}
	if len(k.out) != 3 || k.all {
		t.Errorf("decided anew: %v, all: %v", k.out, k.all)
	}
	if err := s.settle(now, &k); err != nil || len(k.in) != 0 {
		t.Errorf("settled by policies that are gone: %v, %v", k.in, err)
	}
	if err := s.renew(&k, &renewal{by: old, keys: []packet.FlowKey{keyNumber(1)}}); err != nil || len(k.again) != 0 {
		t.Errorf("renewed by policies that are gone: %v, %v", k.again, err)
	}
	// Too many to remember them all: then all are decided anew.
	for n := range maxStrangers + 1 {
		s.later(now, &decision{settle: []packet.FlowKey{keyNumber(n)}, by: next, stranger: true})
	}
	if err := s.anew(&k, nil); err != nil || !k.all {
		t.Errorf("all: %v, %v", k.all, err)
	}
	k.all = false
	if err := s.anew(&k, nil); err != nil || k.all {
		t.Errorf("all again: %v, %v", k.all, err)
	}
}

// The kernel forgets a settled flow after a while, and so does the list.
func TestStrangersAreForgotten(t *testing.T) {
	var s strangers
	now := time.Now()
	s.add(now, []packet.FlowKey{keyNumber(1)})
	s.add(now.Add(strangersFor), []packet.FlowKey{keyNumber(2)})
	if list, whole := s.take(); len(list) != 2 || !whole {
		t.Errorf("%v, whole: %v", list, whole)
	}
	s.add(now, []packet.FlowKey{keyNumber(1)})
	s.full[0] = true
	s.add(now.Add(2*strangersFor), []packet.FlowKey{keyNumber(2)})
	if list, whole := s.take(); len(list) != 1 || !whole {
		t.Errorf("after two spans: %v, whole: %v", list, whole)
	}
}

// Flows whose packets follow each other fast are kept settled, one renewal for
// some sweeps.
func TestBusyFlowsStaySettled(t *testing.T) {
	now := time.Now()
	f := &flow{key: keyNumber(1)}
	c := &conn{shard: -1}
	look := func(packets uint64) int {
		r := renewal{}
		r.add(now, c, f, packets)
		f.counts.packets = packets
		return len(r.keys)
	}
	if look(busyPackets-1) != 0 {
		t.Error("a slow flow was renewed")
	}
	if look(3*busyPackets) != 1 {
		t.Error("a busy flow was not renewed")
	}
	if look(6*busyPackets) != 0 {
		t.Error("it was renewed at once again")
	}
	if look(5) != 0 {
		t.Error("counters that began anew made a flow busy")
	}
	now = now.Add(renewEvery)
	c.shard = 0
	if look(20*busyPackets) != 0 {
		t.Error("a connection in a cheat queue was settled")
	}
	c.shard = -1
	if look(40*busyPackets) != 1 {
		t.Error("a busy flow was not renewed again")
	}
}
