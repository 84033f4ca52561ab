package tcpcheat

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var fillP = Params{Fill: true, FillAfter: 20 * time.Millisecond, FillPattern: []byte("abc"), Rate: 1e6, Bucket: 64e3}

// filledLab is one with a hole of 2000 bytes at 1448, known to the receiver.
func filledLab(t *testing.T, p Params) *lab {
	l := newLab(t)
	if err := l.e.WatchNear(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.start(p)
	l.tos = 0x28
	l.tick = 900
	l.src(ack, 0, 1448, l.opts())
	l.rcv(ack, 1448, 60000, 0, 0, l.opts())
	l.tick = 1000
	l.src(ack, 3448, 1448, l.opts())
	l.rcv(ack, 1448, 60000, 0, 0, sackOpt(l, 3448, 4896))
	return l
}

// tcp.md 2.3, 2.5 and 2.8: every field of a fake segment is one that the source
// could have sent now.
func TestFakeSegmentFields(t *testing.T) {
	l := filledLab(t, fillP)
	if early := append(l.take(), l.pass(19*time.Millisecond)...); len(early) != 0 {
		t.Fatalf("%d packets before fill_after", len(early))
	}
	l.tick = 1200
	l.src(ack, 4896, 1448, l.opts()) // its fields are the latest
	// The path takes 101 ms, a quarter of which is waited for at least.
	got := l.pass(10 * time.Millisecond)
	if len(got) != 2 {
		t.Fatalf("%d packets", len(got))
	}
	off := 1448
	for _, s := range got {
		n := len(s.Payload())
		want := make([]byte, n)
		fillContent(want, []byte("abc"), uint64(off))
		switch {
		case s.to != ToReceiver || s.off != off || n > 1448 || !bytes.Equal(s.Payload(), want):
			t.Errorf("to %v, %d bytes at %d: %q", s.to, n, s.off, s.Payload()[:5])
		case s.Ack() != l.risn.Add(1) || s.Window() != 500 || s.Flags() != ack|packet.FlagPSH:
			t.Errorf("ack %d, window %d, flags %x", s.Ack().Diff(l.risn), s.Window(), s.Flags())
		case s.o.TSVal != 1200 || s.o.TSEcr != 55:
			t.Errorf("TSval %d, TSecr %d", s.o.TSVal, s.o.TSEcr)
		case s.v.TTL() != 64 || s.v.TOS() != 0x28 || !s.v.DF():
			t.Errorf("TTL %d, TOS %x, DF %v", s.v.TTL(), s.v.TOS(), s.v.DF())
		}
		off += n
	}
	if got[0].v.ID() == got[1].v.ID() {
		t.Error("both have the same identification")
	}
	l.rcv(ack, 6344, 60000, 0, 0, l.opts())
	st := l.stats()
	if off != 3448 || st.Filled != 2 || st.FilledBytes != 2000 || !slices.Equal(st.FilledRanges, []ByteRange{{1448, 3448}}) || st.Reason != "holes filled" {
		t.Errorf("up to %d; %+v", off, st)
	}
	if tot := l.e.Totals(); tot.Filled != 2 || tot.FilledBytes != 2000 || tot.Retransmits != 0 {
		t.Errorf("%+v", tot)
	}
	l.e.Stop(l.now, l.key)
	if st := l.stats(); st.FilledBytes != 2000 || len(st.FilledRanges) != 1 {
		t.Errorf("after Stop: %+v", st)
	}
	if late := l.pass(time.Minute); len(late) != 0 {
		t.Errorf("%d packets after Stop", len(late))
	}
}

// Over IPv6 the flow label is the source's (RFC 6437 section 3).
func TestRFC6437_FakeSegmentHasTheFlowLabel(t *testing.T) {
	l := newLab(t)
	l.key = packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("[fd00:1::2]:4000"), netip.MustParseAddrPort("[fd00:2::2]:80"))
	l.start(fillP)
	data := func(off int) {
		l.handle(&packet.Segment{
			Key: l.key, TTL: 64, FlowLabel: 0xabcde, Seq: l.sisn.Add(1 + off), Ack: l.risn.Add(1), Flags: ack, Window: 500,
			Options: l.opts(), Payload: contents(off, 1428),
		}, Meta{})
	}
	data(1428)
	l.rcv(ack, 0, 60000, 0, 0, sackOpt(l, 1428, 2856))
	made := 0
	for _, in := range append(l.e.TakeInjected(), l.later(40*time.Millisecond)...) {
		v, err := packet.Parse(in.Packet)
		if err != nil || !v.TCPChecksumOK() || v.FlowLabel() != 0xabcde || len(v.TCPPayload()) > 1428 {
			t.Errorf("%v: flow label %x, %d bytes", err, v.FlowLabel(), len(v.TCPPayload()))
		}
		made += len(v.TCPPayload())
	}
	if made != 1428 {
		t.Errorf("%d bytes made", made)
	}
}

