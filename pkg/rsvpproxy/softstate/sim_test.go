package softstate

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// cleanup is how long state lives after its last refresh at a node (RFC 2205
// section 3.7 (2)). The end of a path may be lost with its PathTear at each node in
// turn: then they add up. What holds for each node is in strict_test.go.
const cleanup = time.Duration(3.5 * 1.5 * float64(DefaultRefresh))

// RFC 2205 section 3.7: loss, duplication and reordering delay the reservation,
// and do not prevent it; a tear-down that is lost is made good by time.
func TestSimConverges(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		const senders = 6
		s := newSim(t, seed, 5, Config{})
		s.loss, s.dup = 0.2, 0.2
		for i := range senders {
			s.add(simSender(i))
			s.run(time.Duration(s.rng.Int64N(int64(time.Second))))
		}
		s.run(3 * time.Minute)
		s.loss = 0 // or state would go on to time out somewhere now and then
		s.run(4 * time.Minute)
		s.wantAll(Reserved, senders*len(s.nodes))
		s.loss = 0.3
		for i := range senders {
			x := simSender(i)
			s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
		}
		// A lost PathTear leaves the rest of the path to expire, hop after hop.
		s.run(cleanup*time.Duration(len(s.nodes)) + time.Minute)
		s.wantGone()
	})
}

// Nothing is lost: the reservation is there within a round trip, and gone as fast.
func TestSimFast(t *testing.T) {
	s := newSim(t, 1, 4, Config{})
	s.add(simSender(0))
	s.run(2*4*s.delay + 4*20*time.Millisecond)
	s.wantAll(Reserved, 4)
	x := simSender(0)
	s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
	s.run(4 * s.delay)
	s.wantGone()
}

// A node falls silent: everything beyond it is gone within the cleanup time
// (RFC 2205 sections 2.3, 3.7); reservations before it as well.
func TestSimSilence(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		s := newSim(t, seed, 5, Config{})
		for i := range 4 {
			s.add(simSender(i))
		}
		s.run(5 * time.Second)
		s.wantAll(Reserved, 20)
		s.nodes[2].dead = true
		// Node 3 is the last that was refreshed. Its PathTear may be overtaken by its
		// own last PATH: node 4 then has a lifetime of its own.
		s.run(2*cleanup + time.Second)
		for i, n := range s.nodes {
			got := map[State]int{}
			for _, v := range n.n.Sessions(s.now) {
				got[v.State]++
			}
			switch {
			case i < 2 && (got[PathOnly] != 4 || n.held() != 0):
				t.Errorf("node %d: %v, %d held", i, got, n.held())
			case i > 2 && (len(got) != 0 || n.held() != 0):
				t.Errorf("node %d: %v, %d held", i, got, n.held())
			}
		}
		// It comes back with the state it had, and all recovers.
		s.nodes[2].dead = false
		s.run(2 * cleanup)
		s.wantAll(Reserved, 20)
	})
}

// Admission control somewhere refuses: the sender learns of it, and when there
// is room again soft state repairs all by itself (RFC 2205 section 3.1.8, RFC
// 5946 section 3.1).
func TestSimRefusalAndRecovery(t *testing.T) {
	for where := range 4 {
		s := newSim(t, uint64(where)+1, 4, Config{})
		full := func(Reserve) *Refusal {
			return &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
		}
		s.nodes[where].refuse = full
		s.add(simSender(0))
		s.run(5 * time.Second)
		v := s.nodes[0].n.Sessions(s.now)[0]
		if v.State != Rejected || v.Failure == nil || v.Failure.Code != wire.ErrAdmission || v.Failure.Value != wire.AdmissionBandwidth {
			t.Errorf("refused at %d: sender's view %v %v", where, v.State, v.Failure)
		}
		if last := s.nodes[3].n.Sessions(s.now)[0]; last.State != Rejected {
			t.Errorf("refused at %d: receiver's view %v %v", where, last.State, last.Failure)
		}
		s.run(10 * time.Minute) // and it stays so, without harm
		s.nodes[where].refuse = nil
		s.run((DefaultKb + 2) * DefaultRefresh)
		s.wantAll(Reserved, 4)
	}
}

// TSpec changes, loss, refusals and removals at random: the ledger never errs,
// and all is gone in the end.
func TestSimChaos(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64) {
		s := newSim(t, seed, 4, Config{Refresh: 10 * time.Second})
		s.loss, s.dup, s.delay = 0.15, 0.15, 300*time.Millisecond
		for _, n := range s.nodes {
			n.refuse = func(Reserve) *Refusal {
				if s.rng.Float64() < 0.2 {
					return &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
				}
				return nil
			}
		}
		up := map[int]bool{}
		for range 400 {
			i := s.rng.IntN(8)
			x := simSender(i)
			if up[i] && s.rng.Float64() < 0.3 {
				s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
				delete(up, i)
			} else {
				x.TSpec.Rate = float64(5000 + 1000*s.rng.IntN(10))
				s.add(x)
				up[i] = true
			}
			if s.rng.Float64() < 0.02 {
				n := s.nodes[1+s.rng.IntN(2)]
				n.do(n.n.Shutdown(s.now))
			}
			s.run(time.Duration(s.rng.Int64N(int64(4 * time.Second))))
		}
		t.Logf("%d messages in %v", s.messages, s.now.Sub(epoch))
		for i := range up {
			x := simSender(i)
			s.nodes[0].do(s.nodes[0].n.RemoveSender(s.now, x.Session, x.Filter))
		}
		s.run(10 * time.Minute)
		s.wantGone()
	})
}

// A guaranteed-service request travels as it is.
func TestSimGuaranteed(t *testing.T) {
	s := newSim(t, 1, 3, Config{})
	want := intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: tspec, RSpec: intserv.RSpec{Rate: 16000, Slack: 7}}
	s.nodes[2].env.proxy = func(PathInfo) (ReserveSpec, bool) { return ReserveSpec{FlowSpec: want}, true }
	for _, n := range s.nodes {
		n.env.guaranteed = true
	}
	s.add(simSender(0))
	s.run(5 * time.Second)
	s.wantAll(Reserved, 3)
	if got := s.nodes[0].n.Sessions(s.now)[0].FlowSpec; *got != want {
		t.Errorf("%v", got)
	}
}

// RESV_CONFIRM reaches the sender proxy, ResvConf comes back (RFC 2205 section 3.1.9).
func TestSimConfirm(t *testing.T) {
	s := newSim(t, 1, 4, Config{})
	s.nodes[3].env.proxy = func(i PathInfo) (ReserveSpec, bool) {
		spec, _ := sayYes(i)
		spec.Confirm = true
		return spec, true
	}
	s.add(simSender(0))
	s.run(3 * time.Second)
	if v := s.nodes[3].n.Sessions(s.now)[0]; !v.Confirmed {
		t.Errorf("not confirmed: %+v", v)
	}
	before := s.nodes[0].n.Counters().Out[wire.ResvConf]
	s.run(5 * time.Minute)
	if after := s.nodes[0].n.Counters().Out[wire.ResvConf]; before != 1 || after != 1 {
		t.Errorf("%d, then %d confirmations", before, after)
	}
}
