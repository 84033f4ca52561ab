package integration

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
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

// say sends an RSVP message from a host.
func say(t *testing.T, ns *netns.NetNS, to netip.Addr, m *wire.Message) {
	t.Helper()
	m.SendTTL = 64 // that of the host's raw sockets
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error {
		c, err := net.Dial("ip4:46", to.String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // all was written
		_, err = c.Write(b)
		return err
	}); err != nil {
		t.Fatalf("%v to %s: %v", m.Type, to, err)
	}
}

// kinds lists the RSVP messages on a wire, each type once.
func kinds(t *testing.T, c *traffic.Capture) (list []wire.MsgType) {
	t.Helper()
	frames := captured(t, c)
	for _, f := range frames {
		if m, err := message(f.Data); err == nil && !slices.Contains(list, m.Type) {
			list = append(list, m.Type)
		}
	}
	return list
}

// waitRole waits until a box has a session in a role, and fails if the
// reservation is not in place all the while.
func (b *box) waitRole(t *testing.T, dport uint16, role string) (found console.SessionRow) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].Dport != dport || rows[0].State != console.SessionReserved {
			t.Fatalf("%s: sessions %+v on the way to role %s", b.name, rows, role)
		}
		if rows[0].Role == role {
			return rows[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v, want role %s", b.name, rows[0], role)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// numbered lists the numbers of a stream's packets, and counts those that are not
// marked.
func numbered(frames []traffic.Frame) (numbers []uint32, unmarked int) {
	for _, f := range frames {
		at := ethernet + 20 + 8
		if isIPv6(f.Data) {
			at = ethernet + 40 + 8
		}
		numbers = append(numbers, binary.BigEndian.Uint32(f.Data[at:]))
		if dscpOf(f.Data) != dscp.VoiceAdmit {
			unmarked++
		}
	}
	return numbers, unmarked
}

// gapless fails the test unless a stream's packets from the before-th on have all
// come, each once, in order, and are marked.
func gapless(t *testing.T, c *traffic.Capture, before, least int) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // what is on its way
	frames := captured(t, c)
	numbers, unmarked := numbered(frames[before:])
	if unmarked > 0 || len(numbers) < least {
		t.Errorf("%d of %d packets were not marked", unmarked, len(numbers))
	}
	for i := range numbers {
		if numbers[i] != numbers[0]+uint32(i) {
			t.Errorf("packet %d came after %d", numbers[i], numbers[i-1])
			break
		}
	}
}

// noErrors fails the test if RSVP on a wire has told of an end or an error.
func noErrors(t *testing.T, where string, c *traffic.Capture) {
	t.Helper()
	ends := []wire.MsgType{wire.ResvTear, wire.PathTear, wire.ResvErr, wire.PathErr}
	for _, kind := range kinds(t, c) {
		if slices.Contains(ends, kind) {
			t.Errorf("%s: %s", where, kind)
		}
	}
}

// refusals counts the ICMP errors by which a host without RSVP answers a PATH.
func refusals(t *testing.T, c *traffic.Capture) (n int) {
	t.Helper()
	frames := captured(t, c)
	for _, f := range frames {
		v, err := packet.Parse(f.Data[ethernet:])
		if err != nil || len(v.Transport()) < 1 {
			continue
		}
		if p, kind := v.Proto(), v.Transport()[0]; p == packet.ProtoICMP && kind == 3 || p == packet.ProtoICMPv6 && kind == 4 {
			n++
		}
	}
	return n
}

func isICMP(f []byte) bool {
	if !isIPv4(f) && !isIPv6(f) {
		return false
	}
	v, err := packet.Parse(f[ethernet:])
	return err == nil && (v.Proto() == packet.ProtoICMP || v.Proto() == packet.ProtoICMPv6)
}

// The boxes have reserved for a receiver, unicast or in a group, that has sent
// nothing at all. PATH comes to it nevertheless; it begins to speak RSVP and answers
// that, is the one that is listened to, falls silent, answers again, and takes its
// request back. The flow is reserved and every packet marked all along, and neither
// its sender nor the other box hears of an end (RFC 5946 section 4.1, RFC 5945
// section 4.1.1.1).
func TestReceiverAnswersPathRFC5946Section4_1(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		v6, group bool
	}{{"IPv4", false, false}, {"group IPv6", true, true}, {"IPv6", true, false}, {"group IPv4", false, true}}[:soak(2, 4)] {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l *lab
			var tr *tree
			dst, hostB, here, rsvp := addrB, addrB, netip.MustParseAddr("10.2.0.1"), isRSVP
			if tt.v6 {
				dst, hostB, here, rsvp = addrB6, addrB6, netip.MustParseAddr("fd00:2::1"), isRSVP6
			}
			if tt.group {
				tr = newTree(t, tt.v6)
				l, dst = tr.lab, tr.group
				tr.route(t, tr.source, lanIface, lanIface)
			} else {
				l = newLab(t, 2, nil)
				l.watch(t, leftWAN, rightWAN, lanIface)
			}
			l.startPlainEdges(t, strings.Replace(voicePolicy, "rate: 80kbit", "rate: 88kbit", 1))
			one, two := l.boxes[0], l.boxes[1]
			between, toA := capture(t, two.ns, leftWAN, rsvp), capture(t, l.a, hostIface, isICMP)
			atHost, toB, fromB := capture(t, l.b, hostIface, toPort(portVoice)), capture(t, l.b, hostIface, rsvp), capture(t, l.b, hostIface, isICMP)
			var end func()
			if tt.group {
				tr.listen(t, l.b)
				end = tr.talkAll(t, l.a)
			} else {
				call := l.talkTo(t, at(dst, portVoice), 90*time.Second)
				end = func() { call().check(t) }
			}
			one.waitSession(t, portVoice, console.SessionReserved)
			row := two.waitRole(t, portVoice, "receiver-proxy")
			path, frame := waitMessage(t, toB, wire.Path)
			v, err := packet.Parse(frame[ethernet:])
			if err != nil {
				t.Fatal(err)
			}
			if v.Dst() != dst || path.Hop.Addr != here || path.Hop.LIH == 0 || path.SendTTL != v.TTL() || path.SenderTSpec.Rate != 11_000 {
				t.Errorf("PATH to %s from hop %+v, Send_TTL %d, TTL %d, %+v", v.Dst(), path.Hop, path.SendTTL, v.TTL(), path.SenderTSpec)
			}
			if got := refusals(t, fromB); got == 0 && !tt.group { // to a group nobody answers so
				t.Error("B has not told that it does not know the protocol: nothing is proved about that")
			}
			waitFrame(t, atHost, "voice marked at B", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
			time.Sleep(200 * time.Millisecond) // what was on its way when it was reserved
			before := heardSo(t, atHost)

			resv := resvOf(t, path, hostB, wire.WF) // the style that is in use, or there would be tears
			for _, tear := range []bool{false, true} {
				stop := answer(t, l.b, here, resv)
				now := two.waitRole(t, portVoice, "transit")
				if now.NextHop != hostB.String() || now.Class != row.Class {
					t.Errorf("box 2: %+v, before %+v", now, row)
				}
				time.Sleep(time.Second)
				two.waitRole(t, portVoice, "transit") // it is refreshed
				stop()
				if tear {
					m, err := wire.Parse(resv)
					if err != nil {
						t.Fatal(err)
					}
					m.Type, m.TimeValues = wire.ResvTear, nil
					b, err := m.Append(nil)
					if err != nil {
						t.Fatal(err)
					}
					answer(t, l.b, here, b)()
				}
				now = two.waitRole(t, portVoice, "receiver-proxy") // 5.25 s after the last RESV, or at once
				if now.NextHop != "" || now.Class != row.Class {
					t.Errorf("box 2: %+v, before %+v", now, row)
				}
			}
			one.waitRole(t, portVoice, "sender-proxy")
			gapless(t, atHost, before, 200)
			noErrors(t, "between the boxes", between)
			if got := refusals(t, toA); got > 0 {
				t.Errorf("%d ICMP errors about RSVP came to A, who has sent none", got)
			}
			end()
		})
	}
}

