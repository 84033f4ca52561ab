package rsvpproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func dreq(t *testing.T, started bool) []byte {
	t.Helper()
	d := &wire.Diag{
		Type: wire.DiagRequest, SendTTL: 9, Session: wire.Session{Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, DstPort: 9},
		Hop: wire.Hop{Addr: netip.MustParseAddr("10.9.0.2")},
		Diagnostic: wire.Diagnostic{
			PathMTU: 1500, LastHop: netip.MustParseAddr("10.2.0.2"), Sender: wire.Filter{Src: netip.MustParseAddr("10.1.0.2"), SrcPort: 8},
			Requester: wire.Filter{Src: netip.MustParseAddr("10.9.0.2"), SrcPort: 40000},
		},
	}
	if started {
		d.Diagnostic.FragmentOffset = 4
	}
	b, err := d.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 2745 section 4.1: a request that looks for its last hop concerns every
// node; once it has begun it concerns the one that it is addressed to, as does a
// reply.
func TestCaptureDiagnosticsRFC2745Section4_1(t *testing.T) {
	reply := dreq(t, false)
	reply[1] = byte(wire.DiagReply)
	binary.BigEndian.PutUint16(reply[2:], 0)
	for name, tt := range map[string]struct {
		msg  []byte
		dst  string
		want bool
	}{
		"fresh":           {dreq(t, false), "10.2.0.2", true},
		"fresh to us":     {dreq(t, false), "10.9.0.1", true},
		"begun":           {dreq(t, true), "10.2.0.2", false},
		"begun to us":     {dreq(t, true), "10.9.0.1", true},
		"reply to others": {reply, "10.2.0.2", false},
		"reply to us":     {reply, "10.9.0.1", true},
		"broken":          {message(t, wire.DiagRequest, "10.2.0.2")[20:], "10.2.0.2", false},
	} {
		p := testProxy(0)
		d := datagram{src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr(tt.dst), ttl: 9, payload: tt.msg}
		b, err := d.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Capture(time.Now(), b, 1); got != tt.want || len(p.in) == 1 != tt.want {
			t.Errorf("%s: consumed %v, want %v", name, got, tt.want)
		}
	}
}

// sent are the IP packets that a proxy sends.
type sentPackets [][]byte

func (s *sentPackets) SendVia(b []byte, _ int) error {
	*s = append(*s, slices.Clone(b))
	return nil
}

type noTraffic struct{}

func (noTraffic) Reserve(softstate.Reserve) *softstate.Refusal { return nil }
func (noTraffic) Release(uint64)                               {}
func (noTraffic) Torn(uint64)                                  {}

// loopback is a proxy between two interfaces, of which one has an address that
// can be answered to here.
func loopback(t *testing.T) *Proxy {
	t.Helper()
	p := New(Config{Node: softstate.Config{IPv6: true}}, Hooks{
		Traffic: noTraffic{}, Send: &sentPackets{}, Log: zap.NewNop(), Event: func(softstate.Event) {},
		ReceiverProxy: func(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
			return softstate.ReserveSpec{Style: wire.FF, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: i.TSpec}}, true
		},
	})
	p.SetInterfaces([]Interface{{Link: route.Link{Index: 1, MTU: 1400, Addr4: netip.MustParseAddr("127.0.0.1")}}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

// A box that is the last hop itself answers itself, by its own UDP port.
func TestTraceAlone(t *testing.T) {
	p := loopback(t)
	session := wire.Session{Dst: netip.MustParseAddr("127.0.0.9"), Protocol: 17, DstPort: 5004}
	filter := wire.Filter{Src: netip.MustParseAddr("10.1.0.2"), SrcPort: 4000}
	q := TraceQuery{Dst: session.Dst, Timeout: 2 * time.Second}
	if _, err := p.Trace(t.Context(), q); !errors.Is(err, ErrNoSession) {
		t.Errorf("%v", err)
	}
	add := func(f wire.Filter) {
		t.Helper()
		tspec := intserv.TSpec{Rate: 1000, Bucket: 1000, Peak: 2000, MinUnit: 64, MaxPacket: 1000}
		if err := p.AddSender(softstate.Sender{Session: session, Filter: f, TSpec: tspec, In: 1}, func(err error) { t.Error(err) }); err != nil {
			t.Fatal(err)
		}
	}
	add(filter)
	r, err := p.Trace(t.Context(), q)
	if err != nil || r.Outcome != diag.ReachedEnd || len(r.Hops) != 1 || r.Attempts != 1 || r.Session != session || r.Sender != filter {
		t.Fatalf("%+v %v", r, err)
	}
	if s := r.Hops[0].Report(); s.SenderTSpec == nil || s.SenderTSpec.Rate != 1000 || r.Hops[0].In != r.LastHop {
		t.Errorf("%+v", r.Hops[0])
	}
	v, err := p.View()
	if err != nil || v.Diag.RepliesOut != 1 || v.Diag.RequestsIn != 0 {
		t.Errorf("%+v %v", v.Diag, err)
	}
	other := filter
	other.SrcPort++
	add(other)
	_, err = p.Trace(t.Context(), q)
	if many, ok := errors.AsType[*AmbiguousError](err); !ok || len(many.Sessions) != 2 || many.Error() == "" {
		t.Errorf("%v", err)
	}
	q.SrcPort = other.SrcPort
	if r, err = p.Trace(t.Context(), q); err != nil || r.Sender != other {
		t.Errorf("%+v %v", r, err)
	}
	// Named in full, a session need not be known: the answer is that it is not.
	q = TraceQuery{Dst: session.Dst, Src: filter.Src, Protocol: 6, DstPort: 1, SrcPort: 2, Timeout: 2 * time.Second}
	if r, err = p.Trace(t.Context(), q); err != nil || r.Outcome != diag.NoPath {
		t.Errorf("%+v %v", r, err)
	}
}

// A trace that nobody answers ends with its caller, and there is a bound on how
// many run.
func TestTraceEnds(t *testing.T) {
	p := loopback(t)
	q := TraceQuery{
		Dst: netip.MustParseAddr("192.0.2.9"), Src: netip.MustParseAddr("10.1.0.2"), Protocol: 17, DstPort: 1, SrcPort: 2,
		LastHop: netip.MustParseAddr("192.0.2.9"), Timeout: time.Hour,
	}
	if _, err := p.Trace(t.Context(), q); !errors.Is(err, ErrNoWay) { // no route, or by an interface that is none of ours
		t.Fatalf("%v", err)
	}
	q.LastHop = netip.MustParseAddr("127.0.0.1")
	q.Dst = netip.MustParseAddr("239.1.2.3")
	for range maxTraces {
		p.tracing <- struct{}{}
	}
	if _, err := p.Trace(t.Context(), q); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	for range maxTraces {
		<-p.tracing
	}
	q.LastHop = netip.Addr{}
	if _, err := p.Trace(t.Context(), q); !errors.Is(err, ErrNoLastHop) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	conn, nobody := listenLocal(t), netip.MustParseAddr("192.0.2.9")
	client := diag.NewClient(diag.Query{
		Session: wire.Session{Dst: nobody, Protocol: 17, DstPort: 1}, Sender: wire.Filter{Src: nobody, SrcPort: 2}, LastHop: nobody,
		Requester: wire.Filter{Src: netip.MustParseAddr("127.0.0.1"), SrcPort: 9}, Timeout: time.Hour,
	})
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	start := time.Now()
	if err := p.converse(ctx, conn, client); err != nil || client.Done() || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if r := client.Result(); r.Outcome != diag.NoAnswer || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
}

func listenLocal(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
