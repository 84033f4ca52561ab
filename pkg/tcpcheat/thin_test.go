package tcpcheat

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// thinLab offers segments of a receiver to a thinner. Its stream begins at 0,
// the receiver's window is 1 MB, and the source is far from its edge.
type thinLab struct {
	t    testing.TB
	th   thinner
	key  packet.FlowKey
	now  instant
	sent int
	tick uint32
	buf  []byte
}

const (
	thinISN = packet.Seq(0xffff0000) // wraps early in every test
	thinMSS = 1448
	thinWin = 1 << 20
)

func newThinLab(t testing.TB, rate float64, rtt time.Duration) *thinLab {
	l := &thinLab{
		t: t, now: time.Second, sent: 100 * thinMSS,
		key: packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.2.0.2:80"), netip.MustParseAddrPort("10.1.0.2:4000")),
	}
	l.th.set(rate, rtt, rtt)
	return l
}

// thinSeg is a segment of the receiver; what is zero is as usual.
type thinSeg struct {
	ack   int // bytes into the source's stream
	win   int // -1: closed
	seq   int // of its own
	n     int // bytes of data
	flags uint8
	opt   []byte // beside timestamps
	tos   uint8
	meta  Meta
	edit  func(p []byte) []byte // of the finished packet
}

func (l *thinLab) build(s thinSeg) packet.View {
	l.t.Helper()
	win := s.win
	if win == 0 {
		win = thinWin
	}
	l.tick++
	opt := append(packet.AppendTimestamps(nil, l.tick, l.tick), s.opt...)
	l.buf = packet.AppendTCP(l.buf[:0], &packet.Segment{
		Key: l.key, TTL: 61, TOS: s.tos, ID: uint16(l.tick), DF: true, Seq: packet.Seq(1).Add(s.seq),
		Ack: thinISN.Add(s.ack), Flags: s.flags | ack, Window: packet.ScaleWindow(win, 7), Options: opt, Payload: make([]byte, s.n),
	})
	if s.edit != nil {
		l.buf = s.edit(l.buf)
	}
	v, err := packet.Parse(l.buf)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

func (l *thinLab) offer(s thinSeg) thinAct {
	l.t.Helper()
	v := l.build(s)
	o, _ := packet.ParseOptions(v.TCP().Options())
	seen := look(v, &o, s.meta, int(v.TCP().Window())<<7, thinISN.Add(l.sent), thinMSS)
	return l.th.offer(l.now, &seen)
}

// saturate brings the thinner to where it drops, and gives the bytes that are
// acknowledged by then.
func (l *thinLab) saturate() int {
	l.t.Helper()
	for i := 1; i < 1000; i++ {
		l.now += 100 * time.Microsecond
		if l.offer(thinSeg{ack: 2 * i * thinMSS}) == thinKeep {
			l.sent = 2*i*thinMSS + 100*thinMSS
			return 2 * i * thinMSS
		}
	}
	l.t.Fatal("nothing is dropped")
	return 0
}

// Each of these is never dropped: RFC 3449 section 5.2.1, and the list.
func TestThinNeverDrops(t *testing.T) {
	sackOf := func(left, right int) []byte {
		return packet.AppendSACK(nil, []packet.SACKBlock{{Left: thinISN.Add(left), Right: thinISN.Add(right)}}, 28)
	}
	ipOption := func(p []byte) []byte {
		p = append(p[:20:20], append([]byte{1, 1, 1, 0}, p[20:]...)...)
		p[0] = 0x46
		p[3] += 4
		v, _ := packet.Parse(p)
		v.SetTCPChecksum()
		return p
	}
	for _, c := range []struct {
		name string
		// A segment, when at bytes are acknowledged; the source has sent more.
		seg func(at int) thinSeg
		// before is offered in front of it.
		before func(at int) thinSeg
		// sent is how much the source has sent; 0: far more.
		sent func(at int) int
	}{
		{name: "data", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, n: 100} }},
		{name: "data with an old acknowledgement", seg: func(at int) thinSeg { return thinSeg{ack: at, n: 100} }},
		{name: "FIN", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: fin} }},
		{name: "SYN", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: syn} }},
		{name: "RST", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: rst} }},
		{name: "PSH", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: packet.FlagPSH} }},
		{name: "URG", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: packet.FlagURG} }},
		{name: "ECE", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: packet.FlagECE} }},
		{name: "CWR", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, flags: packet.FlagCWR} }},
		{name: "a reserved bit", seg: func(at int) thinSeg {
			return thinSeg{ack: at + 1448, edit: func(p []byte) []byte { p[32] |= 4; return p }}
		}},
		{name: "accurate ECN", seg: func(at int) thinSeg {
			return thinSeg{ack: at + 1448, edit: func(p []byte) []byte { p[32] |= 1; return p }}
		}},
		{name: "a CE mark", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, tos: 3} }},
		{name: "SACK", seg: func(at int) thinSeg { return thinSeg{ack: at, opt: sackOf(at+1448, at+2896)} }},
		{name: "SACK that advances", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: sackOf(at+2896, at+4344)} }},
		{name: "DSACK", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: sackOf(at, at+1448)} }},
		{name: "DSACK within the second block", seg: func(at int) thinSeg {
			return thinSeg{ack: at + 1448, opt: packet.AppendSACK(nil, []packet.SACKBlock{
				{Left: thinISN.Add(at + 9000), Right: thinISN.Add(at + 9100)}, {Left: thinISN.Add(at + 8000), Right: thinISN.Add(at + 10000)},
			}, 28)}
		}},
		{name: "two SACK options", seg: func(at int) thinSeg {
			return thinSeg{ack: at + 1448, opt: append([]byte{5, 2, 1, 1}, sackOf(at+2896, at+4344)...)}
		}},
		{name: "a SACK option without blocks", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: []byte{1, 1, 5, 2}} }},
		{name: "an unknown option", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: []byte{200, 4, 1, 2}} }},
		{name: "an experimental option", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: []byte{253, 4, 1, 2}} }},
		{name: "MPTCP", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: []byte{30, 4, 1, 2}} }},
		{name: "a malformed option", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, opt: []byte{8, 40, 1, 2}} }},
		{name: "two timestamps", seg: func(at int) thinSeg {
			return thinSeg{ack: at + 1448, opt: packet.AppendTimestamps(nil, 1, 1)}
		}},
		{name: "an IP option", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, edit: ipOption} }},
		{name: "a super-packet", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, meta: Meta{GSO: true}} }},
		{name: "a duplicate ACK", seg: func(at int) thinSeg { return thinSeg{ack: at} }},
		{name: "a window update", seg: func(at int) thinSeg { return thinSeg{ack: at, win: 2 * thinWin} }},
		{name: "the window closes", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, win: -1} }},
		{name: "the window is all but closed", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, win: 2000} }},
		{name: "the window opens again", before: func(at int) thinSeg { return thinSeg{ack: at + 1448, win: -1} }, seg: func(at int) thinSeg { return thinSeg{ack: at + 2896} }},
		{name: "the edge moves left", seg: func(at int) thinSeg { return thinSeg{ack: at + 1448, win: thinWin - 9000} }},
		{name: "an eighth of a window for a source at its edge", seg: func(at int) thinSeg { return thinSeg{ack: at + thinWin/8} }, sent: func(at int) int { return at + thinWin - 1000 }},
		{name: "a hole is filled", before: func(at int) thinSeg { return thinSeg{ack: at, opt: sackOf(at+1448, at+2896)} }, seg: func(at int) thinSeg { return thinSeg{ack: at + 2896} }},
		{name: "an old one", seg: func(at int) thinSeg { return thinSeg{ack: at - 5*1448} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newThinLab(t, 1000, 0)
			at := l.saturate()
			if c.sent != nil {
				l.sent = c.sent(at)
			}
			l.now += time.Millisecond
			if c.before != nil {
				l.offer(c.before(at))
				l.now += time.Millisecond
			}
			if got := l.offer(c.seg(at)); got == thinKeep {
				t.Error("it was dropped")
			}
			// The same without what is special about it is dropped.
			l.th.take(l.now)
			at += thinWin
			l.sent = at + 100*thinMSS
			l.offer(thinSeg{ack: at + 5*thinMSS})
			if got := l.offer(thinSeg{ack: at + 6*thinMSS}); got != thinKeep {
				t.Errorf("a plain one was not: %v", got)
			}
		})
	}
}

