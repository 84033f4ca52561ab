package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// What real Cisco senders say (their PATH and RESV in captures): m is 0 and M
// all that an int32 holds, a RESV has M=0, and the interface handle is no small
// number.
const (
	ciscoLIH  = 0x08000403
	portQuiet = 7000 // a session that nothing may disturb
)

var (
	ciscoTSpec    = []any{6000, 6000, 6000, 0, 0x7fffffff}
	ciscoFlowSpec = []any{6000, 6000, 6000, 0, 0}
)

// neighbours are A and B as RSVP nodes, which scapy speaks for, and one box
// between them.
type neighbours struct {
	*lab
	up, down *mouth // A, B
}

// The box's addresses towards A and B.
const (
	boxUp   = "10.1.0.1"
	boxDown = "10.2.0.1"
)

func newNeighbours(t *testing.T, c config) *neighbours {
	t.Helper()
	n := &neighbours{lab: newLab(t, 1, nil)}
	s := newSpeaker(t)
	for _, side := range []struct {
		m  **mouth
		of *lab
	}{{&n.up, n.lab}, {&n.down, n.lab}} {
		ns := n.a
		if side.m == &n.down {
			ns = n.b
		}
		raw, err := traffic.OpenRaw(ns)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = raw.Close() })
		*side.m = &mouth{Raw: raw, speaker: s, heard: capture(t, ns, hostIface, func(f []byte) bool {
			return isRSVP(f)
		})}
	}
	n.watch(t, lanIface, rightWAN)
	n.startAll(t, c.String())
	return n
}

// path is a PATH of A's as a Cisco router sends it.
func path(port, sport uint16) spoken {
	return spoken{
		Type: "path", Src: addrA.String(), Dst: addrB.String(), TTL: 254,
		Session: []any{addrB.String(), 17, port}, Hop: []any{addrA.String(), ciscoLIH}, Refresh: 30_000,
		Sender: []any{addrA.String(), sport}, TSpec: ciscoTSpec, AdSpec: 2,
	}
}

// resv is B's RESV for it, by the interface handle that the box told.
func resv(port, sport uint16, lih uint32) spoken {
	return spoken{
		Type: "resv", Src: addrB.String(), Dst: boxDown, TTL: 255,
		Session: []any{addrB.String(), 17, port}, Hop: []any{addrB.String(), lih}, Refresh: 30_000, Style: "ff",
		Flows: []flowSaid{{FlowSpec: ciscoFlowSpec, Filters: [][]any{{addrA.String(), sport}}}},
	}
}

// reserve sets a session up and returns the box's interface handle.
func (n *neighbours) reserve(t *testing.T, port uint16) uint32 {
	t.Helper()
	begin := time.Now()
	n.up.say(t, path(port, 4000))
	p, _ := n.down.hears(t, wire.Path, begin, toSession(port))
	n.down.say(t, resv(port, 4000, p.Hop.LIH))
	n.up.hears(t, wire.Resv, begin, toSession(port))
	n.boxes[0].waitSession(t, port, console.SessionReserved)
	return p.Hop.LIH
}

// transit is a box between RSVP nodes only.
func transit() config {
	return config{network: []string{lanIface, rightWAN}, capacity: "19mbit", policies: "  []\n"}
}

