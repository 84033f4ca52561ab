package softstate

import (
	"errors"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// All that holds for sessions of ports holds for those that an SPI (RFC 2207), a
// DSCP (RFC 3175) or a PHB (RFC 4860) names: styles, merging, errors, SCOPE,
// blockade, reduction (RFC 4495 section 5.5).
// RFC 2207 sections 4.2 and 4.2.2 (wildcard style) are in it by the cases of RFC 2205.
func TestConformanceFormats(t *testing.T) {
	for _, format := range []wire.Format{wire.FormatGPI, wire.FormatAggregate, wire.FormatGenericAggregate} {
		t.Run(map[wire.Format]string{
			wire.FormatGPI: "RFC2207", wire.FormatAggregate: "RFC3175", wire.FormatGenericAggregate: "RFC4860",
		}[format], func(t *testing.T) {
			for _, list := range [][]conformance{styleCases, errorCases, multicastCases, reductionCases} {
				for i := range list {
					list[i].checkAs(t, format)
				}
			}
		})
	}
}

// named is a session of a format with a sender, in a unicast transit hop.
type named struct {
	name    string
	session wire.Session
	sender  wire.Filter
}

var (
	gpiSession = named{
		"RFC2207",
		wire.Session{Dst: dstHost, Protocol: wire.ProtoESP, DstPort: 8192, Format: wire.FormatGPI},
		wire.Filter{Src: srcHost, SPI: 0x1001, Format: wire.FormatGPI},
	}
	aggregateSession = named{
		"RFC3175",
		wire.Session{Dst: dstHost, DSCP: 46, Format: wire.FormatAggregate},
		wire.Filter{Src: srcHost, Format: wire.FormatAggregate},
	}
	genericSession = named{
		"RFC4860",
		wire.Session{Dst: dstHost, PHB: 0xb800, DstPort: 3, Extended: [16]byte{10, 1, 0, 1}, Format: wire.FormatGenericAggregate},
		wire.Filter{Src: srcHost, Format: wire.FormatAggregate},
	}
)

func (n named) path() func(*wire.Message) {
	return func(m *wire.Message) { m.Session, m.SenderTemplate = n.session, &n.sender }
}

func (n named) resv() func(*wire.Message) {
	return func(m *wire.Message) { m.Session, m.Flows[0].Filters = n.session, []wire.Filter{n.sender} }
}

// RFC 3175 sections 2.4, 2.7 and 2.10, RFC 4860 section 3.1, as far as they are an
// interior router's: it keeps state, forwards PATH and RESV with their C-Types, and ends
// it all with the PathTear.
func TestTransitOfFormats(t *testing.T) {
	for _, n := range []named{gpiSession, aggregateSession, genericSession} {
		t.Run(n.name, func(t *testing.T) {
			r := newRig(t, Config{})
			s := onlySend(t, r.path(n.path()), wire.Path)
			if s.Msg.Session != n.session || *s.Msg.SenderTemplate != n.sender || s.Dst != dstHost || s.Src != srcHost {
				t.Errorf("%+v", s)
			}
			es := r.grant(r.resv(n.resv()))
			v := only[Reserve](t, es)
			if v.Session != n.session || len(v.Filters) != 1 || v.Filters[0] != n.sender {
				t.Errorf("%+v", v)
			}
			if m := onlySend(t, es, wire.Resv).Msg; m.Session != n.session || m.Flows[0].Filters[0] != n.sender {
				t.Errorf("%+v", m)
			}
			if got, ok := r.n.Session(r.now, n.session, n.sender); !ok || got.State != Reserved {
				t.Errorf("%+v", got)
			}
			m := pathTear()
			n.path()(m)
			es = r.in(left, srcHost, dstHost, m)
			if onlySend(t, es, wire.PathTear).Msg.Session != n.session || only[Release](t, es).ID != v.ID {
				t.Errorf("%s", dump(es))
			}
			if _, ok := r.n.NextDeadline(); ok {
				t.Error("timers left")
			}
		})
	}
}

// What names a session, and what does not (RFC 3175 section 3.3, RFC 4860 section
// 3.1).
func TestFormatsAreSessionsApart(t *testing.T) {
	other := func(n named, change func(*named)) named { change(&n); return n }
	for name, list := range map[string][]named{
		"RFC2207/4.1/vDstPort tells sessions apart": {gpiSession, other(gpiSession, func(n *named) { n.session.DstPort++ })},
		"RFC2207/4.1/never merges with ports": {gpiSession, {
			session: wire.Session{Dst: dstHost, Protocol: wire.ProtoESP}, sender: wire.Filter{Src: srcHost},
		}},
		"RFC3175/3.3/DSCP tells aggregates apart": {aggregateSession, other(aggregateSession, func(n *named) { n.session.DSCP = 34 })},
		"RFC4860/2.1/vDstPort":                    {genericSession, other(genericSession, func(n *named) { n.session.DstPort = 0 })},
		"RFC4860/2.1/extended vDstPort":           {genericSession, other(genericSession, func(n *named) { n.session.Extended[3] = 9 })},
		"RFC4860/2.1/PHB":                         {genericSession, other(genericSession, func(n *named) { n.session.PHB = 0x2800 })},
		"RFC4860/2.1/is not that of RFC 3175":     {genericSession, aggregateSession},
	} {
		r := newRig(t, Config{})
		for _, n := range list {
			es := r.path(n.path())
			noSend(t, es, wire.PathErr)
			onlySend(t, es, wire.Path)
			only[Reserve](t, r.grant(r.resv(n.resv())))
		}
		if c := r.n.Counters(); c.Sessions != 2 || c.Reservations != 2 {
			t.Errorf("%s: %d sessions, %d reservations", name, c.Sessions, c.Reservations)
		}
	}
}

// RFC 2207 section 4.2.1: senders are the same only if address and SPI are, and
// section 4.1: a RESV with another SPI finds no sender.
func TestSPIOfSendersRFC2207Section4(t *testing.T) {
	r := newRig(t, Config{})
	second := gpiSession
	second.sender.SPI = 0x1000
	r.path(gpiSession.path())
	r.path(second.path())
	shared := func(m *wire.Message) {
		gpiSession.resv()(m)
		m.Style, m.Flows[0].Filters = wire.SE, []wire.Filter{gpiSession.sender, second.sender}
	}
	v := only[Reserve](t, r.grant(r.resv(shared)))
	if len(v.Filters) != 2 || v.Filters[0] != second.sender { // in the order of their SPIs
		t.Errorf("%+v", v.Filters)
	}
	r = newRig(t, Config{})
	r.path(gpiSession.path())
	es := r.resv(second.resv())
	if e := onlySend(t, es, wire.ResvErr).Msg; e.ErrorSpec.Code != wire.ErrNoSender || e.Flows[0].Filters[0] != second.sender {
		t.Errorf("%s", dump(es))
	}
	// Re-keying (section 6): a new SPI is a new sender of the session, beside the old.
	r.grant(r.resv(gpiSession.resv()))
	r.path(second.path())
	only[Reserve](t, r.grant(r.resv(second.resv())))
	if c := r.n.Counters(); c.Sessions != 1 || c.Senders != 2 || c.Reservations != 2 {
		t.Errorf("%+v", c)
	}
}

// RFC 2207 section 4.1: what the API refuses.
func TestSenderProxyOfFormats(t *testing.T) {
	for name, change := range map[string]func(*named){
		"conflicting C-Type":       func(n *named) { n.sender.Format = wire.FormatPorts },
		"no IPsec protocol":        func(n *named) { n.session.Protocol = 17 },
		"no virtual port":          func(n *named) { n.session.DstPort = 0 },
		"ports with an SPI filter": func(n *named) { n.session.Format = wire.FormatPorts },
	} {
		n := gpiSession
		change(&n)
		r := newRig(t, Config{})
		if _, err := r.n.AddSender(r.now, Sender{Session: n.session, Filter: n.sender, TSpec: tspec, In: left}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []named{gpiSession, aggregateSession, genericSession} {
		r := newRig(t, Config{})
		es := r.add(Sender{Session: n.session, Filter: n.sender, TSpec: tspec, In: left})
		if m := onlySend(t, es, wire.Path).Msg; m.Session != n.session || *m.SenderTemplate != n.sender {
			t.Errorf("%s: %+v", n.name, m)
		}
		only[Reserve](t, r.grant(r.resv(n.resv())))
	}
	// The receiver proxy answers in the session's format.
	r := proxyRig(t)
	es := r.grant(r.path(gpiSession.path()))
	if m := onlySend(t, es, wire.Resv).Msg; m.Session != gpiSession.session || m.Flows[0].Filters[0] != gpiSession.sender {
		t.Errorf("%+v", m)
	}
}

// RFC 2997: messages of the null service pass, and resources are not asked for.
// RFC 2997 sections 2 and 2.1.2.
func TestNullServiceRFC2997(t *testing.T) {
	null := intserv.FlowSpec{Service: intserv.Null, TSpec: intserv.TSpec{MaxPacket: 1400}}
	offered := func(m *wire.Message) {
		m.SenderTSpec = &intserv.TSpec{MaxPacket: 1400}
		m.AdSpec = &intserv.AdSpec{General: m.AdSpec.General, Unknown: []intserv.UnknownAd{{Service: intserv.Null}}}
	}
	asked := func(m *wire.Message) { m.Flows[0].FlowSpec = &null }
	r := newRig(t, Config{})
	m := onlySend(t, r.path(offered), wire.Path).Msg
	if !m.SenderTSpec.Null() || len(m.AdSpec.Unknown) != 1 || m.AdSpec.Unknown[0].Break {
		t.Errorf("%+v, ADSPEC %+v", m.SenderTSpec, m.AdSpec)
	}
	es := r.grant(r.resv(asked))
	if v := only[Reserve](t, es); v.FlowSpec != null || v.FlowSpec.Bandwidth() != 0 {
		t.Errorf("%+v", v)
	}
	if got := onlySend(t, es, wire.Resv).Msg.Flows[0].FlowSpec; *got != null {
		t.Errorf("%v", got)
	}
	// Offered beside a token bucket (section 2.1.3), and asked for with less M.
	r = newRig(t, Config{})
	r.path()
	less := null
	less.TSpec.MaxPacket = 900
	es = r.grant(r.resv(func(m *wire.Message) { m.Flows[0].FlowSpec = &less }))
	if v := only[Reserve](t, es); v.FlowSpec.TSpec.Rate != 0 || v.FlowSpec.TSpec.MaxPacket != 900 {
		t.Errorf("%+v", v)
	}
	// One service for all receivers (RFC 2210 section 2.2).
	es = r.resv(func(m *wire.Message) { m.Hop.Addr = addr("198.51.100.9") })
	if e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec; e.Code != wire.ErrTrafficControl || e.Value != wire.TCServiceConflict {
		t.Errorf("%+v", e)
	}
}
