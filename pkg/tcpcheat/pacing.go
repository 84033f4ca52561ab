package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// pendingSize is how many arrivals can wait for their fake ACK one by one;
// later ones are joined to the last. The window keeps the queue short.
const pendingSize = 64

// arrival is in-order data that is not yet both acknowledged and paid for.
type arrival struct {
	end  packet.Seq
	ts   uint32 // TSval of its segment
	cost uint32 // IP bytes
	at   instant
}

// pending is the queue of arrivals.
type pending struct {
	ring       [pendingSize]arrival
	head, tail uint32
	paid       uint32 // arrivals before it are let through by the bucket
}

func (p *pending) at(i uint32) *arrival { return &p.ring[i%pendingSize] }

func (p *pending) push(a arrival) {
	if p.tail-p.head == pendingSize {
		last := p.at(p.tail - 1)
		if p.paid == p.tail {
			p.paid-- // it has something to pay again
			last.cost = 0
		}
		// The older TSval and time stay: RFC 7323 section 4.3.
		last.end, last.cost = a.end, last.cost+a.cost
		return
	}
	*p.at(p.tail) = a
	p.tail++
}

// trim forgets what is let through and acknowledged.
func (p *pending) trim(passed packet.Seq) {
	for p.head != p.paid && p.at(p.head).end.AtMost(passed) {
		p.head++
	}
}

// first is the arrival that holds the earliest byte not yet acknowledged.
func (p *pending) first(passed packet.Seq) *arrival {
	for i := p.head; i != p.tail; i++ {
		if a := p.at(i); a.end.After(passed) {
			return a
		}
	}
	return nil
}

// cost is what n bytes of payload cost as IP packets of full size.
func (ch *cheat) cost(n int) uint32 {
	return uint32(n + (n+ch.cut()-1)/ch.cut()*ch.header)
}

// quantum is the least number of bytes that is worth an acknowledgement:
// two segments as RFC 1122 section 4.2.3.2 has it, more at high rates.
func (ch *cheat) quantum() int {
	return min(max(2*ch.mss, int(ch.Rate*quantumTime.Seconds())), maxQuantum)
}

// pay lets arrivals through as far as the bucket has tokens. An arrival larger
// than the quantum goes in steps of whole segments, so the source is not
// handed a super-packet's worth of window at once.
func (c *conn) pay(now instant) {
	ch := c.ch
	ch.bucket.refill(now)
	for ch.pend.paid != ch.pend.tail {
		need := ch.payNeed()
		if !ch.bucket.has(float64(need)) {
			return
		}
		for need > 0 && ch.pend.paid != ch.pend.tail {
			a := ch.pend.at(ch.pend.paid)
			if left := a.end.Diff(ch.released); a.cost > need && left > ch.mss {
				n := min(max(int(need)/(ch.mss+ch.header), 1)*ch.mss, left)
				k := min(ch.cost(n), a.cost)
				ch.bucket.take(float64(k))
				a.cost -= k
				ch.released = ch.released.Add(n)
				break
			}
			ch.bucket.take(float64(a.cost))
			need -= min(need, a.cost)
			ch.released = packet.MaxSeq(ch.released, a.end)
			ch.pend.paid++
		}
	}
}

// payNeed is the cost of the next release: a quantum, or all there is.
func (ch *cheat) payNeed() uint32 {
	q := ch.cost(ch.quantum())
	sum := uint32(0)
	for i := ch.pend.paid; i != ch.pend.tail && sum < q; i++ {
		sum += ch.pend.at(i).cost
	}
	return min(sum, q)
}

// payAt is when the bucket will let the next release through.
func (ch *cheat) payAt(now instant) instant {
	if ch.pend.paid == ch.pend.tail {
		return never
	}
	return now + ch.bucket.wait(float64(ch.payNeed()))
}
