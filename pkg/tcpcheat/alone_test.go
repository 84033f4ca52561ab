package tcpcheat

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// allModes are the treatments that a connection may be under.
var allModes = []Params{
	{Mode: Realtime, Rate: 1e6, Bucket: 64e3},
	{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3},
}

// untouched hands a segment to the engine and wants it to pass byte for byte.
func (l *lab) untouched(what string, s *packet.Segment) {
	l.t.Helper()
	before := packet.AppendTCP(nil, s)
	if a, _ := l.handle(s, Meta{}); a != Accept {
		l.t.Errorf("%s: action %v", what, a)
	}
	if !bytes.Equal(before, l.buf) {
		l.t.Errorf("%s was edited:\n%x\n%x", what, before, l.buf)
	}
}

// kept hands over a segment of the receiver and wants all but its acknowledgement
// and window to pass byte for byte.
func (l *lab) kept(what string, s *packet.Segment) {
	l.t.Helper()
	v, _ := packet.Parse(packet.AppendTCP(nil, s))
	was := v.TCP()
	a, got := l.handle(s, Meta{})
	if a == Drop || got.Flags() != was.Flags() || !bytes.Equal(got[18:], was[18:]) {
		l.t.Errorf("%s: action %v\n%x\n%x", what, a, was, got)
	}
}

// alone wants the flow to be let alone by that name, at the latest when what was
// in hand is delivered.
func (l *lab) alone(what string, off int, why error) {
	l.t.Helper()
	if st := l.stats(); st.State == Draining {
		l.pass(time.Second) // acknowledgements that are still owed
		l.rcv(ack, off, 60000, 0, 0, l.opts())
	}
	st := l.stats()
	if st.State != LeftAlone || st.Reason != why.Error() {
		l.t.Errorf("%s: %v, reason %q, want %q", what, st.State, st.Reason, why)
	}
	if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, why) {
		l.t.Errorf("%s: Start afterwards: %v", what, err)
	}
}

// tcp.md 2.1: an option that forbids cheating does so at any time and from
// either end, and goes on byte for byte.
func TestOptionsMidwayAreLeftAlone(t *testing.T) {
	for _, p := range allModes {
		for what, c := range map[string]struct {
			opt  []byte
			want error
		}{
			"RFC 8684 MPTCP":   {[]byte{30, 4, 0x20, 1}, ErrMPTCP},
			"RFC 2385 MD5":     {append([]byte{19, 18}, make([]byte, 18)...), ErrMD5},
			"RFC 5925 AO":      {append([]byte{29, 16}, make([]byte, 14)...), ErrAO},
			"RFC 9768 AccECN":  {[]byte{172, 5, 0, 0, 1, 1, 1, 1}, ErrAccECN},
			"unknown kind":     {[]byte{99, 4, 7, 9}, ErrOption},
			"malformed length": {[]byte{99, 1, 7, 9}, ErrOption},
		} {
			for _, fromSource := range []bool{true, false} {
				l := newLab(t)
				l.start(p)
				l.src(ack, 0, 1448, l.opts())
				s := &packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1449), Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(c.opt...), Payload: contents(1448, 100)}
				off := 1548
				if !fromSource {
					off = 1448
					s = &packet.Segment{Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1449), Flags: ack, Window: 500, Options: l.opts(c.opt...)}
				}
				if fromSource {
					l.untouched(what, s)
				} else {
					l.kept(what, s)
				}
				l.alone(what, off, c.want)
				s.Seq = s.Seq.Add(len(s.Payload))
				l.untouched(what+" again", s)
			}
		}
	}
}

