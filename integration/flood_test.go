package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// peer is an RSVP neighbour of a box that the test itself speaks for.
type peer struct {
	*traffic.Raw
	ns    *netns.NetNS
	addr  netip.Addr
	heard *traffic.Capture
}

// ring is a box with several neighbours on one segment, and B behind it:
//
//	quiet, loud, deaf, newborn --- lan0 box wan1 --- B
type ring struct {
	*lab
	quiet, loud, deaf, newborn peer
	down                       peer // B
}

func newRing(t *testing.T, c config) *ring {
	t.Helper()
	l := newLab(t, 1, nil)
	n := &ring{lab: l}
	segment, err := l.Namespace("segment")
	if err != nil {
		t.Fatal(err)
	}
	// A is not needed here; its cable makes way for the segment's.
	ports := []string{"box"}
	if err := netns.Veth(netns.End{NS: l.boxes[0].ns, Name: "seg0", Addrs: on("10.3.0.1/24")}, netns.End{NS: segment, Name: "box"}); err != nil {
		t.Fatal(err)
	}
	for i, p := range []*peer{&n.quiet, &n.loud, &n.deaf, &n.newborn} {
		name := fmt.Sprintf("peer%d", i)
		p.addr = netip.AddrFrom4([4]byte{10, 3, 0, byte(10 + i)})
		ns, err := l.Namespace(name)
		if err != nil {
			t.Fatal(err)
		}
		p.ns = ns
		err = errors.Join(
			netns.Veth(netns.End{NS: ns, Name: hostIface, Addrs: []netip.Prefix{netip.PrefixFrom(p.addr, 24)}}, netns.End{NS: segment, Name: name}),
			ns.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.3.0.1")),
		)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, name)
	}
	if err := segment.Bridge("br0", ports...); err != nil {
		t.Fatal(err)
	}
	n.down = peer{ns: l.b, addr: addrB}
	for _, p := range []*peer{&n.quiet, &n.loud, &n.deaf, &n.newborn, &n.down} {
		var err error
		if p.Raw, err = traffic.OpenRaw(p.ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		p.heard = capture(t, p.ns, hostIface, incomingRSVP)
	}
	n.watch(t, "seg0", rightWAN)
	n.startAll(t, c.String())
	return n
}

func incomingRSVP(f []byte) bool { return isRSVP(f) }

// packetOf is an IP packet around an RSVP message.
func packetOf(t *testing.T, m *wire.Message, src, dst netip.Addr) []byte {
	t.Helper()
	m.SendTTL = 64
	payload, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if dst.Is6() {
		return packet6Of(m.Type.NeedsRouterAlert(), payload, src, dst)
	}
	header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 46, 0, 0}
	if m.Type.NeedsRouterAlert() {
		header[0] = 0x46
	}
	s, d := src.As4(), dst.As4()
	header = append(append(header, s[:]...), d[:]...)
	if m.Type.NeedsRouterAlert() {
		header = append(header, 0x94, 4, 0, 0)
	}
	b := append(header, payload...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:len(header)]))
	return b
}

// packet6Of is packetOf over IPv6.
func packet6Of(alert bool, payload []byte, src, dst netip.Addr) []byte {
	if alert { // RFC 2711 section 2.1
		payload = append([]byte{46, 0, 5, 2, 0, 0, 1, 0}, payload...)
	}
	b := []byte{0x60, 0, 0, 0, 0, 0, 46, 64}
	if alert {
		b[6] = 0
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), payload...)
}

// path is a PATH of a peer's own to B.
func (p *peer) path(t *testing.T, dport, sport uint16, change ...func(*wire.Message)) []byte {
	t.Helper()
	m := &wire.Message{
		Type: wire.Path, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: dport},
		Hop: &wire.Hop{Addr: p.addr, LIH: 7}, TimeValues: &wire.TimeValues{Refresh: 1000},
		SenderTemplate: &wire.Filter{Src: p.addr, SrcPort: sport},
		SenderTSpec:    &intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: 12_000, MinUnit: 64, MaxPacket: 1500},
	}
	for _, f := range change {
		f(m)
	}
	return packetOf(t, m, p.addr, addrB)
}

