package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// Toward says whom an injected packet is for.
type Toward uint8

// The two ends.
const (
	ToSource Toward = iota
	ToReceiver
)

// Injected is a complete IP packet to be sent.
type Injected struct {
	Packet []byte
	Toward Toward
	Key    packet.FlowKey // of the packet itself: Src is whom it speaks for
}

// outbox keeps two sets of buffers, so that what was taken stays valid while
// the next is filled.
type outbox struct {
	segs  [2][]Injected
	arena [2][]byte
	i     int
	round uint64 // of takes
	taken bool
}

func (o *outbox) add(to Toward, s *packet.Segment) {
	o.open()
	start := len(o.arena[o.i])
	o.arena[o.i] = packet.AppendTCP(o.arena[o.i], s)
	o.close(to, start, s.Key)
}

// addCopy adds a packet that exists.
func (o *outbox) addCopy(to Toward, key packet.FlowKey, b []byte) {
	o.open()
	start := len(o.arena[o.i])
	o.arena[o.i] = append(o.arena[o.i], b...)
	o.close(to, start, key)
}

func (o *outbox) open() {
	if o.taken {
		o.i ^= 1
		o.taken = false
		o.round++
		o.segs[o.i], o.arena[o.i] = o.segs[o.i][:0], o.arena[o.i][:0]
	}
}

func (o *outbox) close(to Toward, start int, key packet.FlowKey) {
	end := len(o.arena[o.i])
	if end == start {
		return
	}
	o.segs[o.i] = append(o.segs[o.i], Injected{Packet: o.arena[o.i][start:end:end], Toward: to, Key: key})
}

func (o *outbox) take() []Injected {
	if o.taken {
		return nil
	}
	o.taken = true
	return o.segs[o.i]
}

// TakeInjected gives the packets that the calls since the last TakeInjected
// made, in order. They are valid until the call after the next one.
func (e *Engine) TakeInjected() []Injected { return e.out.take() }
