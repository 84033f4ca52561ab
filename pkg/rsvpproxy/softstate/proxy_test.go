package softstate

import (
	"errors"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func (r *rig) add(s Sender) []Effect {
	r.t.Helper()
	es, err := r.n.AddSender(r.now, s)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.checked(es)
}

var host = Sender{Session: sess, Filter: filter, TSpec: tspec, In: left}

// RFC 5945, sender proxy; RFC 2205 section 3.1.3: PATH from the sender's address.
func TestSenderProxy(t *testing.T) {
	r := newRig(t, Config{})
	es := r.add(host)
	s := onlySend(t, es, wire.Path)
	if s.Src != srcHost || s.Dst != dstHost || s.Out != right || s.TTL != DefaultTTL || s.Msg.SendTTL != DefaultTTL || !s.RouterAlert {
		t.Errorf("%s", dump(es))
	}
	if *s.Msg.SenderTemplate != filter || *s.Msg.SenderTSpec != tspec || *s.Msg.Hop != (wire.Hop{Addr: rightAdr, LIH: 2}) {
		t.Errorf("%s", dump(es))
	}
	a := s.Msg.AdSpec
	if a == nil || a.General.Hops != 1 || a.General.MTU != 1500 || a.ControlledLoad == nil || a.Guaranteed != nil || a.Break {
		t.Errorf("adspec %+v", a)
	}
	if es := r.add(host); len(es) != 0 {
		t.Errorf("twice the same: %s", dump(es))
	}
	es = r.resv(withConfirm("10.2.0.1"))
	v := only[Reserve](t, es)
	if v.Role != SenderProxy || v.Out != right || !v.Police.Entry { // section 3.8: we police first
		t.Errorf("%+v", v)
	}
	es = r.checked(r.n.ReserveResult(r.now, v.ID, nil))
	noSend(t, es, wire.Resv) // the host knows nothing of it
	onlySend(t, es, wire.ResvConf)
	if e := only[Event](t, es); e.State != Reserved || e.Role != SenderProxy || e.Reservation != v.ID || e.Out != right || e.In != left {
		t.Errorf("%+v", e)
	}
	if x := r.view(); x.PrevHop.IsValid() || x.Expires != 0 {
		t.Errorf("%+v", x)
	}
	// A new TSpec is announced at once.
	bigger := host
	bigger.TSpec.Rate = 15000
	if s := onlySend(t, r.add(bigger), wire.Path); s.Msg.SenderTSpec.Rate != 15000 {
		t.Error("old TSpec")
	}
	es = r.checked(r.n.RemoveSender(r.now, sess, filter))
	if s := onlySend(t, es, wire.PathTear); s.Src != srcHost || s.Dst != dstHost || s.TTL != DefaultTTL || !s.RouterAlert {
		t.Errorf("%s", dump(es))
	}
	if only[Release](t, es).ID != v.ID || !only[Event](t, es).Gone {
		t.Errorf("%s", dump(es))
	}
	if _, ok := r.n.NextDeadline(); ok {
		t.Error("timers left")
	}
}

// A sender proxy's session ends with a ResvTear from downstream, and starts again.
func TestSenderProxyResvTear(t *testing.T) {
	r := newRig(t, Config{})
	r.add(host)
	r.grant(r.resv())
	es := r.in(right, nextHop, rightAdr, resvTear())
	noSend(t, es)
	only[Release](t, es)
	if e := only[Event](t, es); e.State != PathOnly || e.Previous != Reserved {
		t.Errorf("%+v", e)
	}
	r.grant(r.resv())
	r.wantState(Reserved)
}

// RFC 5946 section 3: a PathErr tells the sender proxy what happened to the
// reservation. It changes no state (RFC 2205 section 3.1.7) and is forgotten.
func TestSenderProxyPathErr(t *testing.T) {
	r := newRig(t, Config{})
	r.add(host)
	e := &wire.Message{
		Type: wire.PathErr, Session: sess, SenderTemplate: &filter, SenderTSpec: &tspec,
		ErrorSpec: &wire.ErrorSpec{Node: nextHop, Code: wire.ErrReceiverProxy, Value: 1<<8 | 4},
	}
	es := r.in(right, nextHop, rightAdr, e)
	noSend(t, es)
	if v := only[Event](t, es); v.State != Rejected || v.Failure.Code != wire.ErrReceiverProxy {
		t.Errorf("%+v", v)
	}
	if v := r.view(); v.Error() != "receiver proxy: no such sender for this reservation (code 36 value 260) at 198.51.100.2" {
		t.Errorf("%q", v.Error())
	}
	r.run(DefaultKb * DefaultRefresh)
	r.wantState(PathOnly)
	r.grant(r.resv())
	r.in(right, nextHop, rightAdr, e)
	r.wantState(Reserved)
	if r.view().Failure == nil {
		t.Error("error not shown")
	}
}

func TestSenderProxyRefused(t *testing.T) {
	r := newRig(t, Config{})
	r.add(host)
	es := r.refuse(r.resv(), Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth})
	if e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec; e.Code != 1 || e.Value != 2 || e.Flags != 0 || e.Node != rightAdr {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Rejected)
}

