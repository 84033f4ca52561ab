package echo

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Limits.
const (
	perSecond  = 20  // requests in all
	burst      = 20  // of these at once
	maxHosts   = 256 // that are waited for, or were asked within the last second
	maxWaiters = 256 // for one host's answer
	timeout    = time.Second
	hostGap    = time.Second // between requests to one host
)

// payload is what a request carries beside its header: where it belongs, and
// chance, so that an answer cannot be made up by one who has not seen it.
type payload [16]byte

// table is what was asked and not answered. It is pure: time and chance come
// from outside.
type table struct {
	hosts  map[netip.Addr]*host
	seq    uint16
	tokens float64
	at     time.Time
	count  Counters
}

// host is one that was asked within the last second.
type host struct {
	seq     uint16
	chance  payload
	sent    time.Time
	rtt     time.Duration // 0: not answered
	waiters []func(time.Duration)
}

// request is what is to be sent now.
type request struct {
	seq    uint16
	chance payload
}

// ask takes a wish in; true if a request has to be sent for it. A host that was
// asked is not asked again: its answer, or the one that it has given, is for all.
func (t *table) ask(now time.Time, to netip.Addr, chance payload, done func(time.Duration)) (request, bool) {
	if h := t.hosts[to]; h != nil && now.Sub(h.sent) < hostGap {
		switch {
		case h.rtt > 0:
			t.count.Shared++
			done(h.rtt)
		case len(h.waiters) < maxWaiters:
			t.count.Shared++
			h.waiters = append(h.waiters, done)
		default:
			t.count.Limited++
		}
		return request{}, false
	}
	t.sweep(now)
	t.tokens = min(burst, t.tokens+now.Sub(t.at).Seconds()*perSecond)
	t.at = now
	if t.tokens < 1 || len(t.hosts) >= maxHosts {
		t.count.Limited++
		return request{}, false
	}
	t.tokens--
	t.seq++
	t.count.Sent++
	t.hosts[to] = &host{seq: t.seq, chance: chance, sent: now, waiters: []func(time.Duration){done}}
	return request{t.seq, chance}, true
}

// sweep forgets what is old.
func (t *table) sweep(now time.Time) {
	for a, h := range t.hosts {
		if now.Sub(h.sent) >= max(timeout, hostGap) {
			if h.rtt == 0 {
				t.count.Unanswered++
			}
			delete(t.hosts, a)
		}
	}
}

// answered takes in what a host has sent back, and tells who waits for it.
func (t *table) answered(now time.Time, from netip.Addr, seq uint16, data []byte) (time.Duration, []func(time.Duration)) {
	h := t.hosts[from]
	if h == nil || h.rtt > 0 || h.seq != seq || len(data) != len(h.chance) || payload(data) != h.chance || now.Sub(h.sent) > timeout {
		t.count.Stray++
		return 0, nil
	}
	t.count.Answered++
	h.rtt = max(now.Sub(h.sent), time.Microsecond)
	list := h.waiters
	h.waiters = nil
	return h.rtt, list
}

// message is an ICMP echo request; its checksum is the caller's.
func message(typ byte, id, seq uint16, data []byte) []byte {
	b := []byte{typ, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	return append(b, data...)
}
