package tcpcheat

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const smss = 1448

func reno() *newReno {
	n := &newReno{}
	n.begin(smss)
	return n
}

// grow has a window that is used up acknowledged.
func (n *newReno) grow(bytes int, ack packet.Seq) {
	n.allows(endless)
	n.acked(bytes, ack)
}

// RFC 6928 section 2: the initial window.
func TestRFC6928_2_InitialWindow(t *testing.T) {
	for mss, want := range map[int]int{536: 5360, 1448: 14480, 1460: 14600, 4000: 14600, 8948: 17896} {
		n := newReno{}
		if n.begin(mss); n.window != want {
			t.Errorf("MSS %d: %d, want %d", mss, n.window, want)
		}
	}
}

// RFC 5681 section 3.1 (2): slow start grows by at most a segment per ACK.
func TestRFC5681_3_1_SlowStart(t *testing.T) {
	n := reno()
	n.grow(5*smss, 1)
	n.grow(100, 2)
	if n.window != 11*smss+100 {
		t.Errorf("window %d", n.window)
	}
}

// RFC 5681 section 3.1: congestion avoidance grows by one segment per window.
func TestRFC5681_3_1_CongestionAvoidance(t *testing.T) {
	n := reno()
	n.ssthresh = n.window
	for i := range 10 {
		n.grow(smss, packet.Seq(i))
	}
	if n.window != 11*smss {
		t.Errorf("window %d after one window of ACKs", n.window)
	}
}

// What was not used proves nothing.
func TestUnusedWindowDoesNotGrow(t *testing.T) {
	n := reno()
	n.acked(5*smss, 1)
	if n.window != 10*smss {
		t.Errorf("window %d", n.window)
	}
}

// RFC 6582 section 3.2 step 2: one reduction for all losses of a window, and
// the full ACK ends recovery at ssthresh.
func TestRFC6582_3_2_OneReductionPerWindow(t *testing.T) {
	n := reno()
	n.lost(100, 50, 10*smss, 1000)
	n.lost(110, 60, 9*smss, 1000)
	if n.window != 5*smss || n.ssthresh != 5*smss {
		t.Errorf("window %d, ssthresh %d", n.window, n.ssthresh)
	}
	n.grow(smss, 500)
	if n.window != 5*smss || !n.recovery {
		t.Errorf("a partial ACK made the window %d", n.window)
	}
	n.grow(smss, 1000)
	if n.window != 5*smss || n.recovery {
		t.Errorf("after the full ACK: window %d, recovery %v", n.window, n.recovery)
	}
}

// RFC 8985 section 9.3: a retransmission that is lost reduces once more.
func TestRFC8985_9_3_LostRetransmission(t *testing.T) {
	n := reno()
	n.lost(100, 50, 10*smss, 1000)
	n.lost(300, 200, 4*smss, 1000)
	if n.window != 2*smss {
		t.Errorf("window %d", n.window)
	}
}

// RFC 5681 section 3.1 (4): never below two segments, and half of what is under
// way if that is less than the window.
func TestRFC5681_3_1_Ssthresh(t *testing.T) {
	n := reno()
	if n.lost(1, 0, 6*smss, 10); n.ssthresh != 3*smss {
		t.Errorf("ssthresh %d, want half of the flight", n.ssthresh)
	}
	if n.lost(3, 2, smss, 10); n.ssthresh != 2*smss {
		t.Errorf("ssthresh %d, want two segments", n.ssthresh)
	}
}

// RFC 5681 section 3.1: after a timeout one segment; a second timeout of the
// same segment leaves ssthresh as it is.
func TestRFC5681_3_1_Timeout(t *testing.T) {
	n := reno()
	n.timeout(100, 10*smss, 1000)
	if n.window != smss || n.ssthresh != 5*smss {
		t.Errorf("window %d, ssthresh %d", n.window, n.ssthresh)
	}
	n.timeout(500, smss, 1000)
	if n.ssthresh != 5*smss {
		t.Errorf("ssthresh %d after the second timeout", n.ssthresh)
	}
	n.free = false
	if n.allows(smss) || !n.allows(0) {
		t.Error("the loss window is one segment")
	}
	n.acked(smss, 10)
	if n.window != 2*smss {
		t.Errorf("window %d after the first ACK", n.window)
	}
}

// RFC 3168 section 6.1.2: a mark reduces once per window of data.
func TestRFC3168_6_1_2_Marks(t *testing.T) {
	n := reno()
	n.marked(100, 10*smss, 10, 1000)
	n.marked(110, 10*smss, 20, 1000)
	if n.window != 5*smss {
		t.Errorf("window %d after marks of one window", n.window)
	}
	if n.free {
		t.Error("a mark lets a segment through")
	}
	n.marked(200, 10*smss, 1000, 2000)
	if n.window != 5*smss/2 {
		t.Errorf("window %d after a mark in the next window", n.window)
	}
}

// What is in hand when the reservation goes is sent as a new connection would
// send it, whatever the reserved rate was: an initial window, and more only for
// what is acknowledged.
func TestWithoutReservationTheWindowGoverns(t *testing.T) {
	l := newLab(t)
	l.start(Params{Mode: Reliable, Predict: true, Rate: 1e8, Bucket: 1e7})
	const n = 300
	for i := range n {
		l.src(ack, i*smss, smss, l.opts())
		l.take()
	}
	l.rcv(ack, 0, 1<<20, 0, 0, l.opts())
	l.e.Stop(l.now, l.key)
	l.take()
	// All but the last segment are lost, says the receiver.
	l.now = l.now.Add(100 * time.Millisecond)
	l.rcv(ack, 0, 1<<20, 0, 0, sackOpt(l, (n-1)*smss, n*smss))
	first := toReceiver(append(l.take(), l.pass(60*time.Millisecond)...))
	if len(first) == 0 || len(first) > 10 {
		t.Fatalf("%d segments sent at once, want no more than an initial window", len(first))
	}
	sent, acked := len(first), 0
	for round := range 100 {
		if l.stats().State != Draining {
			break
		}
		acked = sent
		if acked >= n-1 {
			acked = n
		}
		l.tick += 100
		l.now = l.now.Add(100 * time.Millisecond)
		if acked == n {
			l.rcv(ack, n*smss, 1<<20, 0, 0, l.opts())
		} else {
			l.rcv(ack, acked*smss, 1<<20, 0, 0, sackOpt(l, (n-1)*smss, n*smss))
		}
		got := len(toReceiver(append(l.take(), l.pass(20*time.Millisecond)...)))
		if got > 20+round {
			t.Errorf("round %d: %d segments for one ACK", round, got)
		}
		sent += got
	}
	if st := l.stats(); st.State != Watched || st.Unacked != 0 {
		t.Errorf("never drained: %+v", st)
	}
}

// With the reservation in place the same loss is repaired at the reserved rate.
func TestWithReservationTheRateGoverns(t *testing.T) {
	l := newLab(t)
	l.start(Params{Mode: Reliable, Predict: true, Rate: 1e8, Bucket: 1e7})
	const n = 300
	for i := range n {
		l.src(ack, i*smss, smss, l.opts())
		l.take()
	}
	l.now = l.now.Add(100 * time.Millisecond)
	l.rcv(ack, 0, 1<<20, 0, 0, sackOpt(l, (n-1)*smss, n*smss))
	if got := len(toReceiver(append(l.take(), l.pass(60*time.Millisecond)...))); got < n-1 {
		t.Errorf("%d of %d segments within 60 ms", got, n-1)
	}
}