// Two hosts speak RSVP end to end for a flow that no policy claims: PATH reaches
// the receiver, and its RESV the sender (RFC 5946 section 4.1).
func TestHostsSpeakEndToEndRFC5946Section4_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.watch(t, leftWAN, rightWAN, lanIface)
	l.startPlainEdges(t, voicePolicy)
	toA, toB := capture(t, l.a, hostIface, isRSVP), capture(t, l.b, hostIface, isRSVP)
	tspec := intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400}
	said := &wire.Message{
		Type: wire.Path, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: portOther}, Hop: &wire.Hop{Addr: addrA, LIH: 5},
		TimeValues: &wire.TimeValues{Refresh: 2000}, SenderTemplate: &wire.Filter{Src: addrA, SrcPort: 4000}, SenderTSpec: &tspec,
	}
	say(t, l.a, addrB, said)
	path, _ := waitMessage(t, toB, wire.Path)
	if path.Session.DstPort != portOther || path.Hop.Addr != netip.MustParseAddr("10.2.0.1") {
		t.Errorf("PATH %+v", path)
	}
	stop := answer(t, l.b, path.Hop.Addr, resvOf(t, path, addrB, wire.FF))
	defer stop()
	resv, _ := waitMessage(t, toA, wire.Resv)
	if resv.Session.DstPort != portOther || resv.Hop.LIH != 5 || len(resv.Flows) != 1 {
		t.Errorf("RESV %+v", resv)
	}
	for _, b := range l.boxes {
		if row := b.waitSession(t, portOther, console.SessionReserved); row.Role != "transit" {
			t.Errorf("%s: %+v", b.name, row)
		}
	}
	noErrors(t, "at A", toA)
}