// later lets time go by and returns what is made, as it is.
func (l *lab) later(d time.Duration) []Injected {
	l.now = l.now.Add(d)
	l.e.Advance(l.now)
	return l.e.TakeInjected()
}

// A CE mark or an ECN-capable packet of the source does not make a fake one
// capable (RFC 3168 section 6.1.5).
func TestFakeSegmentIsNotECNCapable(t *testing.T) {
	l := filledLab(t, fillP)
	l.tos = 0x2a
	l.src(ack, 4896, 1448, l.opts())
	for _, s := range l.pass(50 * time.Millisecond) {
		if s.v.TOS() != 0x28 {
			t.Errorf("TOS %x", s.v.TOS())
		}
	}
}

// Streams that a filled byte ends are not filled, by port, first bytes in either
// direction, or a handshake in the middle; unless forced.
func TestFragileStreamsAreNotFilled(t *testing.T) {
	hello := func(l *lab, key packet.FlowKey, seq, ackd packet.Seq, data []byte) {
		l.handle(&packet.Segment{Key: key, TTL: 64, DF: true, Seq: seq, Ack: ackd, Flags: ack, Window: 500, Options: l.opts(), Payload: data}, Meta{})
	}
	for name, c := range map[string]struct {
		want string
		prep func(*lab) (after func())
	}{
		"port": {ErrTLS.Error(), func(l *lab) func() { l.key.DstPort = 443; return nil }},
		"ClientHello": {ErrTLS.Error(), func(l *lab) func() {
			return func() { hello(l, l.key, l.sisn.Add(1), l.risn.Add(1), clientHello) }
		}},
		"banner of the receiver": {ErrSSH.Error(), func(l *lab) func() {
			return func() { hello(l, l.key.Reverse(), l.risn.Add(1), l.sisn.Add(1), []byte("SSH-2.0-x\r\n")) }
		}},
	} {
		for _, force := range []bool{false, true} {
			for _, p := range []Params{fillP, {Fill: true, Thin: true, Rate: 1e6, Bucket: 64e3}} {
				p.FillForce = force
				l := newLab(t)
				after := c.prep(l)
				if err := l.e.WatchNear(l.now, l.key); err != nil {
					t.Fatal(err)
				}
				l.open()
				if err := l.e.Start(l.now, l.key, p); err != nil {
					t.Fatal(err)
				}
				if after != nil {
					after()
				}
				l.src(ack, 2000, 1448, l.opts())
				l.rcv(ack, 0, 60000, 0, 0, sackOpt(l, 2000, 3448))
				made := len(append(l.take(), l.pass(50*time.Millisecond)...))
				st := l.stats()
				switch {
				case force && (made == 0 || st.FillRefused != ""):
					t.Errorf("%s, forced: %d packets, %+v", name, made, st)
				case force:
				case made != 0:
					t.Errorf("%s: %d packets", name, made)
				case p.Thin && (st.State != Cheated || st.FillRefused != c.want || st.Reason != "ACKs thinned, holes not filled: "+c.want):
					t.Errorf("%s: %v, %q, %q", name, st.State, st.FillRefused, st.Reason)
				case !p.Thin && (st.State != LeftAlone || st.Reason != c.want):
					t.Errorf("%s, only to be filled: %v, %q", name, st.State, st.Reason)
				}
			}
		}
	}
}