// RFC 2205 section 3.1: every message of scapy's gets its right answer from a
// transit hop.
func TestScapyThroughTransit(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, transit())
	box := n.boxes[0]
	const port = 5004

	begin := time.Now()
	n.up.say(t, path(port, 4000))
	p, seenPath := n.down.hears(t, wire.Path, begin, nil)
	if p.Hop.Addr.String() != boxDown || seenPath.TTL != 253 || seenPath.SendTTL != 253 || !seenPath.Alert || seenPath.Src != addrA.String() || seenPath.Dst != addrB.String() {
		t.Errorf("PATH %+v, scapy sees %+v", p, seenPath)
	}
	if p.AdSpec == nil || p.AdSpec.General.Hops != 3 || p.SenderTSpec == nil || p.SenderTSpec.MinUnit != 0 || p.SenderTSpec.MaxPacket != 0x7fffffff {
		t.Errorf("ADSPEC %+v, SENDER_TSPEC %+v: want 3 hops, and the sender's own m and M", p.AdSpec, p.SenderTSpec)
	}
	for _, o := range seenPath.Objects {
		if wire.Class(o.Class) == wire.ClassSenderTSpec && (fmt.Sprint(o.Words) != "[7 1 6]" || o.Data != "7f00000545bb800045bb800045bb8000000000007fffffff") {
			t.Errorf("scapy sees the SENDER_TSPEC %+v", o)
		}
	}

	begin = time.Now()
	r := resv(port, 4000, p.Hop.LIH)
	r.Confirm = addrB.String()
	n.down.say(t, r)
	v, seenResv := n.up.hears(t, wire.Resv, begin, nil)
	if v.Hop.Addr.String() != boxUp || v.Hop.LIH != ciscoLIH || seenResv.Alert || seenResv.Dst != addrA.String() || v.Style != wire.FF || len(v.Flows) != 1 {
		t.Errorf("RESV %+v, scapy sees %+v: want the handle of PATH's hop in it (RFC 2205 Appendix A.2)", v, seenResv)
	}
	// RFC 2205 section 2.2: nobody asked for more, so the request goes on.
	if v.ResvConfirm != addrB {
		t.Errorf("RESV_CONFIRM %v, want %s", v.ResvConfirm, addrB)
	}
	row := box.waitSession(t, port, console.SessionReserved)
	if row.PrevHop != addrA.String() || row.NextHop != addrB.String() || row.Role != "transit" || row.Class == "" || row.FlowSpec == nil || row.FlowSpec.R != 6000 {
		t.Errorf("session %+v", row)
	}

	begin = time.Now()
	n.up.say(t, spoken{
		Type: "resvconf", Src: boxUpPeer, Dst: addrB.String(), TTL: 255, Session: r.Session, Style: "ff", Flows: r.Flows,
		Error: []any{addrA.String(), 0, 0, 0}, Confirm: addrB.String(),
	})
	if _, s := n.down.hears(t, wire.ResvConf, begin, nil); !s.Alert || s.Dst != addrB.String() {
		t.Errorf("scapy sees the ResvConf %+v", s)
	}

	begin = time.Now()
	n.down.say(t, spoken{
		Type: "patherr", Src: addrB.String(), Dst: boxDown, TTL: 255, Session: r.Session,
		Error: []any{addrB.String(), 0, 2, 0}, Sender: []any{addrA.String(), 4000}, TSpec: ciscoTSpec,
	})
	e, _ := n.up.hears(t, wire.PathErr, begin, nil)
	if e.ErrorSpec.Code != wire.ErrPolicy || e.ErrorSpec.Node != addrB {
		t.Errorf("PathErr %+v, want B's own error (RFC 2205 section 3.1.7)", e.ErrorSpec)
	}

	begin = time.Now()
	n.up.say(t, spoken{
		Type: "resverr", Src: addrA.String(), Dst: boxUp, TTL: 255, Session: r.Session, Hop: []any{addrA.String(), ciscoLIH},
		Error: []any{addrA.String(), 0, 2, 0}, Style: "ff", Flows: r.Flows,
	})
	e, s := n.down.hears(t, wire.ResvErr, begin, nil)
	if e.ErrorSpec.Code != wire.ErrPolicy || e.ErrorSpec.Node != addrA || e.Hop.Addr.String() != boxDown || e.Hop.LIH != p.Hop.LIH || s.Alert {
		t.Errorf("ResvErr %+v from %+v", e.ErrorSpec, e.Hop)
	}
	box.waitSession(t, port, console.SessionReserved) // errors change no state

	begin = time.Now()
	tear := r
	tear.Type, tear.Confirm, tear.Refresh = "resvtear", "", 0
	n.down.say(t, tear)
	n.up.hears(t, wire.ResvTear, begin, nil)
	box.waitSession(t, port, console.SessionPath)

	begin = time.Now()
	n.down.say(t, resv(port, 4000, p.Hop.LIH))
	n.up.hears(t, wire.Resv, begin, nil)
	box.waitSession(t, port, console.SessionReserved)
	begin = time.Now()
	pathTear := path(port, 4000)
	pathTear.Type, pathTear.Refresh = "pathtear", 0
	n.up.say(t, pathTear)
	if _, s := n.down.hears(t, wire.PathTear, begin, nil); !s.Alert || s.TTL != 253 {
		t.Errorf("scapy sees the PathTear %+v", s)
	}
	box.waitNoSession(t, port)
}