// RFC 7413 section 4.1: asking for a cookie is no data in the SYN.
func TestRFC7413_CookieAloneIsCheated(t *testing.T) {
	l := newLab(t)
	_ = l.e.Watch(l.now, l.key)
	opt := append(l.synOpts(), 34, 2, 1, 1)
	l.untouched("SYN", &packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: opt})
	l.untouched("SYN-ACK", &packet.Segment{
		Key: l.key.Reverse(), TTL: 61, Seq: l.risn, Ack: l.sisn.Add(1), Flags: syn | ack, Window: 65000,
		Options: append(l.synOpts(), 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1),
	})
	l.src(ack, 0, 0, l.opts())
	if err := l.e.Start(l.now, l.key, labParams); err != nil {
		t.Error(err)
	}
	if st := l.stats(); st.State != Cheated {
		t.Errorf("%v %q", st.State, st.Reason)
	}
}

// RFC 7413 section 4.2: with data in the SYN, all of it passes as it is, the
// acknowledgement of the data too.
func TestRFC7413_DataInSYNPasses(t *testing.T) {
	l := newLab(t)
	_ = l.e.Watch(l.now, l.key)
	opt := append(l.synOpts(), 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1)
	l.untouched("SYN", &packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: opt, Payload: contents(0, 100)})
	l.untouched("SYN-ACK", &packet.Segment{Key: l.key.Reverse(), TTL: 61, Seq: l.risn, Ack: l.sisn.Add(101), Flags: syn | ack, Window: 65000, Options: l.synOpts()})
	l.untouched("data", &packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(101), Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(), Payload: contents(100, 100)})
	l.alone("data in the SYN", 200, ErrFastOpen)
}

// tcp.md 2.6, RFC 9293 section 3.8.5: urgent data passes with its pointer, in
// both directions, and a repetition with the pointer passes although the engine
// has the bytes.
func TestUrgentPassesWithItsPointer(t *testing.T) {
	for _, p := range allModes {
		l := newLab(t)
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		s := &packet.Segment{
			Key: l.key, TTL: 64, Seq: l.sisn.Add(1449), Ack: l.risn.Add(1), Flags: ack | packet.FlagURG | packet.FlagPSH,
			Window: 500, Urgent: 5, Options: l.opts(), Payload: contents(1448, 10),
		}
		l.untouched("urgent data", s)
		s.Seq, s.Urgent, s.Payload = l.sisn.Add(1), 1453, contents(0, 1448)
		l.untouched("a repetition with the pointer", s)
		l.kept("the receiver's urgent data", &packet.Segment{
			Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1449),
			Flags: ack | packet.FlagURG, Window: 500, Urgent: 3, Options: l.opts(), Payload: contents(0, 5),
		})
		l.alone("urgent data", 1458, ErrUrgent)
		for _, s := range append(l.take(), l.pass(time.Second)...) {
			if s.Has(packet.FlagURG) || s.to == ToReceiver && s.off+len(s.Payload()) > 1448 {
				t.Errorf("%v: urgent bytes were made: %d at %d", p.Mode, len(s.Payload()), s.off)
			}
		}
	}
}

// While held bytes are being delivered, a segment of the receiver with urgent
// data is raised like any other, and keeps its pointer and data.
func TestUrgentOfTheReceiverWhileDraining(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	if l.stats().Unacked != 1448 {
		t.Fatalf("%+v", l.stats())
	}
	s := &packet.Segment{
		Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1), Flags: ack | packet.FlagURG,
		Window: 500, Urgent: 3, Options: l.opts(), Payload: contents(0, 5),
	}
	a, got := l.handle(s, Meta{})
	if a != Modified || !got.Has(packet.FlagURG) || got.Ack() != l.sisn.Add(1449) || !bytes.Equal(got.Payload(), contents(0, 5)) {
		t.Errorf("%v: flags %x, ack %d", a, got.Flags(), got.Ack().Diff(l.sisn))
	}
	if p := uint16(got[18])<<8 | uint16(got[19]); p != 3 {
		t.Errorf("urgent pointer %d", p)
	}
	if st := l.stats(); st.State != Draining || st.Reason != ErrUrgent.Error() {
		t.Errorf("%v %q", st.State, st.Reason)
	}
}

