package tcpcheat

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// icmpTooBig is a router's answer to packet p, which does not fit its next link.
func icmpTooBig(p []byte, mtu int) []byte {
	if p[0]>>4 == 4 {
		b := []byte{0x45, 0, 0, 56, 0, 0, 0, 0, 64, packet.ProtoICMP, 0, 0, 203, 0, 113, 1}
		b = append(append(b, p[12:16]...), 3, 4, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
		b = append(b, p[:28]...)
		binary.BigEndian.PutUint16(b[22:], packet.Checksum(b[20:]))
		return b
	}
	b := []byte{0x60, 0, 0, 0, 0, 88, packet.ProtoICMPv6, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}
	b = append(append(b, p[8:24]...), 2, 0, 0, 0)
	b = append(binary.BigEndian.AppendUint32(b, uint32(mtu)), p[:80]...)
	sum := packet.Sum(packet.ProtoICMPv6+88, b[8:40])
	binary.BigEndian.PutUint16(b[42:], packet.Fold(packet.Sum(sum, b[40:])))
	return b
}

// quote is an error about n bytes of data at off of the lab's source.
func (l *lab) quote(off, n, mtu int) Action {
	l.t.Helper()
	return l.error(icmpTooBig(packet.AppendTCP(nil, &packet.Segment{
		Key: l.key, TTL: 60, DF: true, Seq: l.sisn.Add(1 + off), Ack: l.risn.Add(1), Flags: ack,
		Options: l.opts(), Payload: contents(off, n),
	}), mtu))
}

func (l *lab) error(b []byte) Action {
	l.t.Helper()
	v, err := packet.Parse(b)
	if err != nil {
		l.t.Fatal(err)
	}
	was := string(b)
	a := l.e.Handle(l.now, v, Meta{})
	if a != Accept || string(b) != was {
		l.t.Errorf("the source does not get its ICMP as it was: %v", a)
	}
	return a
}

// RFC 1191 section 3 and RFC 8201 section 4: what did not fit goes again at once in
// pieces that do, though the source believes that it was delivered; so does all
// that follows.
func TestRFC1191_TooBigAboutWhatIsHeld(t *testing.T) {
	for _, c := range []struct {
		v6        bool
		mtu, want int
	}{
		{false, 1400, 1400 - 52},
		{true, 1400, 1400 - 72},
		{false, 100, 576 - 52},
		{true, 1280, 1280 - 72},
		{false, 0, 1492 - 52}, // an old router: RFC 1191 section 7.1
	} {
		l := newLab(t)
		if c.v6 {
			l.key = key6()
		}
		l.start(labParams)
		for off := 0; off < 4*1448; off += 1448 {
			l.src(ack, off, 1448, l.opts())
		}
		l.take()
		l.now = l.now.Add(20 * time.Millisecond)
		l.quote(1448, 1448, c.mtu)
		end, count := 1448, 0
		for _, s := range append(l.take(), l.pass(10*time.Millisecond)...) {
			if s.to != ToReceiver {
				continue
			}
			if count++; s.off != end || len(s.Payload()) > c.want {
				t.Errorf("%+v: %d bytes at %d, want the next after %d", c, len(s.Payload()), s.off, end)
			}
			end = s.off + len(s.Payload())
		}
		if st := l.stats(); end != 4*1448 || st.TooBig != 1 || st.TooBigRefused != 0 || st.PathMTU != c.want+l.header() {
			t.Errorf("%+v: sent again up to %d in %d pieces; %+v", c, end, count, st)
		}
		// The errors about the other segments of that flight cause nothing more.
		l.quote(2*1448, 1448, c.mtu)
		l.quote(3*1448, 1448, c.mtu)
		for _, s := range append(l.take(), l.pass(10*time.Millisecond)...) {
			if s.to == ToReceiver {
				t.Errorf("%+v: %d bytes at %d are sent a third time", c, len(s.Payload()), s.off)
			}
		}
		if a := l.src(ack, 4*1448, 1448, l.opts()); a != Drop {
			t.Errorf("%+v: new data goes on whole", c)
		}
	}
}

func (l *lab) header() int {
	if l.key.Is4() {
		return 52
	}
	return 72
}

// What was sent before the segment that did not fit may have passed: it is not
// sent again unless an error says so too, or it is lost.
func TestTooBigSparesWhatWentBefore(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	for i := range 4 {
		l.src(ack, i*1448, 1448, l.opts())
		l.now = l.now.Add(5 * time.Millisecond)
	}
	l.take()
	l.quote(2*1448, 1448, 1400)
	again, _ := split(t, append(l.take(), l.pass(5*time.Millisecond)...))
	if _, early := again[1448]; early || again[2*1448] == 0 || again[3*1448] == 0 {
		t.Errorf("sent again %v", again)
	}
	l.quote(0, 1448, 1400) // and here another one says so
	again, _ = split(t, append(l.take(), l.pass(5*time.Millisecond)...))
	if again[0] == 0 || again[1448] == 0 || again[2*1448] != 0 {
		t.Errorf("after the second error sent again %v", again)
	}
}

// RFC 5927 section 4.1: an error that quotes what is not on its way is not
// believed; nor, by its section 7, one that claims an MTU into which the packet
// would have fit; nor (RFC 8201 section 4) one below IPv6's least, or one that
// would have the path grow.
func TestRFC5927_TooBigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name        string
		v6          bool
		off, n, mtu int
	}{
		{"acknowledged by the receiver", false, 0, 1448, 1400},
		{"beyond what was sent", false, 3 * 1448, 1448, 1400},
		{"far away", false, 1 << 30, 1448, 1400},
		{"it would have fit", false, 2 * 1448, 1348, 1400},
		{"RFC 8201: less than 1280", true, 2 * 1448, 1448, 1279},
		{"RFC 8201: nothing told", true, 2 * 1448, 1448, 0},
	} {
		l := newLab(t)
		if c.v6 {
			l.key = key6()
		}
		l.start(labParams)
		for off := 0; off < 3*1448; off += 1448 {
			l.src(ack, off, 1448, l.opts())
		}
		l.rcv(ack, 1448, 65000, 0, 0, l.opts())
		l.take()
		l.quote(c.off, c.n, c.mtu)
		again, _ := split(t, append(l.take(), l.pass(10*time.Millisecond)...))
		if st := l.stats(); len(again) != 0 || st.PathMTU != 0 || st.TooBig != 0 || st.TooBigRefused != 1 {
			t.Errorf("%s: sent again %v; %+v", c.name, again, st)
		}
	}
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 0, 1448, l.opts())
	l.now = l.now.Add(time.Millisecond)
	l.quote(0, 1448, 1200)
	l.quote(0, 1448, 1400)
	if st := l.stats(); st.PathMTU != 1200 {
		t.Errorf("the path grew to %d", st.PathMTU)
	}
	if got := l.e.Totals(); got.TooBig != 2 {
		t.Errorf("%+v", got)
	}
}

