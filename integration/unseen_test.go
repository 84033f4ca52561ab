package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// inRow is the configuration of box i of any row.
func (l *lab) inRow(i int, policies string) config {
	c := l.edge(min(i, 1), policies, "")
	if i > 0 && i < len(l.boxes)-1 {
		c.hosts, c.network = nil, []string{leftWAN, rightWAN}
	}
	c.bridge = l.forms[i] != routed
	return c
}

// hops is the way that the boxes show, in the order of the row.
func hops(rows []console.SessionRow) string {
	var list []string
	for _, r := range rows {
		list = append(list, r.PrevHop+">"+r.NextHop)
	}
	return strings.Join(list, " ")
}

// A call is reserved for over boxes of all forms. On their way RSVP messages have the
// addresses of hosts and routers, and frames those of their Ethernet interfaces: of a
// transparent box there is nothing to be seen. Each box shows the nearest that is to be
// seen as its hops, and the end of the first is that of all.
func TestTransparentHops(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		name  string
		forms []form
		hop   string // of routers
		want  string // A, B, their gateways, and the ends of the link between routers
	}{
		{"two bridges", []form{bridged, bridged}, "", ">B A>"},
		{"three bridges", []form{bridged, adopted, bridged}, "", ">B A>B A>"},
		{"bridge and router", []form{bridged, routed}, "", ">GA A>"},
		{"router and bridge", []form{routed, bridged}, "", ">B GB>"},
		{"bridge between routers", []form{routed, bridged, routed}, "", ">R2 R1>R2 R1>"},
		{"transparent routers", []form{routed, routed}, "transparent", ">B A>"},
	} {
		// Each row in one family, in turn; in both in the long form.
		for _, v6 := range []bool{i%2 == 0, i%2 != 0}[:soak(1, 2)] {
			t.Run(fmt.Sprintf("%s/v6=%v", tt.name, v6), func(t *testing.T) {
				t.Parallel()
				l := newMixedLab(t, tt.forms, nil)
				src, dst, rsvp := addrA, addrB, isRSVP
				names := strings.NewReplacer("GA", "10.1.0.1", "GB", "10.2.0.1", "A", addrA.String(), "B", addrB.String(), "R1", "10.9.0.1", "R2", "10.9.0.2")
				if v6 {
					src, dst, rsvp = addrA6, addrB6, isRSVP6
					names = strings.NewReplacer("GA", "fd00:1::1", "GB", "fd00:2::1", "A", addrA6.String(), "B", addrB6.String(), "R1", "fd00:9::1", "R2", "fd00:9::2")
				}
				var configs []string
				var wires []*traffic.Capture
				for i, b := range l.boxes {
					c := l.inRow(i, voicePolicy)
					c.hop, c.reliable = tt.hop, tt.hop == "" // of routers: with a hop that nobody sees they find out that it has no RFC 2961
					configs = append(configs, c.String())
					if i > 0 {
						wires = append(wires, capture(t, b.ns, l.leftEnd(i).Name, rsvp))
					}
				}
				wires = append(wires, capture(t, l.a, hostIface, rsvp), capture(t, l.b, hostIface, rsvp))
				voice, toA := capture(t, l.b, hostIface, toPort(portVoice)), capture(t, l.a, hostIface, isICMP)
				l.startAll(t, configs...)
				end := l.talkTo(t, netip.AddrPortFrom(dst, portVoice), 60*time.Second)
				rows := make([]console.SessionRow, len(l.boxes))
				for i, b := range l.boxes {
					rows[i] = b.waitSession(t, portVoice, console.SessionReserved)
				}
				if got, want := hops(rows), names.Replace(tt.want); got != want {
					t.Errorf("hops %q, want %q", got, want)
				}
				waitFrame(t, voice, "voice marked at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
				time.Sleep(3 * time.Second) // three periods of refreshes
				for _, b := range l.boxes {
					if row := b.waitSession(t, portVoice, console.SessionReserved); row.Error != "" {
						t.Errorf("%s: %+v", b.name, row)
					}
				}
				end().check(t)
				l.boxes[0].stop(t)
				for _, b := range l.boxes[1:] {
					b.waitNoSession(t, portVoice)
				}
				known := l.visible(t, tt.hop == "", src, dst)
				for i, c := range wires {
					frames := captured(t, c)
					if len(frames) == 0 && i < len(wires)-2 {
						t.Errorf("no RSVP on link %d", i)
					}
					for _, f := range frames {
						if err := known.check(f.Data); err != nil {
							t.Errorf("link %d: %v", i, err)
						}
					}
				}
				if tt.forms[len(tt.forms)-1] == bridged || tt.hop != "" {
					checkUnaware(t, "B", wires[len(wires)-1])
				}
				if got := refusals(t, toA); got > 0 {
					t.Errorf("%d ICMP errors about RSVP came to A, who has sent none", got)
				}
			})
		}
	}
}