// What comes in fragments is not seen as a whole: it passes, and the flow is let
// alone once its bytes are delivered.
func TestFragmentsAreLeftAlone(t *testing.T) {
	for _, p := range allModes {
		l := newLab(t)
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		b := packet.AppendTCP(nil, &packet.Segment{
			Key: l.key, TTL: 64, Seq: l.sisn.Add(1449), Ack: l.risn.Add(1), Flags: ack, Window: 500,
			Options: l.opts(), Payload: contents(1448, 1448),
		})
		b[6] |= 0x20 // more fragments
		was := bytes.Clone(b)
		v, err := packet.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if a := l.e.Handle(l.now, v, Meta{}); a != Accept || !bytes.Equal(b, was) {
			t.Errorf("%v: %v", p.Mode, a)
		}
		l.alone("a fragment", 1448, ErrFragment)
	}
}

// QUIC and all else that is not TCP is none of the engine's business.
func TestQUICIsNotTCP(t *testing.T) {
	l := newLab(t)
	udp := l.key
	udp.Proto = packet.ProtoUDP
	if err := l.e.Watch(l.now, udp); !errors.Is(err, ErrNotTCP) {
		t.Errorf("Watch: %v", err)
	}
	l.start(labParams)
	b := append(packet.AppendTCP(nil, &packet.Segment{Key: l.key, TTL: 64})[:20], 0x0f, 0xa0, 0, 80, 0, 20, 0, 0, 0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6)
	b[9] = packet.ProtoUDP
	was := bytes.Clone(b)
	v, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if a := l.e.Handle(l.now, v, Meta{}); a != Accept || !bytes.Equal(was, b) || len(l.take()) != 0 {
		t.Errorf("action %v", a)
	}
	if st := l.stats(); st.State != Cheated {
		t.Errorf("the TCP flow of the same ports: %v %q", st.State, st.Reason)
	}
}

// Data that is another one when it is sent again: the first copy is what the
// receiver gets, and then the flow is let alone.
func TestDataChangedOnRetransmission(t *testing.T) {
	other := bytes.Repeat([]byte{0xee}, 3000)
	for what, c := range map[string]struct{ from, n int }{
		"all of it":              {0, 1448},
		"within":                 {100, 200},
		"the end, and new data":  {1400, 1448},
		"data beyond a hole":     {5000, 1000},
		"into a hole, and after": {4600, 1000},
	} {
		l := newLab(t)
		l.start(labParams)
		l.src(ack, 0, 1448, l.opts())
		l.src(ack, 5000, 1448, l.opts())
		a, _ := l.handle(&packet.Segment{
			Key: l.key, TTL: 64, Seq: l.sisn.Add(1 + c.from), Ack: l.risn.Add(1), Flags: ack, Window: 500,
			Options: l.opts(), Payload: other[:c.n],
		}, Meta{})
		if a != Drop {
			t.Errorf("%s: %v", what, a)
		}
		if st := l.stats(); st.State != Draining || st.Reason != ErrChanged.Error() {
			t.Errorf("%s: %v %q", what, st.State, st.Reason)
		}
		for _, s := range append(l.take(), l.pass(900*time.Millisecond)...) {
			if s.to == ToReceiver && !bytes.Equal(s.Payload(), contents(s.off, len(s.Payload()))) {
				t.Errorf("%s: the receiver is sent other bytes at %d", what, s.off)
			}
		}
		l.alone(what, 1448, ErrChanged)
	}
}

// The same bytes again, whole or in part, are no contradiction; nor is the byte
// of a keep-alive (RFC 9293 section 3.8.4).
func TestSameDataAgainIsNoContradiction(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 3*1448, l.opts())
	l.src(ack, 6000, 1448, l.opts())
	l.src(ack, 100, 1448, l.opts())
	l.src(ack, 4000, 2500, l.opts())
	l.src(ack, 6100, 3000, l.opts())
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(3 * 1448), Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(), Payload: []byte{0}}, Meta{})
	if st := l.stats(); st.State != Cheated {
		t.Errorf("%v %q", st.State, st.Reason)
	}
}