// What was found here is told with its reason, and not with the receiver's proxy's
// answer to it (RFC 5946 section 3.1), which has only the code. What that found
// itself, and what nobody finds here any more, is told as it comes.
func TestSenderProxyTellsWhy(t *testing.T) {
	r := newRig(t, Config{})
	r.add(host)
	answer := func(value uint16) *wire.Message {
		return &wire.Message{
			Type: wire.PathErr, Session: sess, SenderTemplate: &filter, SenderTSpec: &host.TSpec,
			ErrorSpec: &wire.ErrorSpec{Node: nextHop, Code: wire.ErrAdmission, Value: value},
		}
	}
	full := Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: "the level is full"}
	wants := func(words string) {
		t.Helper()
		if v := r.view(); !strings.HasPrefix(v.Error(), words) {
			t.Errorf("%q, want %q", v.Error(), words)
		}
	}
	r.refuse(r.resv(), full)
	r.in(right, nextHop, rightAdr, answer(wire.AdmissionBandwidth))
	wants("the level is full (code 1 value 2) at ")
	r.in(right, nextHop, rightAdr, answer(wire.AdmissionDelay))
	wants("delay bound cannot be met (code 1 value 1)")
	r.refuse(r.resv(), full)
	r.run(DefaultKb * DefaultRefresh / 2)
	r.in(right, nextHop, rightAdr, answer(wire.AdmissionBandwidth))
	wants("the level is full")
	r.run(DefaultKb * DefaultRefresh)
	r.in(right, nextHop, rightAdr, answer(wire.AdmissionBandwidth))
	wants("requested bandwidth unavailable (code 1 value 2)")
}

func TestAddSenderErrors(t *testing.T) {
	r := newRig(t, Config{Limits: Limits{Sessions: 2}})
	r.path(func(m *wire.Message) { m.SenderTemplate = &wire.Filter{Src: srcHost, SrcPort: 1} })
	tests := []struct {
		name   string
		change func(*Sender)
		want   error
	}{
		{"speaks RSVP", func(s *Sender) { s.Filter.SrcPort = 1 }, ErrSpeaksRSVP},
		{"ipv6", func(s *Sender) { s.Session.Dst = addr("2001:db8::1") }, ErrUnsupported},
		{"multicast", func(s *Sender) { s.Session.Dst = addr("239.0.0.1") }, ErrUnsupported},
		{"RFC 2205 3.2 rule 2", func(s *Sender) { s.Session.DstPort = 0 }, ErrPorts},
		{"RFC 2205 3.2 rule 1", func(s *Sender) { s.Session.DstPort, s.Filter.SrcPort = 0, 0 }, ErrPorts},
		{"RFC 2205 3.2 rule 3", func(s *Sender) { s.Filter.SrcPort = 0 }, ErrPorts},
		{"tspec", func(s *Sender) { s.TSpec.Rate = -1 }, ErrInvalid},
		{"protocol 0", func(s *Sender) { s.Session.Protocol = 0 }, ErrInvalid},
	}
	for _, tt := range tests {
		s := host
		tt.change(&s)
		if es, err := r.n.AddSender(r.now, s); !errors.Is(err, tt.want) || len(es) != 0 {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	s := host
	s.Session.DstPort = 1
	r.add(s)
	s.Session.DstPort = 2
	if _, err := r.n.AddSender(r.now, s); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v", err)
	}
	if err := r.n.check(); err != nil {
		t.Error(err)
	}
}

// A PATH for a sender that we speak for: from the network it is a loop, from the
// sender's side somebody nearer speaks for it (RFC 5945: then we are a hop).
func TestSenderProxyMeetsPath(t *testing.T) {
	r := newRig(t, Config{})
	r.add(host)
	m := pathMsg()
	m.Hop.Addr = nextHop
	if es := r.in(right, srcHost, dstHost, m); len(es) != 0 || r.n.Counters().Dropped[DropLoop] != 1 {
		t.Errorf("%s", dump(es))
	}
	es := r.path()
	if e := only[Event](t, es); e.Role != Transit {
		t.Errorf("%+v", e)
	}
	if s := onlySend(t, es, wire.Path); s.TTL != 59 {
		t.Errorf("%s", dump(es))
	}
}
