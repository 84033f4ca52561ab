package softstate

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var (
	backSess   = wire.Session{Dst: srcHost, Protocol: 17, DstPort: filter.SrcPort}
	backFilter = wire.Filter{Src: dstHost, SrcPort: sess.DstPort}
)

func turnRig(t *testing.T) *rig {
	r := proxyRig(t)
	r.env.proxy = sayAt(right)
	r.env.turn = func(i PathInfo) (intserv.TSpec, bool) {
		ts := tspec
		ts.Rate = 3000
		return ts, i.Session == sess && i.Sender == filter && i.In == left && i.Out == right
	}
	return r
}

func (r *rig) back() (SessionView, bool) { return r.n.Session(r.now, backSess, backFilter) }

// RFC 5945 section 4.2: a PATH makes the proxy send PATH for the other direction
// towards where it came from, keeps it, and ends it.
func TestReverseRFC5945Section4_2(t *testing.T) {
	r := turnRig(t)
	es := r.path()
	s := onlySend(t, es, wire.Path)
	if s.Out != left || s.Src != dstHost || s.Dst != srcHost || s.TTL != DefaultTTL ||
		s.Msg.Session != backSess || *s.Msg.SenderTemplate != backFilter || s.Msg.SenderTSpec.Rate != 3000 {
		t.Fatalf("%s", dump(es))
	}
	v, ok := r.back()
	if !ok || v.Role != SenderProxy || v.In != right || v.Out != left {
		t.Fatalf("%+v", v)
	}
	noSend(t, r.path(), wire.Path)
	if es := r.live(9 * time.Minute); len(sends(es, wire.PathTear)) != 0 || len(sends(es, wire.Path)) < 10 {
		t.Errorf("it goes on while the trigger does: %s", dump(es))
	}
	es = r.in(left, srcHost, dstHost, pathTear())
	if s := onlySend(t, es, wire.PathTear); s.Dst != srcHost {
		t.Errorf("%s", dump(es))
	}
	if _, ok := r.back(); ok {
		t.Error("left over")
	}
	r.path()
	r.run(5 * time.Minute) // the trigger times out
	if _, ok := r.back(); ok || r.n.Counters().PathTimeouts != 1 {
		t.Error("it did not end with its trigger")
	}
	if _, ok := r.n.NextDeadline(); ok {
		t.Error("timers left")
	}
}

// A policy that changes is followed with the next PATH.
func TestReversePolicyEnds(t *testing.T) {
	r := turnRig(t)
	r.path()
	r.env.turn = nil
	onlySend(t, r.path(), wire.PathTear)
	if _, ok := r.back(); ok {
		t.Error("left over")
	}
}

// A sender that was declared, because packets of it came, outlives the trigger;
// and the trigger outlives the declaration.
func TestReverseDeclared(t *testing.T) {
	back := Sender{Session: backSess, Filter: backFilter, TSpec: tspec, In: right}
	r := turnRig(t)
	r.path()
	r.add(back)
	noSend(t, r.in(left, srcHost, dstHost, pathTear()), wire.PathTear)
	if v, ok := r.back(); !ok || v.TSpec.Rate != tspec.Rate {
		t.Fatalf("%+v", v)
	}
	onlySend(t, r.checked(r.n.RemoveSender(r.now, backSess, backFilter)), wire.PathTear)

	r = turnRig(t)
	r.path()
	r.add(back)
	noSend(t, r.checked(r.n.RemoveSender(r.now, backSess, backFilter)), wire.PathTear)
	onlySend(t, r.in(left, srcHost, dstHost, pathTear()), wire.PathTear)

	// The declaration was first: the trigger has nothing to do with it, and does
	// not bring it back.
	r = turnRig(t)
	r.add(back)
	r.path()
	onlySend(t, r.checked(r.n.RemoveSender(r.now, backSess, backFilter)), wire.PathTear)
	noSend(t, r.path(), wire.Path)
	if _, ok := r.back(); ok {
		t.Error("a flow that has ended was brought back by its trigger")
	}
}

// The receiver sends PATH for the other direction itself: nothing to do.
func TestReverseHostSpeaks(t *testing.T) {
	r := turnRig(t)
	m := pathMsg()
	m.Session, m.SenderTemplate, m.Hop = backSess, &backFilter, &wire.Hop{Addr: nextHop, LIH: 3}
	r.in(right, dstHost, srcHost, m)
	noSend(t, r.path(), wire.Path)
	if v, _ := r.back(); v.Role != Transit {
		t.Errorf("%+v", v)
	}
}

// turning is a row of nodes whose ends take each other's PATH as the trigger.
func turning(t *testing.T, seed uint64) *sim {
	s := newSim(t, seed, 3, Config{})
	s.deliver = func(from *simNode, e Send) (int, IfIndex) {
		if e.Out == left {
			return from.i - 1, right
		}
		return from.i + 1, left
	}
	first, last := s.nodes[0], s.nodes[2]
	first.env.unaware[srcHost], first.env.proxy = true, sayYes
	first.env.turn = func(i PathInfo) (intserv.TSpec, bool) { return tspec, i.Out == left }
	last.env.turn = func(i PathInfo) (intserv.TSpec, bool) { return tspec, i.Out == right }
	last.env.proxy, first.env.proxy = sayAt(right), sayAt(left)
	s.nodes[1].env.proxy = nil
	return s
}

func sayAt(out IfIndex) func(PathInfo) (ReserveSpec, bool) {
	return func(i PathInfo) (ReserveSpec, bool) {
		s, _ := sayYes(i)
		return s, i.Out == out
	}
}

// Two boxes that trigger each other do not keep each other's state alive: not
// when every tear-down is lost, and not when one of them restarts.
func TestReverseEndsRFC5945Section4_2(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		s := turning(t, seed)
		s.add(simSender(0))
		s.run(time.Minute)
		s.wantAll(Reserved, 6)
		x := simSender(0)
		s.loss = 1
		s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
		s.run(time.Second)
		s.loss = 0
		s.run(4 * cleanup)
		s.wantGone()

		s = turning(t, seed)
		s.add(simSender(0))
		s.run(time.Minute)
		n := s.nodes[0]
		n.n = New(Config{}, n.env, rand.New(rand.NewPCG(seed, 77)))
		n.ledger = map[uint64]ledgerState{}
		s.run(2 * time.Minute)
		if got := n.n.Counters().Senders; got != 2 {
			t.Errorf("%d senders at the restarted node, want the trigger and what it triggered", got)
		}
		s.run(unusedReverse + 4*cleanup)
		s.wantGone()
	})
}
