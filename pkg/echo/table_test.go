package echo

import (
	"net/netip"
	"testing"
	"time"
)

var (
	begin = time.Unix(1000, 0)
	one   = netip.MustParseAddr("10.1.0.2")
)

func newTable() *table {
	return &table{hosts: map[netip.Addr]*host{}, tokens: burst, at: begin}
}

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}) }

// An answer tells all who wait for the host, and those who ask within a second;
// then it is asked again.
func TestOneRequestIsForAll(t *testing.T) {
	tb := newTable()
	var got []time.Duration
	done := func(d time.Duration) { got = append(got, d) }
	q, send := tb.ask(begin, one, payload{1}, done)
	if !send {
		t.Fatal("nothing is sent")
	}
	if _, send := tb.ask(begin.Add(time.Millisecond), one, payload{2}, done); send {
		t.Error("a second request while the first is under way")
	}
	d, list := tb.answered(begin.Add(5*time.Millisecond), one, q.seq, q.chance[:])
	for _, f := range list {
		f(d)
	}
	if _, send := tb.ask(begin.Add(500*time.Millisecond), one, payload{3}, done); send {
		t.Error("a second request within a second")
	}
	if len(got) != 3 || got[0] != 5*time.Millisecond || got[2] != got[0] {
		t.Errorf("told %v", got)
	}
	if _, send := tb.ask(begin.Add(hostGap), one, payload{4}, done); !send {
		t.Error("after a second it may be asked again")
	}
	if tb.count.Answered != 1 || tb.count.Shared != 2 || tb.count.Unanswered != 0 {
		t.Errorf("%+v", tb.count)
	}
}

// Only the answer of the host itself, with what was sent to it, in time and once.
func TestOnlyTheRightAnswerCounts(t *testing.T) {
	for name, c := range map[string]struct {
		from  netip.Addr
		seq   uint16
		data  func(p payload) []byte
		after time.Duration
	}{
		"another host":       {nth(9), 1, func(p payload) []byte { return p[:] }, 0},
		"another number":     {one, 2, func(p payload) []byte { return p[:] }, 0},
		"other chance bytes": {one, 1, func(p payload) []byte { p[15] ^= 1; return p[:] }, 0},
		"less of them":       {one, 1, func(p payload) []byte { return p[:15] }, 0},
		"more":               {one, 1, func(p payload) []byte { return append(p[:], 0) }, 0},
		"none":               {one, 1, func(payload) []byte { return nil }, 0},
		"too late":           {one, 1, func(p payload) []byte { return p[:] }, timeout + 1},
	} {
		tb := newTable()
		q, _ := tb.ask(begin, one, payload{1, 2, 3}, func(time.Duration) { t.Errorf("%s: told", name) })
		if _, list := tb.answered(begin.Add(c.after), c.from, c.seq, c.data(q.chance)); list != nil || tb.count.Stray != 1 {
			t.Errorf("%s: %+v", name, tb.count)
		}
	}
	tb := newTable()
	q, _ := tb.ask(begin, one, payload{1}, func(time.Duration) {})
	tb.answered(begin, one, q.seq, q.chance[:])
	if d, list := tb.answered(begin, one, q.seq, q.chance[:]); list != nil || tb.count.Stray != 1 || d != 0 {
		t.Errorf("a copy: %+v", tb.count)
	}
}

// A second of it is bounded, and so are the hosts and those who wait for one.
func TestLimits(t *testing.T) {
	tb := newTable()
	sent, now := 0, begin
	for i := range 10_000 {
		if _, send := tb.ask(now, nth(i), payload{}, func(time.Duration) {}); send {
			sent++
		}
		now = now.Add(time.Millisecond)
		if len(tb.hosts) > maxHosts {
			t.Fatalf("%d hosts are waited for", len(tb.hosts))
		}
	}
	if sent < 200 || sent > burst+10*perSecond || tb.count.Limited != uint64(10_000-sent) {
		t.Errorf("%d sent in 10 s; %+v", sent, tb.count)
	}
	tb = newTable()
	for range 2 * maxWaiters {
		tb.ask(begin, one, payload{}, func(time.Duration) {})
	}
	if n := len(tb.hosts[one].waiters); n != maxWaiters || tb.count.Limited != maxWaiters {
		t.Errorf("%d wait; %+v", n, tb.count)
	}
	tb.tokens = burst
	if tb.ask(begin.Add(time.Hour), nth(1), payload{}, func(time.Duration) {}); len(tb.hosts) != 1 || tb.count.Unanswered != 1 {
		t.Errorf("an hour later %d hosts are remembered; %+v", len(tb.hosts), tb.count)
	}
}