// visible are the addresses that may be seen in RSVP messages and their frames.
type visible struct {
	ips  map[netip.Addr]bool
	macs [][]byte
}

// visible is what hosts and routers have; routers speak RSVP with their addresses if
// they are hops.
func (l *lab) visible(t *testing.T, hops bool, hosts ...netip.Addr) visible {
	t.Helper()
	v := visible{ips: map[netip.Addr]bool{}}
	add := func(end netns.End) {
		mac, err := end.NS.HardwareAddr(end.Name)
		if err != nil {
			t.Fatal(err)
		}
		v.macs = append(v.macs, mac)
		for _, p := range end.Addrs {
			if l.a == end.NS || l.b == end.NS || hops {
				v.ips[p.Addr()] = true
			}
		}
	}
	add(l.hostA())
	add(l.hostB())
	for i, f := range l.forms {
		if f == routed {
			add(l.leftEnd(i))
			add(l.rightEnd(i))
		}
	}
	return v
}

func (v visible) check(frame []byte) error {
	p, err := packet.Parse(frame[ethernet:])
	if err != nil {
		return err
	}
	m, err := wire.Options{RefreshReduction: true}.Parse(p.Transport())
	if err != nil {
		return err
	}
	ips := []netip.Addr{p.Src(), p.Dst()}
	if m.Hop != nil {
		ips = append(ips, m.Hop.Addr)
	}
	if m.ErrorSpec != nil {
		ips = append(ips, m.ErrorSpec.Node)
	}
	for _, a := range ips {
		if !v.ips[a] {
			return fmt.Errorf("%v from %s to %s: %s may not be seen", m.Type, p.Src(), p.Dst(), a)
		}
	}
	for i := 0; i < 12; i += 6 {
		known := false
		for _, mac := range v.macs {
			known = known || bytes.Equal(mac, frame[i:i+6])
		}
		if !known {
			return fmt.Errorf("%v in a frame from %x to %x", m.Type, frame[6:12], frame[:6])
		}
	}
	return nil
}

// Two hosts speak RSVP end to end, over two bridges: each sees the other as its hop,
// with the handle of a box, and its own comes back with what is for it. The boxes
// reserve, and what is not theirs, though it is RSVP between the same two, goes by as it
// was.
func TestHostsSpeakOverBridges(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 2, nil)
	l.startPlainEdges(t, voicePolicy)
	ping(t, l.a, addrB)
	toA, toB := capture(t, l.a, hostIface, isRSVP), capture(t, l.b, hostIface, isRSVP)
	said := pathOfHost(2000)
	say(t, l.a, addrB, said)
	path, frame := waitMessage(t, toB, wire.Path)
	v, err := packet.Parse(frame[ethernet:])
	if err != nil {
		t.Fatal(err)
	}
	if path.Session.DstPort != portOther || path.Hop.Addr != addrA || path.Hop.LIH == said.Hop.LIH || path.Hop.LIH == 0 || v.Src() != addrA || v.TTL() != 64 || path.SendTTL != 64 {
		t.Errorf("PATH from %s, TTL %d, hop %+v: %+v", v.Src(), v.TTL(), path.Hop, path)
	}
	stop := answer(t, l.b, addrA, resvOf(t, path, addrB, wire.FF))
	resv, frame := waitMessage(t, toA, wire.Resv)
	if v, err = packet.Parse(frame[ethernet:]); err != nil {
		t.Fatal(err)
	}
	if v.Src() != addrB || *resv.Hop != (wire.Hop{Addr: addrB, LIH: said.Hop.LIH}) || len(resv.Flows) != 1 {
		t.Errorf("RESV from %s, hop %+v: %+v", v.Src(), resv.Hop, resv)
	}
	for _, b := range l.boxes {
		row := b.waitSession(t, portOther, console.SessionReserved)
		if row.Role != "transit" || row.PrevHop != addrA.String() || row.NextHop != addrB.String() {
			t.Errorf("%s: %+v", b.name, row)
		}
	}
	noErrors(t, "at A", toA)
	// An error of the sending host for the receiving one crosses both boxes, and so does
	// one for a session that no box has heard of.
	fail := &wire.Message{
		Type: wire.ResvErr, Session: resv.Session, Hop: &wire.Hop{Addr: addrA, LIH: said.Hop.LIH}, Style: wire.FF, Flows: resv.Flows,
		ErrorSpec: &wire.ErrorSpec{Node: addrA, Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth},
	}
	say(t, l.a, addrB, fail)
	if got, _ := waitMessage(t, toB, wire.ResvErr); got.Hop.LIH == said.Hop.LIH || got.ErrorSpec.Node != addrA {
		t.Errorf("ResvErr of a session of ours: %+v", got.Hop)
	}
	stray := capture(t, l.b, hostIface, isRSVP)
	fail.Session.DstPort++
	say(t, l.a, addrB, fail)
	if got, _ := waitMessage(t, stray, wire.ResvErr); *got.Hop != *fail.Hop || got.Session.DstPort != portOther+1 {
		t.Errorf("ResvErr of others: %+v", got)
	}
	// The receiver takes it back.
	stop()
	tear, err := wire.Parse(resvOf(t, path, addrB, wire.FF))
	if err != nil {
		t.Fatal(err)
	}
	tear.Type, tear.TimeValues, tear.Flows[0].FlowSpec = wire.ResvTear, nil, nil
	say(t, l.b, addrA, tear)
	if got, _ := waitMessage(t, toA, wire.ResvTear); *got.Hop != (wire.Hop{Addr: addrB, LIH: said.Hop.LIH}) {
		t.Errorf("ResvTear %+v", got.Hop)
	}
}