// The last one before silence goes out, soon, and exactly as it was.
func TestThinLastBeforeSilence(t *testing.T) {
	l := newThinLab(t, 0, 100*time.Millisecond)
	at := l.saturate()
	l.now += 2 * time.Millisecond
	if l.offer(thinSeg{ack: at + 2000}) != thinKeep {
		t.Fatal("not dropped")
	}
	want := bytes.Clone(l.buf)
	quiet := l.th.due() - l.now
	if quiet > l.th.hold/quietShare {
		t.Errorf("the last ACK goes out after %v of silence", quiet)
	}
	if got := l.th.take(l.th.due()); !bytes.Equal(got, want) {
		t.Errorf("sent\n% x\nthe receiver's was\n% x", got, want)
	}
	if l.th.due() != never || l.th.take(l.now) != nil {
		t.Error("it is owed twice")
	}
}

// An acknowledgement is never kept for longer than hold, whatever follows it.
func TestThinHold(t *testing.T) {
	for _, c := range []struct {
		rate float64
		rtt  time.Duration
		want time.Duration
	}{
		{0, 80 * time.Millisecond, 16 * time.Millisecond},
		{0, time.Second, maxAutoHold},
		{0, 4 * time.Millisecond, 0}, // a short way: nothing is dropped
		{0, 0, 0},                    // unknown
		{1000, 0, maxHold},
		{1, 0, maxHold},
		{10000, 0, 10 * time.Millisecond},
	} {
		l := newThinLab(t, c.rate, c.rtt)
		if l.th.hold != c.want {
			t.Errorf("rate %v, round trip %v: hold %v, want %v", c.rate, c.rtt, l.th.hold, c.want)
		}
		if c.want == 0 {
			for i := range 1000 {
				if l.offer(thinSeg{ack: i * 2000}) != thinPass {
					t.Fatal("dropped")
				}
			}
			continue
		}
		at := l.saturate()
		from, due := l.now, l.th.due()
		for l.now < from+c.want-100*time.Microsecond && l.now+100*time.Microsecond < due {
			l.now += 100 * time.Microsecond
			at += 100
			l.sent = at + 100*thinMSS
			if l.offer(thinSeg{ack: at}) != thinKeep {
				t.Errorf("rate %v: passed %v after the first", c.rate, l.now-from)
				break
			}
			if due = l.th.due(); due > from+c.want {
				t.Fatalf("rate %v: due %v after the first that was kept", c.rate, due-from)
			}
		}
	}
}