// A connection that is not cheated, and data towards the source, are the ends'
// own: the error passes and nothing is learnt.
func TestTooBigOfOthers(t *testing.T) {
	l := newLab(t)
	l.open()
	l.src(ack, 0, 1448, l.opts())
	l.quote(0, 1448, 1400)
	if st := l.stats(); st.TooBig != 0 || st.PathMTU != 0 {
		t.Errorf("watched: %+v", st)
	}
	l = newLab(t)
	l.start(labParams)
	l.rcv(ack, 0, 65000, 0, 1448, l.opts())
	l.error(icmpTooBig(packet.AppendTCP(nil, &packet.Segment{
		Key: l.key.Reverse(), TTL: 60, DF: true, Seq: l.risn.Add(1), Flags: ack, Options: l.opts(), Payload: contents(0, 1448),
	}), 1400))
	if st := l.stats(); st.TooBig != 0 || st.PathMTU != 0 {
		t.Errorf("the other direction: %+v", st)
	}
}

// With fill beside realtime, what is made for holes fits the path too.
func TestTooBigBesideFill(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode, p.Fill, p.FillAfter = Realtime, true, 20*time.Millisecond
	l.start(p)
	l.src(ack, 0, 1448, l.opts())
	l.src(ack, 1448, 1448, l.opts())
	l.src(ack, 2*1448, 1000, l.opts())
	l.pass(20 * time.Millisecond)
	l.quote(0, 1448, 700)
	for range 3 {
		l.rcv(ack, 0, 65000, 0, 0, sackOpt(l, 2*1448, 2*1448+1000))
		l.now = l.now.Add(10 * time.Millisecond)
	}
	filled := 0
	for _, s := range append(l.take(), l.pass(2*time.Second)...) {
		if s.to == ToReceiver {
			filled += len(s.Payload())
			if len(s.Payload()) > 700-52 {
				t.Errorf("%d bytes at %d are made up at once", len(s.Payload()), s.off)
			}
		}
	}
	if filled < 2*1448 {
		t.Errorf("%d bytes filled: %+v", filled, l.stats())
	}
	// What came after the error went in pieces, and its holes are seen too.
	const more = 2*1448 + 1000
	if a := l.src(ack, more, 1448, l.opts()); a != Drop {
		t.Fatalf("new data goes on whole: %v", a)
	}
	l.src(ack, more+1448, 1448, l.opts())
	l.take() // the pieces
	l.pass(20 * time.Millisecond)
	for range 3 {
		l.rcv(ack, more, 65000, 0, 0, sackOpt(l, more+1448, more+2*1448))
		l.now = l.now.Add(10 * time.Millisecond)
	}
	filled = 0
	for _, s := range append(l.take(), l.pass(2*time.Second)...) {
		if s.to == ToReceiver && s.off >= more {
			filled += len(s.Payload())
		}
	}
	if filled < 1448 {
		t.Errorf("%d bytes filled of what came after: %+v", filled, l.stats())
	}
}