// boxUpPeer is A as a router.
const boxUpPeer = "10.1.0.2"

// RFC 2205 section 1.3: the three styles, in scapy's RESVs of two senders.
func TestScapyStyles(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, transit())
	for i, style := range []string{"wf", "se", "ff"} {
		port := uint16(5004 + i)
		begin := time.Now()
		n.up.say(t, path(port, 4000))
		n.up.say(t, path(port, 4001))
		p, _ := n.down.hears(t, wire.Path, begin, func(m *wire.Message) bool { return toSession(port)(m) && m.SenderTemplate.SrcPort == 4000 })
		n.down.hears(t, wire.Path, begin, func(m *wire.Message) bool { return toSession(port)(m) && m.SenderTemplate.SrcPort == 4001 })
		r := resv(port, 4000, p.Hop.LIH)
		r.Style = style
		one, two := []any{addrA.String(), 4000}, []any{addrA.String(), 4001}
		filters := 2
		switch style {
		case "wf":
			r.Flows, filters = []flowSaid{{FlowSpec: ciscoFlowSpec}}, 0
		case "se":
			r.Flows = []flowSaid{{FlowSpec: ciscoFlowSpec, Filters: [][]any{one, two}}}
		case "ff": // the second FLOWSPEC is left out, as it repeats (RFC 2205 section 3.1.4)
			r.Flows = []flowSaid{{FlowSpec: ciscoFlowSpec, Filters: [][]any{one}}, {Filters: [][]any{two}}}
		}
		n.down.say(t, r)
		got := map[wire.Filter]bool{} // the box is free to send a message for each
		n.up.hears(t, wire.Resv, begin, func(m *wire.Message) bool {
			if !toSession(port)(m) || m.Style.String() != style {
				return false
			}
			for _, f := range m.Flows {
				for _, x := range f.Filters {
					got[x] = true
				}
			}
			return len(got) == filters
		})
		rows, err := n.boxes[0].Sessions(t.Context())
		reserved := 0
		for _, row := range rows {
			if row.Dport == port && row.State == console.SessionReserved && row.Style == style {
				reserved++
			}
		}
		if err != nil || reserved != 2 {
			t.Errorf("%s: %d of 2 senders reserved: %+v, %v", style, reserved, rows, err)
		}
	}
}

