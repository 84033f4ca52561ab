package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// RFC 7323 sections 4.3 and 5: a segment of the receiver that is overtaken by a
// later one must still be acceptable to the source after a fake ACK.
func TestRFC7323_4_3_FakeAckKeepsToSegmentsInOrder(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.tick = 500
	l.rcv(ack, 0, 65000, 0, 0, l.opts())
	late := l.opts() // of data that is overtaken
	l.tick = 600
	l.rcv(ack, 0, 65000, 100, 0, l.opts())
	l.src(ack, 0, 1448, l.opts())
	if got := l.take(); len(got) != 1 || got[0].o.TSVal != 500 {
		t.Fatalf("TSval %d: the overtaken segment's 500 would be discarded", got[0].o.TSVal)
	}
	l.rcv(ack|packet.FlagPSH, 0, 65000, 0, 100, late)
	l.tick = 700
	l.rcv(ack, 0, 65000, 100, 0, l.opts())
	l.src(ack, 1448, 1448, l.opts())
	if got := l.take(); len(got) != 1 || got[0].o.TSVal != 700 {
		t.Errorf("TSval %d after the hole was filled, want 700", got[0].o.TSVal)
	}
	// Two segments that arrive in the wrong order close the hole together.
	l.tick = 800
	l.rcv(ack|packet.FlagPSH, 0, 65000, 200, 100, l.opts())
	l.rcv(ack|packet.FlagPSH, 0, 65000, 100, 100, l.opts())
	l.tick = 900
	l.rcv(ack, 0, 65000, 300, 0, l.opts())
	l.src(ack, 2*1448, 1448, l.opts())
	if got := l.take(); len(got) != 1 || got[0].o.TSVal != 900 {
		t.Errorf("TSval %d after two holes, want 900", got[0].o.TSVal)
	}
}

// RFC 7323 section 4.1, RFC 3522: an acknowledgement that was raised echoes the
// time stamp of what it acknowledges, or the source measures the wrong way and
// takes its own retransmissions for needless.
func TestRFC7323_4_1_RaisedAckEchoesWhatItClaims(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Rate, p.Bucket = 1e4, 3000 // acknowledged late
	l.start(p)
	l.tick = 1000
	l.src(ack, 0, 1448, l.opts())
	l.take()
	l.tick = 1010
	l.src(ack, 1448, 1448, l.opts())
	l.tick = 1020
	l.src(ack, 2*1448, 1448, l.opts())
	l.take()
	l.now = l.now.Add(ackAge)
	a, s := l.rcv(ack|packet.FlagPSH, 0, 65000, 0, 50, packet.AppendTimestamps(nil, 60, 900))
	o, _ := packet.ParseOptions(s.Options())
	if a != Modified || s.Ack() != l.sisn.Add(1+3*1448) {
		t.Fatalf("%v, ack +%d", a, s.Ack().Diff(l.sisn.Add(1)))
	}
	if o.TSEcr < 1000 || o.TSVal != 60 {
		t.Errorf("TSecr %d, TSval %d: want that of data in hand, and the receiver's own", o.TSEcr, o.TSVal)
	}
}

// RFC 6298 section 3 (Karn): a SYN-ACK that was repeated measures nothing.
func TestRFC6298_3_RepeatedSYNACK(t *testing.T) {
	l := newLab(t)
	if err := l.e.Watch(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: l.synOpts()}, Meta{})
	for range 2 {
		l.now = l.now.Add(time.Second)
		l.handle(&packet.Segment{
			Key: l.key.Reverse(), TTL: 61, Seq: l.risn, Ack: l.sisn.Add(1), Flags: syn | ack, Window: 65000, Options: l.synOpts(),
		}, Meta{})
	}
	l.now = l.now.Add(time.Millisecond)
	l.src(ack, 0, 0, l.opts())
	if st := l.stats(); st.RTTSender != 0 || st.RTTReceiver != time.Second || st.State != Watched {
		t.Errorf("%+v", st)
	}
}

