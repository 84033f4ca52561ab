package tcpcheat

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// stream is a cheated flow in its steady state.
type stream struct {
	l    *lab
	data []byte
	ackd []byte
	off  packet.Seq
	n    int
	lag  int
}

func newStream(t testing.TB, mode Mode, n int) *stream {
	return streamOf(newLab(t), mode, n)
}

func streamOf(l *lab, mode Mode, n int) *stream {
	l.start(Params{Mode: mode, Predict: true, Rate: 1e10, Bucket: 1e8})
	s := &stream{l: l, n: n, off: l.sisn.Add(1), lag: 64}
	s.data = packet.AppendTCP(nil, &packet.Segment{Key: l.key, TTL: 64, DF: true, Ack: l.risn.Add(1), Flags: ack, Options: l.opts(), Payload: make([]byte, n)})
	s.ackd = packet.AppendTCP(nil, &packet.Segment{Key: l.key.Reverse(), TTL: 60, DF: true, Seq: l.risn.Add(1), Flags: ack, Window: 8000, Options: l.opts()})
	return s
}

func (s *stream) sendData() {
	v, _ := packet.Parse(s.data)
	v.TCP().SetSeq(s.off)
	s.off = s.off.Add(s.n)
	s.l.now = s.l.now.Add(20 * time.Microsecond)
	s.l.e.Handle(s.l.now, v, Meta{CsumNotReady: true})
	s.l.e.TakeInjected()
}

func (s *stream) sendAck() {
	v, _ := packet.Parse(s.ackd)
	v.TCP().SetAck(s.off.Add(-s.lag * s.n))
	s.l.e.Handle(s.l.now, v, Meta{CsumNotReady: true})
	if at, ok := s.l.e.NextDeadline(); ok && !at.After(s.l.now) {
		s.l.e.Advance(s.l.now)
	}
	s.l.e.TakeInjected()
}

func (s *stream) warm() {
	for i := range 1000 {
		s.sendData()
		if i > s.lag {
			s.sendAck()
		}
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		s := newStream(t, mode, 1448)
		s.warm()
		before := s.l.stats().FakeAcks
		if n := testing.AllocsPerRun(2000, func() { s.sendData(); s.sendAck() }); n != 0 {
			t.Errorf("%v: %v allocations for data and ACK", mode, n)
		}
		if s.l.stats().FakeAcks == before {
			t.Errorf("%v: nothing was cheated", mode)
		}
	}
}

func BenchmarkData(b *testing.B) {
	for _, mode := range []Mode{Realtime, Reliable} {
		for _, n := range []int{1448, 30 * 1448} {
			b.Run(fmt.Sprintf("%v/%d", mode, n), func(b *testing.B) {
				s := newStream(b, mode, n)
				s.warm()
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					s.sendData()
					if i%8 == 0 {
						s.sendAck()
					}
				}
			})
		}
	}
}

func BenchmarkAck(b *testing.B) {
	for _, mode := range []Mode{Realtime, Reliable} {
		b.Run(mode.String(), func(b *testing.B) {
			s := newStream(b, mode, 1448)
			s.warm()
			b.ReportAllocs()
			for b.Loop() {
				s.sendAck()
			}
		})
	}
}