// pathOfHost is a PATH of host A for a flow that no policy claims.
func pathOfHost(refresh uint32) *wire.Message {
	tspec := intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400}
	return &wire.Message{
		Type: wire.Path, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: portOther}, Hop: &wire.Hop{Addr: addrA, LIH: 5},
		TimeValues: &wire.TimeValues{Refresh: refresh}, SenderTemplate: &wire.Filter{Src: addrA, SrcPort: 4000}, SenderTSpec: &tspec,
	}
}

// RFC 2205 section 3.3: a message that is longer than the MTU comes in fragments, and
// leaves in fragments. No kernel puts them together on a bridge; the boxes do, and the
// unknown object that makes it long travels on (section 3.10).
func TestFragmentsOfRSVPOverBridgesRFC2205Section3_3(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 2, nil)
	l.startPlainEdges(t, voicePolicy)
	ping(t, l.a, addrB)
	toB := capture(t, l.b, hostIface, isRSVP)
	said := pathOfHost(5000)
	said.Unknown = []wire.Object{{Class: 0xfb, CType: 1, Body: random(3, 3000)}}
	say(t, l.a, addrB, said)
	for _, b := range l.boxes {
		eventually(t, 8*time.Second, b.name+": the session", func() error {
			rows, err := b.Sessions(t.Context())
			if err == nil && (len(rows) != 1 || rows[0].Dport != portOther || rows[0].PrevHop != addrA.String()) {
				err = fmt.Errorf("sessions %+v", rows)
			}
			return err
		})
	}
	frames := captured(t, toB)
	var body []byte
	for _, f := range frames { // in order: it is a cable
		if v, err := packet.Parse(f.Data[ethernet:]); err == nil && v.Fragment() && v.Src() == addrA {
			body = append(body, v.Transport()...)
		}
	}
	if !bytes.Contains(body, said.Unknown[0].Body) {
		t.Errorf("%d frames with %d bytes came to B, and not what A has said", len(frames), len(body))
	}
	for _, b := range l.boxes {
		s, err := b.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.RSVP.Errors.SendFailed != 0 {
			t.Errorf("%s: %+v", b.name, s.RSVP.Errors)
		}
	}
}