// In the long run no more ACKs go out than the rate has room for.
func TestThinRate(t *testing.T) {
	for _, rate := range []float64{600, 1000, 2500, 6250} {
		l := newThinLab(t, rate, 0)
		const length = 20 * time.Second
		sent, acked := 0, 0
		for end := l.now + length; l.now < end; l.now += 600 * time.Microsecond {
			if l.th.due() <= l.now {
				sent += len(l.th.take(l.now))
			}
			acked += 2 * thinMSS
			l.sent = acked + 100*thinMSS
			if l.offer(thinSeg{ack: acked}) == thinPass {
				sent += len(l.buf)
			}
		}
		limit := rate*length.Seconds() + thinBurst*52
		if float64(sent) > limit || float64(sent) < rate*length.Seconds()*0.95 {
			t.Errorf("rate %v: %d bytes in %v, want %.0f at most", rate, sent, length, limit)
		}
		if l.th.dropped == 0 {
			t.Error("nothing is counted")
		}
	}
}

// The first round trip of a slow start, and a request with its answer now and
// then, lose nothing.
func TestThinShortExchanges(t *testing.T) {
	l := newThinLab(t, 0, 100*time.Millisecond)
	off := 0
	for range 10 {
		off += thinMSS
		l.sent = off + 10*thinMSS
		if l.offer(thinSeg{ack: off}) != thinPass {
			t.Fatal("dropped in the first round trip")
		}
	}
	l.now += 100 * time.Millisecond
	for range 100 {
		l.now += 100 * time.Millisecond
		for range 4 {
			off += thinMSS
			l.sent = off
			if l.offer(thinSeg{ack: off}) != thinPass {
				t.Fatal("dropped between requests")
			}
		}
	}
}