// The first bytes are looked at before the reservation comes, too.
func TestFragileStreamBeforeTheReservation(t *testing.T) {
	l := newLab(t)
	_ = l.e.WatchNear(l.now, l.key)
	l.open()
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1), Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(), Payload: clientHello}, Meta{})
	_ = l.e.Start(l.now, l.key, fillP)
	if st := l.stats(); st.State != LeftAlone || st.Reason != ErrTLS.Error() {
		t.Errorf("%v %q", st.State, st.Reason)
	}
}

// The data of a connection whose holes nobody wants filled is not looked at, and
// so its holes are not filled unless that is forced. Without NoFill they are.
func TestNoFillLooksAtNothing(t *testing.T) {
	for _, c := range []struct {
		unread, force bool
		want          State
	}{{false, false, Cheated}, {true, false, LeftAlone}, {true, true, Cheated}} {
		l := newLab(t)
		_ = l.e.WatchNear(l.now, l.key)
		if c.unread {
			l.e.NoFill(l.key)
		}
		l.open()
		l.src(ack, 0, 1448, l.opts())
		if looked := l.e.find(l.key).openings != nil; looked == c.unread {
			t.Errorf("%+v: looked at its data: %v", c, looked)
		}
		p := fillP
		p.FillForce = c.force
		_ = l.e.Start(l.now, l.key, p)
		if st := l.stats(); st.State != c.want || st.State == LeftAlone && st.Reason != ErrUnread.Error() {
			t.Errorf("%+v: %v %q", c, st.State, st.Reason)
		}
		// Ports that are used anew may be another policy's by now.
		l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1 << 20), Flags: syn, Window: 64000, Options: l.synOpts()}, Meta{})
		if l.e.find(l.key).unread {
			t.Errorf("%+v: a new connection is not looked at", c)
		}
	}
}

// tcp.md 2.1 and 2.5: never where the handshake was not seen.
func TestNoFillingFromTheMiddle(t *testing.T) {
	l := newLab(t)
	_ = l.e.WatchNear(l.now, l.key)
	l.src(ack, 0, 1448, l.opts())
	_ = l.e.Start(l.now, l.key, fillP)
	l.rcv(ack, 1448, 60000, 0, 0, l.opts())
	l.src(ack, 3448, 1448, l.opts())
	l.rcv(ack, 1448, 60000, 0, 0, sackOpt(l, 3448, 4896))
	if made := l.pass(time.Second); len(made) != 0 {
		t.Errorf("%d packets", len(made))
	}
	if st := l.stats(); st.State != LeftAlone || st.Reason != ErrNoHandshake.Error() {
		t.Errorf("%v %q", st.State, st.Reason)
	}
}

// Beside realtime in one box: what the source was told is delivered is filled
// where the receiver does not get it, and what it was not told is its own.
func TestFillBesideRealtime(t *testing.T) {
	l := newLab(t)
	p := fillP
	p.Mode = Realtime
	l.start(p)
	l.src(ack, 0, 1448, l.opts())
	l.src(ack, 1448, 1448, l.opts()) // lost behind the box
	l.src(ack, 2896, 1448, l.opts())
	l.src(ack, 5792, 1448, l.opts()) // behind a hole in front of the box
	l.rcv(ack, 1448, 60000, 0, 0, sackOpt(l, 2896, 4344, 5792, 7240))
	var made []int
	for _, s := range append(l.take(), l.pass(400*time.Millisecond)...) {
		if s.to == ToReceiver && len(s.Payload()) > 0 {
			made = append(made, s.off, s.off+len(s.Payload()))
			l.rcv(ack, 4344, 60000, 0, 0, sackOpt(l, 5792, 7240))
		}
	}
	if !slices.Equal(made, []int{1448, 2896}) {
		t.Errorf("made %v", made)
	}
	if st := l.stats(); st.FilledBytes != 1448 || st.Mode != Realtime || st.Unacked != 0 {
		t.Errorf("%+v", st)
	}
}