// A bridge in the middle of a row, and those at its ends, are killed and come back with
// nothing: the flow stays marked, the others' reservations stand, and what they go on
// saying to the hosts finds the box again by its handle.
func TestTransparentBoxComesBack(t *testing.T) {
	t.Parallel()
	l := newBridgedLab(t, 3, nil)
	var configs []string
	for i := range l.boxes {
		configs = append(configs, strings.Replace(l.inRow(i, voicePolicy).String(), "on_crash: 5s", "on_crash: 60s", 1))
	}
	atA, voice := capture(t, l.a, hostIface, isRSVP), capture(t, l.b, hostIface, toPort(portVoice))
	l.startAll(t, configs...)
	end := l.talk(t, portVoice, 60*time.Second)
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
	}
	waitFrame(t, voice, "voice marked at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
	before := heardSo(t, voice)
	for _, i := range []int{1, 2, 0} {
		b := l.boxes[i]
		if i == 0 { // while it is dead nobody is there to take what is said to A
			for _, kind := range kinds(t, atA) {
				t.Errorf("%s came to A", kind)
			}
		}
		b.kill(t)
		b.start(t, configs[i])
		eventually(t, 10*time.Second, b.name+": its session", func() error {
			for j, o := range l.boxes {
				rows, err := o.Sessions(t.Context())
				if err != nil {
					return err
				}
				reserved := len(rows) == 1 && rows[0].State == console.SessionReserved
				if !reserved && j != i {
					t.Fatalf("%s: %+v while %s comes back", o.name, rows, b.name)
				}
				if !reserved && j == i {
					return fmt.Errorf("sessions %+v", rows)
				}
			}
			return nil
		})
		b.lookedAtNone(t)
	}
	time.Sleep(300 * time.Millisecond) // what is on its way
	frames := captured(t, voice)
	unmarked := 0
	for _, f := range frames[before:] {
		if dscpOf(f.Data) != dscp.VoiceAdmit {
			unmarked++
		}
	}
	// A packet is unmarked where it exceeds the TSpec: on a busy machine some may come
	// as a burst. No other is.
	exceeded := uint64(0)
	for _, b := range l.boxes {
		row, err := b.flowFrom(t, addrA, portVoice)
		if err != nil {
			t.Fatal(err)
		}
		exceeded += row.ExceedPackets
	}
	if n := len(frames) - before; uint64(unmarked) > exceeded || n < 50 {
		t.Errorf("%d of %d voice packets went unmarked, and %d have exceeded their TSpec", unmarked, n, exceeded)
	}
	t.Logf("%d unmarked, %d exceeded", unmarked, exceeded)
	end().check(t)
}

// A group over two bridges: PATH comes to the listener as the data do, and its RESV
// brings the reservation. For a listener that does not reserve the boxes have no name to
// do it with, and the one on their side says so.
func TestGroupOverBridges(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			t.Parallel()
			l := newBridgedLab(t, 2, nil)
			tr := &tree{lab: l, v6: v6, group: netip.MustParseAddr("239.1.2.3")}
			a, b, rsvp, groups := addrA, addrB, isRSVP, "224.0.0.0/4"
			if v6 {
				tr.group = netip.MustParseAddr("ff3e::239:1")
				a, b, rsvp, groups = addrA6, addrB6, isRSVP6, "ff30::/12"
			}
			for _, p := range on(groups) {
				if err := l.a.OnLink(p, hostIface); err != nil {
					t.Fatal(err)
				}
			}
			// The listener asks for a little more than the usual rate: so does the sender.
			l.startPlainEdges(t, strings.Replace(voicePolicy, "rate: 80kbit", "rate: 88kbit", 1))
			toB, voice := capture(t, l.b, hostIface, rsvp), capture(t, l.b, hostIface, toPort(portVoice))
			tr.listen(t, l.b)
			end := tr.talkAll(t, l.a)
			path, frame := waitMessage(t, toB, wire.Path)
			v, err := packet.Parse(frame[ethernet:])
			if err != nil {
				t.Fatal(err)
			}
			if v.Dst() != tr.group || v.Src() != a || path.Hop.Addr != a || path.SendTTL != v.TTL() || frame[0]&1 == 0 {
				t.Errorf("PATH from %s to %s (%x), hop %+v", v.Src(), v.Dst(), frame[:6], path.Hop)
			}
			eventually(t, 8*time.Second, "box 2 says why not", func() error {
				rows, err := l.boxes[1].Sessions(t.Context())
				if err == nil && (len(rows) != 1 || !strings.Contains(rows[0].Error, "no address") || rows[0].State != console.SessionRejected) {
					err = fmt.Errorf("sessions %+v", rows)
				}
				return err
			})
			stop := answer(t, l.b, a, resvOf(t, path, b, wire.FF))
			defer stop()
			var rows []console.SessionRow
			for _, box := range l.boxes {
				rows = append(rows, box.waitSession(t, portVoice, console.SessionReserved))
			}
			if got, want := hops(rows), fmt.Sprintf(">%s %s>%s", b, a, b); got != want {
				t.Errorf("hops %q, want %q", got, want)
			}
			waitFrame(t, voice, "voice marked at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
			end()
		})
	}
}