// Before the reservation, too.
func TestDataChangedBeforeTheReservation(t *testing.T) {
	l := newLab(t)
	l.open()
	l.src(ack, 0, 1448, l.opts())
	l.untouched("other data", &packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1), Ack: l.risn.Add(1), Flags: ack, Window: 500, Options: l.opts(), Payload: make([]byte, 1448)})
	l.alone("other data", 1448, ErrChanged)
}

// An acknowledgement of what nobody sent passes, and if nothing explains it the
// flow is let alone.
func TestAckOfTheNeverSent(t *testing.T) {
	for _, p := range allModes {
		l := newLab(t)
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		l.rcv(ack, 1448, 60000, 0, 0, l.opts())
		l.take()
		if a, got := l.rcv(ack, 9000, 60000, 0, 0, l.opts()); a != Accept || got.Ack() != l.sisn.Add(9001) {
			t.Errorf("%v: %v", p.Mode, a)
		}
		if st := l.stats(); st.State != Cheated || st.Contradictions != 1 {
			t.Errorf("%v: %v at once, %d contradictions", p.Mode, st.State, st.Contradictions)
		}
		l.pass(unseenTime + time.Millisecond)
		l.alone("the receiver's", 1448, ErrNeverSent)

		l = newLab(t)
		l.start(p)
		l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn.Add(1), Ack: l.risn.Add(5000), Flags: ack, Window: 500, Options: l.opts()}, Meta{})
		l.pass(unseenTime + time.Millisecond)
		l.alone("the source's", 0, ErrNeverSent)
	}
}

// What the source sends next refutes it at once, if that cannot have been
// overtaken.
func TestAckOfTheNeverSentIsRefuted(t *testing.T) {
	for _, p := range allModes {
		l := newLab(t)
		l.start(p)
		l.src(ack, 0, 1448, l.opts())
		l.rcv(ack, 1448, 60000, 0, 0, l.opts())
		l.rcv(ack, 9000, 60000, 0, 0, l.opts())
		l.src(ack, 1448, 1448, l.opts())
		if st := l.stats(); st.State != Cheated {
			t.Errorf("%v: %v at once", p.Mode, st.State)
		}
		l.pass(2 * overtaken)
		l.src(ack, 2896, 1448, l.opts())
		l.alone("the receiver's", 4344, ErrNeverSent)
	}
}

// With bytes in hand it ends: they are delivered, or else both ends are told.
func TestAckOfTheNeverSentWithBytesInHand(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.rcv(ack, 9000, 60000, 0, 0, l.opts())
	l.pass(unseenTime + time.Millisecond)
	if st := l.stats(); st.State != Draining || st.Unacked != 1448 {
		t.Fatalf("%v, %d in hand", st.State, st.Unacked)
	}
	resets := 0
	for _, s := range l.pass(3 * time.Minute) {
		if s.Has(packet.FlagRST) {
			resets++
		}
	}
	if st := l.stats(); resets != 2 || st.State == Cheated {
		t.Errorf("%d resets, %v %q", resets, st.State, st.Reason)
	}
}

// What passed unseen shows itself; and what its receiver would not believe is
// not believed here either.
func TestAckOfTheUnseen(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.rcv(ack, 9000, 60000, 0, 0, l.opts())
	l.pass(2 * time.Second)
	l.src(ack, 9000, 1448, l.opts()) // so that was sent, while nobody looked
	l.pass(2 * unseenTime)
	if st := l.stats(); st.State != Cheated {
		t.Errorf("%v %q", st.State, st.Reason)
	}
	for what, change := range map[string]func(*packet.Segment){
		"old timestamp":       func(s *packet.Segment) { s.Options = packet.AppendTimestamps(nil, 1, 1) },
		"old sequence number": func(s *packet.Segment) { s.Seq = l.risn.Add(-5000) },
	} {
		s := &packet.Segment{Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1 << 20), Flags: ack, Window: 500, Options: l.opts()}
		change(s)
		l.untouched(what, s)
		l.pass(2 * unseenTime)
		if st := l.stats(); st.State != Cheated {
			t.Errorf("%s: %v %q", what, st.State, st.Reason)
		}
	}
}
