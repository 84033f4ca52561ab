package tcpcheat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// lab drives the engine by hand: segments of one connection, numbered from the
// two initial sequence numbers.
type lab struct {
	t        testing.TB
	e        *Engine
	key      packet.FlowKey
	now      time.Time
	sisn     packet.Seq
	risn     packet.Seq
	shift    uint8
	ts, sack bool
	tick     uint32 // TSval of the next segment
	tos      uint8
	buf      []byte
}

const (
	ack = packet.FlagACK
	fin = packet.FlagFIN
	syn = packet.FlagSYN
	rst = packet.FlagRST
)

func newLab(t testing.TB) *lab {
	return &lab{
		t: t, e: New(Limits{}), now: time.Unix(1000, 0), sisn: 0xfffffff0, risn: 0x7ffffff0,
		shift: 7, ts: true, sack: true, tick: 100,
		key: packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:80")),
	}
}

// midway is a lab whose connection is treated from the middle on.
func midway(t testing.TB, p Params) *lab {
	l := newLab(t)
	if err := l.e.WatchNear(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 0, 1448, l.opts())
	if err := l.e.Start(l.now, l.key, p); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) synOpts() []byte {
	o := []byte{2, 4, 1460 >> 8, 1460 & 255, 3, 3, l.shift, 1}
	if l.sack {
		o = append(o, 1, 1, 4, 2)
	}
	if l.ts {
		o = packet.AppendTimestamps(o, l.tick, 0)
	}
	return o
}

func (l *lab) opts(extra ...byte) []byte {
	var o []byte
	if l.ts {
		o = packet.AppendTimestamps(o, l.tick, 55)
	}
	return append(o, extra...)
}

func (l *lab) handle(s *packet.Segment, m Meta) (Action, packet.TCP) {
	l.t.Helper()
	l.buf = packet.AppendTCP(l.buf[:0], s)
	v, err := packet.Parse(l.buf)
	if err != nil {
		l.t.Fatal(err)
	}
	a := l.e.Handle(l.now, v, m)
	if !v.TCPChecksumOK() {
		l.t.Error("bad checksum after Handle")
	}
	return a, v.TCP()
}

// src is a segment of the source: off bytes into its stream.
func (l *lab) src(flags uint8, off, n int, opt []byte) Action {
	l.t.Helper()
	a, _ := l.handle(&packet.Segment{
		Key: l.key, TTL: 64, TOS: l.tos, DF: true, Seq: l.sisn.Add(1 + off), Ack: l.risn.Add(1), Flags: flags,
		Window: 500, Options: opt, Payload: contents(off, n),
	}, Meta{})
	return a
}

// rcv is a segment of the receiver that acknowledges off bytes.
func (l *lab) rcv(flags uint8, off, win, seq, n int, opt []byte) (Action, packet.TCP) {
	l.t.Helper()
	return l.handle(&packet.Segment{
		Key: l.key.Reverse(), TTL: 61, TOS: 0x28, DF: true, Seq: l.risn.Add(1 + seq), Ack: l.sisn.Add(1 + off), Flags: flags,
		Window: uint16(win >> l.shift), Options: opt, Payload: contents(0, n),
	}, Meta{})
}

func (l *lab) open() {
	l.t.Helper()
	if err := l.e.Watch(l.now, l.key); err != nil {
		l.t.Fatal(err)
	}
	l.handle(&packet.Segment{Key: l.key, TTL: 64, Seq: l.sisn, Flags: syn, Window: 64000, Options: l.synOpts()}, Meta{})
	l.now = l.now.Add(100 * time.Millisecond)
	l.handle(&packet.Segment{
		Key: l.key.Reverse(), TTL: 61, Seq: l.risn, Ack: l.sisn.Add(1), Flags: syn | ack, Window: 65000, Options: l.synOpts(),
	}, Meta{})
	l.now = l.now.Add(time.Millisecond)
	l.src(ack, 0, 0, l.opts())
}

var labParams = Params{Mode: Reliable, Predict: true, Rate: 1e6, Bucket: 64e3}

func (l *lab) start(p Params) {
	l.t.Helper()
	l.open()
	if err := l.e.Start(l.now, l.key, p); err != nil {
		l.t.Fatal(err)
	}
	l.take()
	l.e.TakeEvents()
}

// seg is an injected packet, parsed.
type seg struct {
	packet.TCP
	o   packet.TCPOptions
	v   packet.View
	to  Toward
	off int // acknowledged, or sent: bytes into the source's stream
}

func (l *lab) take() []seg {
	l.t.Helper()
	var out []seg
	for _, in := range l.e.TakeInjected() {
		v, err := packet.Parse(append([]byte(nil), in.Packet...))
		if err != nil || !v.TCPChecksumOK() || !v.IPv4ChecksumOK() {
			l.t.Fatalf("injected packet is broken: %v", err)
		}
		s := seg{TCP: v.TCP(), v: v, to: in.Toward}
		s.o, _ = packet.ParseOptions(s.Options())
		s.off = s.Ack().Diff(l.sisn.Add(1))
		if in.Toward == ToReceiver {
			s.off = s.Seq().Diff(l.sisn.Add(1))
		}
		if v.Key() != in.Key {
			l.t.Errorf("injected key %v, packet %v", in.Key, v.Key())
		}
		out = append(out, s)
	}
	return out
}

// pass lets time go by, waking the engine at its deadlines.
func (l *lab) pass(d time.Duration) []seg {
	l.t.Helper()
	var out []seg
	end := l.now.Add(d)
	for range 100000 {
		at, ok := l.e.NextDeadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(l.now) {
			l.now = at
		}
		l.e.Advance(l.now)
		out = append(out, l.take()...)
	}
	l.now = end
	return out
}

func (l *lab) stats() Stats {
	st, _ := l.e.Flow(l.key)
	return st
}