// A sender begins to speak RSVP for a flow that the boxes have reserved, and stops
// again: the flow is marked all along, nothing is torn down, and the sessions show
// who speaks (RFC 5945 section 2.2).
func TestSenderSpeaksAndStopsRFC5945Section2_2(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.watch(t, leftWAN, rightWAN, lanIface)
	l.startPlainEdges(t, voicePolicy)
	one, two := l.boxes[0], l.boxes[1]
	between := capture(t, two.ns, leftWAN, isRSVP)
	atHost := capture(t, two.ns, lanIface, toPort(portVoice))
	end := l.talk(t, portVoice, 60*time.Second)
	one.waitSession(t, portVoice, console.SessionReserved)
	row := two.waitSession(t, portVoice, console.SessionReserved)
	time.Sleep(200 * time.Millisecond) // what was on its way when it was reserved
	before := heardSo(t, atHost)

	session := wire.Session{Dst: addrB, Protocol: 17, DstPort: portVoice}
	sender := wire.Filter{Src: addrA, SrcPort: row.Sport}
	tspec := intserv.TSpec{Rate: 9800, Bucket: 800, Peak: 1e9, MinUnit: 64, MaxPacket: 400}
	path := func(kind wire.MsgType) *wire.Message {
		m := &wire.Message{Type: kind, Session: session, Hop: &wire.Hop{Addr: addrA, LIH: 5}, SenderTemplate: &sender}
		if kind == wire.Path {
			m.TimeValues, m.SenderTSpec = &wire.TimeValues{Refresh: 1000}, &tspec
		}
		return m
	}
	say(t, l.a, addrB, path(wire.Path))
	if row := one.waitRole(t, portVoice, "transit"); row.PrevHop != addrA.String() {
		t.Errorf("box 1: %+v", row)
	}
	one.waitRole(t, portVoice, "sender-proxy") // 5.25 s after its only PATH
	say(t, l.a, addrB, path(wire.Path))
	one.waitRole(t, portVoice, "transit")
	say(t, l.a, addrB, path(wire.PathTear))
	one.waitRole(t, portVoice, "sender-proxy")
	two.waitRole(t, portVoice, "receiver-proxy")

	gapless(t, atHost, before, 200)
	noErrors(t, "between the boxes", between)
	end().check(t)
}