// A source without SACK counts duplicates: it gets the first of them, which
// was owed, before the others (RFC 5681 section 3.2).
func TestThinDuplicatesKeepTheirCount(t *testing.T) {
	l := newThinLab(t, 1000, 0)
	at := l.saturate()
	first := bytes.Clone(l.buf)
	l.now += time.Millisecond
	if got := l.offer(thinSeg{ack: at}); got != thinAfter {
		t.Fatalf("the first duplicate: %v", got)
	}
	if got := l.th.take(l.now); !bytes.Equal(got, first) {
		t.Errorf("before it: % x, want % x", got, first)
	}
	for range 5 {
		if got := l.offer(thinSeg{ack: at}); got != thinPass {
			t.Errorf("another duplicate: %v", got)
		}
	}
}

// After the first three ACKs of a loss, SACK blocks are state that a later ACK
// has as well: one is dropped if the next says all of it, and goes first if
// not. The end of the loss goes at once.
func TestThinSACKBlocksArrive(t *testing.T) {
	l := newThinLab(t, 1000, 0)
	at := l.saturate()
	sack := func(ranges ...int) thinSeg {
		var b []packet.SACKBlock
		for i := 0; i < len(ranges); i += 2 {
			b = append(b, packet.SACKBlock{Left: thinISN.Add(at + ranges[i]*1448), Right: thinISN.Add(at + ranges[i+1]*1448)})
		}
		return thinSeg{ack: at, opt: packet.AppendSACK(nil, b, 28)}
	}
	step := func(s thinSeg, want thinAct) {
		t.Helper()
		l.now += 100 * time.Microsecond
		if got := l.offer(s); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	step(sack(1, 2), thinAfter) // a plain one was owed
	l.th.take(l.now)
	step(sack(1, 3), thinPass)
	step(sack(1, 4), thinPass)
	step(sack(1, 5), thinKeep)
	step(sack(1, 6), thinKeep)
	step(sack(7, 8, 1, 6), thinKeep)
	step(sack(9, 10, 7, 8, 1, 6), thinKeep)
	before := bytes.Clone(l.buf)
	step(sack(11, 12, 9, 10, 7, 8), thinSwap) // the block from 1 to 6 is no longer in it
	if got := l.th.take(l.now); !bytes.Equal(got, before) {
		t.Error("the first to go is not the one that was owed")
	}
	v := l.build(sack(11, 12, 9, 10, 7, 8))
	o, _ := packet.ParseOptions(v.TCP().Options())
	s := look(v, &o, Meta{}, thinWin, thinISN.Add(l.sent), thinMSS)
	l.th.keep(l.now, &s)
	at += 6 * 1448
	step(thinSeg{ack: at + 10*1448}, thinPass)
	if l.th.n > 0 {
		t.Error("blocks below the acknowledgement are owed")
	}
}

// The kernel may have left the checksum to a device that the copy never meets.
func TestThinCompletesChecksums(t *testing.T) {
	l := newThinLab(t, 1000, 0)
	at := l.saturate()
	half := func(p []byte) []byte { p[36], p[37] = 0x12, 0x34; return p }
	if l.offer(thinSeg{ack: at + 1448, meta: Meta{CsumNotReady: true}, edit: half}) != thinKeep {
		t.Fatal("not dropped")
	}
	v, err := packet.Parse(l.th.take(l.now))
	if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
		t.Errorf("checksum is wrong: %v", err)
	}
}

func TestThinAllocatesNothing(t *testing.T) {
	l := newThinLab(t, 1000, 0)
	off := l.saturate()
	v := l.build(thinSeg{ack: off})
	o, _ := packet.ParseOptions(v.TCP().Options())
	kept := l.th.dropped
	if n := testing.AllocsPerRun(2000, func() {
		l.now += 700 * time.Microsecond
		off += 2 * thinMSS
		v.TCP().SetAck(thinISN.Add(off))
		s := look(v, &o, Meta{CsumNotReady: true}, thinWin, thinISN.Add(off+100*thinMSS), thinMSS)
		l.th.data(l.now, thinISN.Add(off+100*thinMSS))
		if l.th.offer(l.now, &s) == thinKeep && l.th.due() <= l.now {
			l.th.take(l.now)
		}
	}); n != 0 {
		t.Errorf("%v allocations for an ACK", n)
	}
	if l.th.dropped == kept {
		t.Error("nothing was dropped")
	}
}