// Reliable has the real bytes.
func TestNoFillingBesideReliable(t *testing.T) {
	l := newLab(t)
	p := fillP
	p.Mode = Reliable
	l.start(p)
	if n := l.e.find(l.key).near; n != nil {
		t.Errorf("%+v", n)
	}
}

// A connection with urgent data is left alone, its holes too (tcp.md 2.5).
func TestNoFillingOfUrgentData(t *testing.T) {
	l := filledLab(t, fillP)
	l.src(ack|packet.FlagURG, 4896, 1448, l.opts())
	if made := l.pass(time.Second); len(made) != 0 {
		t.Errorf("%d packets", len(made))
	}
}

func TestFillHotPathAllocatesNothing(t *testing.T) {
	for _, sack := range []bool{true, false} {
		l := newLab(t)
		l.sack = sack
		_ = l.e.WatchNear(l.now, l.key)
		p := fillP
		p.Rate = 1e9
		l.start(p)
		opt := sackOpt(l, 0, 1000)
		if !sack {
			opt = l.opts()
		}
		data := packet.AppendTCP(nil, &packet.Segment{Key: l.key, TTL: 64, DF: true, Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(), Payload: contents(0, 1448)})
		acks := packet.AppendTCP(nil, &packet.Segment{Key: l.key.Reverse(), TTL: 60, DF: true, Seq: l.risn.Add(1), Flags: ack, Window: 8000, Options: opt})
		off := l.sisn.Add(1)
		step := func() {
			// A segment, a lost one, and a third that tells of it.
			for k := range 3 {
				if k != 1 {
					v, _ := packet.Parse(data)
					v.TCP().SetSeq(off)
					l.e.Handle(l.now, v, Meta{CsumNotReady: true})
				}
				off = off.Add(1448)
			}
			v, _ := packet.Parse(acks)
			v.TCP().SetAck(off.Add(-2 * 1448))
			if sack {
				b := v.TCP().Options()
				blk := packet.AppendSACK(b[:12], []packet.SACKBlock{{Left: off.Add(-1448), Right: off}}, 28)
				_ = blk
			}
			for range 2 {
				l.e.Handle(l.now, v, Meta{CsumNotReady: true})
			}
			l.now = l.now.Add(30 * time.Millisecond)
			l.e.Advance(l.now)
			l.e.TakeInjected()
			v.TCP().SetAck(off)
			l.e.Handle(l.now, v, Meta{CsumNotReady: true})
			l.e.TakeInjected()
		}
		for range 500 {
			step()
		}
		before := l.stats().Filled
		if before < 400 {
			t.Errorf("SACK %v: %d segments made", sack, before)
		}
		if n := testing.AllocsPerRun(500, step); n != 0 {
			t.Errorf("SACK %v: %v allocations", sack, n)
		}
	}
}

// The receiver says for ever that a hole is there: what was made for it again,
// and that it was given up, stands in the flow's numbers and in the engine's.
func TestFillGivenUpIsCounted(t *testing.T) {
	l := newLab(t)
	l.start(fillP)
	l.src(ack, 0, 1448, l.opts())
	l.rcv(ack, 1448, 60000, 0, 0, l.opts())
	l.src(ack, 2896, 1448, l.opts())
	l.rcv(ack, 1448, 60000, 0, 0, sackOpt(l, 2896, 4344))
	n := len(l.pass(10 * time.Minute))
	st, tot := l.stats(), l.e.Totals()
	if n < 2 || st.FillsGivenUp != 1 || int(st.FillsAgain) != n-1 || tot.FillsGivenUp != 1 || tot.FillsAgain != st.FillsAgain {
		t.Errorf("%d made; %+v; %+v", n, st, tot)
	}
}
