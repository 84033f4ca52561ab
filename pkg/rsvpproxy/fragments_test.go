package rsvpproxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// rawWires keeps what a bridge sends as it is.
type rawWires struct {
	wires
	raw [][]byte
	via []int
}

func (w *rawWires) SendVia(b []byte, via int) error {
	w.raw, w.via = append(w.raw, bytes.Clone(b)), append(w.via, via)
	return nil
}

// inTwo cuts an IPv4 packet after some bytes of its payload (RFC 791 section 3.2).
func inTwo(b []byte, at int) (parts [][]byte) {
	n := int(b[0]&15) * 4
	for i, body := range [][]byte{b[n : n+at], b[n+at:]} {
		p := append(bytes.Clone(b[:n]), body...)
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[4], p[5] = 7, 7
		binary.BigEndian.PutUint16(p[6:], uint16(i*at/8)|uint16(1-i)<<13)
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], packet.Checksum(p[:n]))
		parts = append(parts, p)
	}
	return parts
}

// RFC 2205 section 3.3: messages may come in fragments. On a bridge, where the kernel
// leaves them, the box puts them together; what is none of its own, or never whole,
// goes on in the pieces in which it came.
func TestUnseenBoxGathersFragmentsRFC2205Section3_3(t *testing.T) {
	p, _, _ := unseenBox(t)
	w := &rawWires{}
	p.hooks.Send = w
	now := time.Now()
	path := inTwo(unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5)), 48)
	for _, i := range []int{1, 0} {
		if !p.Capture(now, path[i], 1) {
			t.Fatal("a fragment went by")
		}
	}
	if len(p.in) != 1 || len(w.raw) != 0 {
		t.Fatalf("%d taken, %d passed on", len(p.in), len(w.raw))
	}
	p.receive(<-p.in)
	if v := p.node.Sessions(now); len(v) != 1 || v[0].PrevHop != hostA {
		t.Errorf("%+v", v)
	}
	// RESV of others, of whose session we know nothing.
	router := netip.MustParseAddr("192.0.2.9")
	m := unseenMessage(wire.Resv, router, 77)
	m.Session.DstPort = 99
	resv := inTwo(unseenPacket(t, router, hostA, m), 40)
	for _, part := range resv {
		if !p.Capture(now, part, 2) {
			t.Fatal("a fragment went by")
		}
	}
	if len(w.raw) != 2 || !bytes.Equal(w.raw[0], resv[0]) || !bytes.Equal(w.raw[1], resv[1]) || w.via[0] != 1 || w.via[1] != 1 {
		t.Errorf("passed on %x by %v", w.raw, w.via)
	}
	// Half of one.
	p.Capture(now, resv[1], 2)
	at, ok := p.deadline()
	if !ok {
		t.Fatal("nobody looks after it")
	}
	p.tickParts(at.Add(-time.Second))
	if len(w.raw) != 2 {
		t.Error("too early")
	}
	if at, _ = p.partsDeadline(); at.After(now.Add(10 * time.Second)) {
		t.Errorf("it is held for %v", at.Sub(now))
	}
	p.tickParts(at)
	if len(w.raw) != 3 || !bytes.Equal(w.raw[2], resv[1]) {
		t.Errorf("%d passed on", len(w.raw))
	}
	if c := p.CaptureCounters(); c.Fragments != 3 || c.Taken != 1 {
		t.Errorf("%+v", c)
	}
	// Of other protocols nothing is held.
	other := bytes.Clone(resv[0])
	other[9] = packet.ProtoUDP
	if p.Capture(now, other, 2) {
		t.Error("a fragment of UDP was taken")
	}
}

// A fragment by a port of which nothing is known yet could not be sent on: it goes by.
func TestFragmentByUnknownPortGoesBy(t *testing.T) {
	p, _, _ := unseenBox(t)
	w := &rawWires{}
	p.hooks.Send = w
	for _, part := range inTwo(unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5)), 48) {
		if p.Capture(time.Now(), part, 7) {
			t.Error("a fragment was taken")
		}
	}
	if _, held := p.partsDeadline(); held || len(w.raw) != 0 {
		t.Errorf("held %v, %d sent", held, len(w.raw))
	}
	if c := p.CaptureCounters(); c.Fragments != 2 {
		t.Errorf("%+v", c)
	}
}