// Each of several segments on their way that did not fit brings an error, and what
// was on its way when cheating began is sent again for the first of them alone
// (RFC 5927: who can guess a sequence number shall not have it repeated at will).
func TestTooBigRescuesOnce(t *testing.T) {
	l := newLab(t)
	l.open()
	for i := range 8 {
		l.src(ack, i*1448, 1448, l.opts())
	}
	p := labParams
	p.Mode = Realtime
	if err := l.e.Start(l.now, l.key, p); err != nil {
		t.Fatal(err)
	}
	l.take()
	for i := range 8 {
		l.quote(i*1448, 1448, 1400)
	}
	for range 50 {
		l.quote(0, 1448, 1400)
	}
	sent := 0
	for _, s := range l.take() {
		if s.to == ToReceiver {
			sent += len(s.Payload())
		}
	}
	if sent != 8*1448 {
		t.Errorf("%d bytes sent again of %d", sent, 8*1448)
	}
}

// In realtime what is lost is lost, but what follows goes in pieces, up to the FIN.
func TestTooBigInRealtime(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode = Realtime
	l.start(p)
	l.src(ack, 0, 1448, l.opts())
	l.take()
	l.quote(0, 1448, 1400)
	if a := l.src(ack|fin, 1448, 1448, l.opts()); a != Drop {
		t.Fatalf("new data goes on whole: %v", a)
	}
	end, ended := 1448, false
	for _, s := range l.take() {
		if s.to == ToReceiver && len(s.Payload()) > 0 {
			if s.off != end || len(s.Payload()) > 1348 || ended {
				t.Errorf("%d bytes at %d after %d, behind the FIN: %v", len(s.Payload()), s.off, end, ended)
			}
			end, ended = s.off+len(s.Payload()), s.Has(fin)
		}
	}
	if end != 2*1448 || !ended {
		t.Errorf("up to %d, FIN %v", end, ended)
	}
}

// A whole transfer over a path whose MTU shrinks in the middle, with a router
// that says so: every byte arrives, and hardly any is swallowed twice.
func TestRFC8201_PathShrinksBehindTheBox(t *testing.T) {
	for _, gso := range []int{1, 16} {
		for _, v6 := range []bool{false, true} {
			for _, told := range []int{1, 5} { // every so many errors come; routers limit them
				t.Run(fmt.Sprintf("gso %d v6 %v one in %d", gso, v6, told), func(t *testing.T) {
					s := newSim(t, 6)
					s.eng = New(Limits{})
					if v6 {
						s.key = key6()
					}
					s.src.mss, s.src.gso, s.src.shift = 1428, gso, 7
					s.rcv.mss, s.rcv.shift, s.rcv.buf = 1428, 7, 1<<20
					s.src.total = 1_500_000
					swallowed, twice := 0, 0
					seen := map[packet.Seq]bool{}
					s.wan.deliver = func(p []byte) {
						if s.now < 800*time.Millisecond || len(p) <= 1400 {
							s.rcv.receive(p)
							return
						}
						v, _ := packet.Parse(p)
						if seen[v.TCP().Seq()] {
							twice++
						}
						seen[v.TCP().Seq()] = true
						if swallowed++; swallowed%told == 0 {
							s.after(s.back.delay, func() { s.error(icmpTooBig(p, 1400)) })
						}
					}
					s.begin(0, Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3})
					ok := s.run(5*time.Minute, func() bool { return s.src.finAcked })
					st, _ := s.eng.Flow(s.key)
					if !ok || s.rcv.bytes != s.src.total || s.src.reset {
						t.Errorf("%d of %d bytes at %v; %+v", s.rcv.bytes, s.src.total, s.now, st)
					}
					if st.PathMTU != 1400 || twice > 0 {
						t.Errorf("path MTU %d, %d swallowed, %d of them again", st.PathMTU, swallowed, twice)
					}
					t.Logf("%d swallowed, done at %v, timeouts %d", swallowed, s.now, st.Timeouts)
				})
			}
		}
	}
}

// error is an ICMP error on its way back through the box.
func (s *sim) error(b []byte) {
	v, err := packet.Parse(b)
	if err != nil || s.eng.Handle(s.time(), v, Meta{}) != Accept {
		s.fail("ICMP error: %v", err)
	}
	s.flush()
}