// RFC 6864: packets with DF continue the host's numbers; those without must be
// unique, so they keep away from the host's own counter.
func TestRFC6864_Identification(t *testing.T) {
	for _, df := range []bool{true, false} {
		l := newLab(t)
		l.start(labParams)
		seen := map[uint16]bool{}
		for i := range uint16(200) {
			l.handle(&packet.Segment{
				Key: l.key.Reverse(), TTL: 61, DF: df, ID: 1000 + i, Seq: l.risn.Add(1), Ack: l.sisn.Add(1), Flags: ack, Window: 500, Options: l.opts(),
			}, Meta{})
			seen[1000+i] = true
			l.src(ack, int(i)*100, 100, l.opts())
			for _, s := range l.take() {
				switch id := s.v.ID(); {
				case s.v.DF() != df:
					t.Fatalf("DF %v, the receiver's %v", s.v.DF(), df)
				case df && id < 1000+i, !df && seen[id]:
					t.Errorf("DF %v: identification %d after %d", df, id, 1000+i)
				default:
					seen[id] = !df
				}
			}
		}
	}
}

// RFC 5681 section 2: without SACK the source repairs a hole in front of the
// box after three duplicate ACKs, and only those with the same window count.
func TestRFC5681_2_DuplicateAcksHaveOneWindow(t *testing.T) {
	l := newLab(t)
	l.sack = false
	l.start(labParams)
	l.src(ack, 0, 10*1448, l.opts())
	l.take()
	var got []seg
	for i := 11; i < 20; i++ {
		l.now = l.now.Add(2 * time.Millisecond)
		l.src(ack, i*1448, 1448, l.opts())
		l.rcv(ack, 0, 65000+i*5000, 0, 0, l.opts())
		got = append(got, l.take()...)
	}
	dups := 0
	for i, s := range got[1:] {
		if s.off != 10*1448 {
			t.Errorf("acknowledged %d", s.off)
		} else if s.Window() == got[i].Window() {
			dups++
		}
	}
	if dups < 7 {
		t.Errorf("%d of %d are duplicates", dups, len(got)-1)
	}
	l.src(ack, 10*1448, 1448, l.opts())
	if got = l.take(); len(got) != 1 || got[0].off != 20*1448 {
		t.Errorf("after the repair: %+v", got)
	}
}

// tcp.md 2.4: in reliable mode CWR towards the receiver is the box's own word.
func TestRFC3168_6_1_2_TwoLoops(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	send := func(i int, flags uint8) (Action, bool) {
		a, s := l.handle(&packet.Segment{
			Key: l.key, TTL: 64, DF: true, Seq: l.sisn.Add(1 + i*1448), Ack: l.risn.Add(1), Flags: ack | flags,
			Window: 500, Options: l.opts(), Payload: contents(i*1448, 1448),
		}, Meta{})
		return a, s.Has(packet.FlagCWR)
	}
	if a, cwr := send(0, packet.FlagCWR); a != Modified || cwr {
		t.Errorf("the source's CWR goes on: %v", a)
	}
	l.rcv(ack|packet.FlagECE, 0, 65000, 0, 0, l.opts())
	l.rcv(ack|packet.FlagECE, 0, 65000, 0, 0, l.opts())
	if a, cwr := send(1, 0); a != Modified || !cwr {
		t.Errorf("no answer to the receiver's echo: %v", a)
	}
	if a, cwr := send(2, 0); a != Accept || cwr {
		t.Errorf("the echo is answered twice: %v", a)
	}
	l.rcv(ack|packet.FlagECE, 1448, 65000, 0, 0, l.opts())
	if _, cwr := send(3, 0); cwr {
		t.Error("an echo of the same window is answered again")
	}
	l.rcv(ack|packet.FlagECE, 4*1448, 65000, 0, 0, l.opts())
	if _, cwr := send(4, 0); !cwr {
		t.Error("a mark in the next window is not answered")
	}
}

// A segment whose checksum is wrong will be discarded by its receiver: nothing
// is learnt from it, and a reset in it ends nothing.
func TestDamagedSegmentsAreNotBelieved(t *testing.T) {
	for _, flags := range []uint8{ack, rst | ack} {
		l := newLab(t)
		l.start(labParams)
		l.src(ack, 0, 4*1448, l.opts())
		l.take()
		b := packet.AppendTCP(nil, &packet.Segment{
			Key: l.key.Reverse(), TTL: 61, Seq: l.risn.Add(1), Ack: l.sisn.Add(1 + 4*1448), Flags: flags, Window: 500, Options: l.opts(),
		})
		b[len(b)-1] ^= 1
		v, _ := packet.Parse(b)
		if a := l.e.Handle(l.now, v, Meta{}); a != Accept {
			t.Errorf("action %v", a)
		}
		if st := l.stats(); st.State != Cheated || st.Unacked != 4*1448 || st.BadChecksums != 1 {
			t.Errorf("flags %x: %+v", flags, st)
		}
	}
}