// On a bridge of three ports a message in fragments for a station that was not heard goes
// by as a whole one does. If the bridge forgets the station while a fragment is held, that
// leaves by all other ports.
func TestFragmentsForAnUnheardStationGoBy(t *testing.T) {
	p, _, l := unseenBox(t)
	w := &rawWires{}
	p.hooks.Send = w
	ifaces := []Interface{{Link: route.Link{Index: 3, Name: "lan1", MTU: 1500, Up: true}, Hosts: true, Bandwidth: 1e6}}
	for _, i := range p.ifaces.Load().byIndex {
		ifaces = append(ifaces, i)
	}
	p.SetInterfaces(ifaces)
	p.runCommands()
	now := time.Now()
	whole := unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5))
	parts := inTwo(whole, 48)
	for _, b := range append(parts, whole) {
		if p.Capture(now, b, 1) {
			t.Error("taken")
		}
	}
	back := packet.FlowKey{Src: hostB.As16(), Dst: hostA.As16()}
	for _, port := range []int{2, 1} { // there, or on the side from which it comes
		l[back] = packet.Frame{Port: port}
		if got := p.Capture(now, parts[1], 1); got != (port == 2) {
			t.Errorf("the station is behind %d: taken %v", port, got)
		}
	}
	delete(l, back)
	at, ok := p.partsDeadline()
	if !ok {
		t.Fatal("nothing is held")
	}
	p.tickParts(at)
	slices.Sort(w.via)
	if !slices.Equal(w.via, []int{2, 3}) || !bytes.Equal(w.raw[0], parts[1]) || !bytes.Equal(w.raw[1], parts[1]) {
		t.Errorf("by %v: %x", w.via, w.raw)
	}
	if c := p.CaptureCounters(); c.Fragments != 4 || c.Passed != 1 || p.sends.errors.Load() != 0 {
		t.Errorf("%+v, errors %d", c, p.sends.errors.Load())
	}
}

// What waits for its rest when the box ends is sent on, and what comes after that is
// not held.
func TestFragmentsAreNotLostAtTheEnd(t *testing.T) {
	p, _, _ := unseenBox(t)
	w := &rawWires{}
	p.hooks.Send = w
	path := inTwo(unseenPacket(t, hostA, hostB, unseenMessage(wire.Path, hostA, 5)), 48)
	if !p.Capture(time.Now(), path[0], 1) {
		t.Fatal("a fragment went by")
	}
	p.stop()
	if len(w.raw) != 1 || !bytes.Equal(w.raw[0], path[0]) || w.via[0] != 2 {
		t.Errorf("passed on %x by %v", w.raw, w.via)
	}
	if p.Capture(time.Now(), path[1], 1) || len(w.raw) != 1 {
		t.Error("the rest was taken")
	}
}

// FuzzCaptureUnseen: whatever comes, a box that nobody sees takes it, passes it or
// holds it, and never drops it.
func FuzzCaptureUnseen(f *testing.F) {
	router := netip.MustParseAddr("192.0.2.9")
	for _, typ := range []wire.MsgType{wire.Path, wire.PathTear, wire.Resv, wire.ResvTear, wire.PathErr, wire.ResvErr, wire.ResvConf} {
		m := unseenMessage(typ, router, 7)
		b, err := m.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		d := datagram{src: hostA, dst: hostB, ttl: 9, alert: true, payload: b}
		if b, err = d.append(nil); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(inTwo(b, 40)[1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, _ := unseenBox(t)
		w := &rawWires{}
		p.hooks.Send = w
		taken := p.Capture(time.Now(), b, 1)
		c := p.CaptureCounters()
		_, held := p.partsDeadline()
		switch {
		case c.Taken+c.Passed+c.Fragments+c.Foreign == 0 && !held, c.Malformed != 0:
			t.Errorf("counted nowhere: %+v", c)
		case taken && c.Taken == 0 && !held && len(w.raw) == 0, p.sends.errors.Load() != 0:
			t.Errorf("dropped: %+v", c)
		case c.Taken == 1:
			p.receive(<-p.in)
		}
	})
}