// A box between an unaware host and a neighbour that scapy speaks for: sender
// proxy and receiver proxy.
func TestScapyToProxies(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, config{hosts: []string{lanIface}, network: []string{rightWAN}, capacity: "19mbit", policies: voicePolicy})
	box := n.boxes[0]

	t.Run("receiver proxy", func(t *testing.T) { // B sends to A, for which the box answers
		p := path(portVoice, 4000)
		p.Src, p.Dst, p.Session = addrB.String(), addrA.String(), []any{addrA.String(), 17, portVoice}
		p.Hop, p.Sender = []any{addrB.String(), ciscoLIH}, []any{addrB.String(), 4000}
		begin := time.Now()
		n.down.say(t, p)
		r, s := n.down.hears(t, wire.Resv, begin, nil)
		if r.Hop.Addr.String() != boxDown || r.Hop.LIH != ciscoLIH || s.Alert || len(r.Flows) != 1 || r.Flows[0].FlowSpec == nil {
			t.Errorf("RESV %+v, scapy sees %+v", r, s)
		}
		if row := box.waitSession(t, portVoice, console.SessionReserved); row.Role != "receiver-proxy" || row.PrevHop != addrB.String() {
			t.Errorf("session %+v", row)
		}
		// RFC 5946 section 4.1: A has got PATH, speaks RSVP after all, and takes over.
		since := time.Now()
		got, _ := n.up.hears(t, wire.Path, begin, nil)
		a := resv(portVoice, 4000, got.Hop.LIH)
		a.Src, a.Dst, a.Session, a.Hop[0], a.Style = addrA.String(), got.Hop.Addr.String(), p.Session, addrA.String(), "wf"
		a.Flows = []flowSaid{{FlowSpec: []any{10_000, 800, 20_000, 64, 400}}}
		n.up.say(t, a)
		if row := box.waitRole(t, portVoice, "transit"); row.NextHop != addrA.String() || row.FlowSpec.R != 10_000 {
			t.Errorf("session %+v", row)
		}
		a.Type, a.Refresh = "resvtear", 0
		n.up.say(t, a)
		box.waitRole(t, portVoice, "receiver-proxy")
		n.down.hears(t, wire.Resv, since, nil)
		before := r.Flows[0].FlowSpec.TSpec
		// A neighbour that fails a larger request, which is not this receiver's (RFC
		// 2205 section 3.11.1), and then leaves half of what this one asked for (RFC
		// 4495 section 5.3), in the words of an implementation that is not ours.
		e := spoken{
			Type: "resverr", Src: addrB.String(), Dst: boxDown, TTL: 255, Session: p.Session, Hop: p.Hop, Style: "wf",
			Error: []any{addrB.String(), wire.InPlace, wire.ErrAdmission, wire.AdmissionBandwidth},
			Flows: []flowSaid{{FlowSpec: []any{9e6, 9e5, 9e7, 64, 400}}},
		}
		n.down.say(t, e)
		eventually(t, 8*time.Second, "the error is another's", func() error {
			row := box.waitSession(t, portVoice, console.SessionReserved)
			if !row.NotGuilty || !row.InPlace {
				return fmt.Errorf("%+v", row)
			}
			return nil
		})
		e.Error[2], e.Error[3] = wire.ErrPolicy, wire.PolicyPartialPreempted
		e.Flows[0].FlowSpec = []any{before.Rate / 2, before.Bucket, before.Peak, 64, 400}
		begin = time.Now()
		n.down.say(t, e)
		if r, _ = n.down.hears(t, wire.Resv, begin, nil); r.Flows[0].FlowSpec.TSpec.Rate != before.Rate/2 {
			t.Errorf("RESV %+v after the reduction", r)
		}
		if row := box.waitSession(t, portVoice, console.SessionReserved); row.FlowSpec.R != before.Rate/2 || row.NotGuilty {
			t.Errorf("session %+v", row)
		}
		p.Type, p.Refresh = "pathtear", 0
		n.down.say(t, p)
		box.waitNoSession(t, portVoice)
	})
	t.Run("sender proxy", func(t *testing.T) { // A talks to B, which reserves
		begin := time.Now()
		end := n.talk(t, portVoice+1, 10*time.Second)
		p, s := n.down.hears(t, wire.Path, begin, toSession(portVoice+1))
		if p.Hop.Addr.String() != boxDown || !s.Alert || s.Src != addrA.String() || s.TTL != s.SendTTL {
			t.Errorf("PATH %+v, scapy sees %+v", p, s)
		}
		r := resv(portVoice+1, p.SenderTemplate.SrcPort, p.Hop.LIH)
		r.Flows[0].FlowSpec = []any{10_000, 800, 20_000, 64, 400}
		r.Confirm = addrB.String()
		begin = time.Now()
		n.down.say(t, r)
		// RFC 2205 section 2.6: the box is where the request ends.
		c, conf := n.down.hears(t, wire.ResvConf, begin, nil)
		if !conf.Alert || conf.Dst != addrB.String() || c.ErrorSpec.Code != wire.ErrConfirm || c.ResvConfirm != addrB {
			t.Errorf("ResvConf %+v, scapy sees %+v", c, conf)
		}
		row := box.waitSession(t, portVoice+1, console.SessionReserved)
		if row.Role != "sender-proxy" || row.NextHop != addrB.String() || row.FlowSpec.R != 10_000 {
			t.Errorf("session %+v", row)
		}
		r.Type, r.Refresh, r.Confirm = "resvtear", 0, ""
		n.down.say(t, r)
		box.waitSession(t, portVoice+1, console.SessionPath)
		n.down.say(t, spoken{
			Type: "patherr", Src: addrB.String(), Dst: boxDown, TTL: 255, Session: r.Session,
			Error: []any{addrB.String(), 0, 2, 0}, Sender: []any{addrA.String(), p.SenderTemplate.SrcPort}, TSpec: ciscoTSpec,
		})
		if row := box.waitSession(t, portVoice+1, console.SessionRejected); row.Error == "" {
			t.Errorf("session %+v: want the error of the PathErr", row)
		}
		end().check(t)
	})
}