// resv answers a session's PATH for B.
func (n *ring) resv(t *testing.T, src netip.Addr, dport, sport uint16, lih uint32, change ...func(*wire.Message)) []byte {
	t.Helper()
	m := &wire.Message{
		Type: wire.Resv, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: dport},
		Hop: &wire.Hop{Addr: addrB, LIH: lih}, TimeValues: &wire.TimeValues{Refresh: 1000}, Style: wire.FF,
		Flows: []wire.FlowDescriptor{{
			FlowSpec: &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: 12_000, MinUnit: 64, MaxPacket: 1500}},
			Filters:  []wire.Filter{{Src: src, SrcPort: sport}},
		}},
	}
	for _, f := range change {
		f(m)
	}
	return packetOf(t, m, addrB, netip.MustParseAddr(boxDown))
}

// keep refreshes a session from both sides, twice in R, until the context ends.
func (n *ring) keep(ctx context.Context, t *testing.T, p *peer, dport uint16) (done chan error) {
	t.Helper()
	send := func(raw *traffic.Raw, b []byte) {
		if err := raw.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	path := p.path(t, dport, 4000)
	begin := time.Now()
	var lih uint32
	eventually(t, 8*time.Second, "PATH comes through", func() error {
		send(p.Raw, path)
		wait, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := n.down.heard.Wait(wait, frameAfter(begin, func(f []byte) bool {
			m, err := message(f)
			if err != nil || m.Type != wire.Path || m.Session.DstPort != dport {
				return false
			}
			lih = m.Hop.LIH
			return true
		}))
		return err
	})
	resv := n.resv(t, p.addr, dport, 4000, lih)
	send(n.down.Raw, resv)
	n.boxes[0].waitSession(t, dport, console.SessionReserved)
	done = make(chan error, 1)
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
				if err := errors.Join(p.Send(path), n.down.Send(resv)); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	return done
}

// A neighbour that floods with garbage and with valid PATHs, one that falls
// silent and one that restarts do not disturb a fourth: its session stays
// reserved, and what the box sends for it comes on time.
func TestNeighbourDoesNotDisturbOthers(t *testing.T) {
	const (
		flood = 20_000 // a second
		limit = 600    // limits.sessions
	)
	period := soak(5*time.Second, time.Minute)
	c := config{network: []string{"seg0", rightWAN}, capacity: "19mbit", policies: "  []\n", reliable: true, extra: fmt.Sprintf("limits: {sessions: %d}", limit)}
	n := newRing(t, c)
	box := n.boxes[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	kept := n.keep(ctx, t, &n.quiet, portQuiet)
	deafCtx, deafen := context.WithCancel(ctx)
	deaf := n.keep(deafCtx, t, &n.deaf, portQuiet+1)
	// One that speaks RFC 2961, and then comes back with another epoch.
	withEpoch := func(epoch, id uint32) func(*wire.Message) {
		return func(m *wire.Message) {
			m.Flags, m.TimeValues.Refresh = wire.RefreshReduction, 30_000
			m.MessageID = &wire.MessageID{Epoch: epoch, ID: id, AckDesired: true}
		}
	}
	if err := n.newborn.Send(n.newborn.path(t, portQuiet+2, 4000, withEpoch(100, 900))); err != nil {
		t.Fatal(err)
	}
	box.waitSession(t, portQuiet+2, console.SessionPath)

	// The loud one: every other packet is a new PATH, the others are garbage.
	floodCtx, dry := context.WithCancel(ctx)
	defer dry()
	template := n.loud.path(t, 9000, 1)
	fresh, broken := append([]byte(nil), template...), append([]byte(nil), template...)
	broken[24+40] ^= 0xff
	sentBy := make(chan int, 1)
	begin := time.Now()
	go func() {
		sent, err := n.loud.Repeat(floodCtx, flood, func(i int) []byte {
			if i%2 == 0 {
				return broken
			}
			// SESSION's port, at the end of the first object, with a checksum to it.
			binary.BigEndian.PutUint16(fresh[24+18:], uint16(10_000+i%40_000))
			binary.BigEndian.PutUint16(fresh[24+2:], 0)
			binary.BigEndian.PutUint16(fresh[24+2:], packet.Checksum(fresh[24:]))
			return fresh
		})
		if err != nil {
			t.Errorf("flood: %v", err)
		}
		sentBy <- sent
	}()
	deafen()
	if err := <-deaf; err != nil {
		t.Error(err)
	}
	if err := n.newborn.Send(n.newborn.path(t, portQuiet+2, 4000, withEpoch(200, 1), func(m *wire.Message) { m.SenderTSpec.Rate = 7000 })); err != nil {
		t.Fatal(err)
	}

	// Nothing disturbs the quiet one meanwhile.
	for time.Since(begin) < period {
		rows, err := box.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range rows {
			if r.Dport == portQuiet {
				found = r.State == console.SessionReserved
			}
		}
		if !found {
			t.Fatalf("%s into the flood the quiet session is not reserved", time.Since(begin))
		}
		time.Sleep(200 * time.Millisecond)
	}
	box.waitNoSession(t, portQuiet+1) // soft state: the deaf one's is gone
	row := box.waitSession(t, portQuiet+2, console.SessionPath)
	if row.TSpec == nil || row.TSpec.R != 7000 {
		t.Errorf("the restarted neighbour's session %+v: what it says with a new epoch counts (RFC 2961 section 4.6)", row)
	}
	dry()
	cancel()
	sent := <-sentBy
	if err := <-kept; err != nil {
		t.Error(err)
	}
	took := time.Since(begin)
	if rate := float64(sent) / took.Seconds(); rate < flood/2 {
		t.Errorf("the flood was only %.0f a second", rate)
	}

	// Refreshes towards both sides of the quiet session, R is 1 s: at most 1.5 R
	// apart (RFC 2205 section 3.7).
	for _, side := range []struct {
		p    *peer
		kind wire.MsgType
	}{{&n.down, wire.Path}, {&n.quiet, wire.Resv}} {
		longest := n.longestGap(t, side.p, side.kind, begin, begin.Add(took))
		t.Logf("longest wait for a %s: %s", side.kind, longest.Round(10*time.Millisecond))
		if longest > 2500*time.Millisecond {
			t.Errorf("no %s of the quiet session for %s", side.kind, longest)
		}
	}
	st, err := box.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := st.RSVP.Errors.Refused
	t.Logf("%d packets of flood in %s; refused %v", sent, took.Round(time.Millisecond), r)
	if r["rate"]+r["rate-strangers"] < uint64(sent)/3 || r["checksum"] == 0 || r["neighbor-share"] == 0 {
		t.Errorf("refused %v: want most of the flood above the rate, some with a bad checksum, and the rest above the share", r)
	}
	if lines := strings.Count(box.proc.Stderr(), "rsvp message refused"); lines > 20+int(took/time.Second) {
		t.Errorf("%d lines in the log about refused messages", lines)
	}
}

// longestGap is the longest time between two messages of the quiet session.
func (n *ring) longestGap(t *testing.T, p *peer, kind wire.MsgType, from, to time.Time) (longest time.Duration) {
	t.Helper()
	frames := captured(t, p.heard)
	last := from
	for _, f := range frames {
		if f.Outgoing || f.At.Before(from) || f.At.After(to) {
			continue
		}
		m, err := wire.Options{RefreshReduction: true}.Parse(payloadOf(f.Data))
		if err != nil || m.Type != kind || m.Session.DstPort != portQuiet {
			continue
		}
		longest, last = max(longest, f.At.Sub(last)), f.At
	}
	return max(longest, to.Sub(last))
}

// payloadOf is what a frame's IP packet carries.
func payloadOf(f []byte) []byte {
	if isIPv6(f) {
		v, err := packet.Parse(f[ethernet:])
		if err != nil {
			return nil
		}
		return v.Transport()
	}
	header := int(f[ethernet]&15) * 4
	total := int(binary.BigEndian.Uint16(f[ethernet+2:]))
	return f[ethernet+header : ethernet+total]
}
