package tcpcheat

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const fillISN = packet.Seq(0xfffffff0) // the stream wraps soon

// fillLab drives a filler by hand, in stream offsets.
type fillLab struct {
	t   *testing.T
	f   *filler
	now instant
}

func newFillLab(t *testing.T, sack bool) *fillLab {
	p := fillParams{after: 20 * time.Millisecond, rate: 1e6, mss: 1000, sack: sack}
	return &fillLab{t: t, now: time.Second, f: newFiller(p, time.Second, fillISN, fillISN.Add(60000), fillISN, 0, &filled{})}
}

func (l *fillLab) data(from, to int) { l.f.data(l.now, fillISN.Add(from), fillISN.Add(to), false) }

func (l *fillLab) ack(at int, blocks ...int) {
	a := fillAck{ack: fillISN.Add(at), edge: fillISN.Add(at + 60000), bare: true}
	for i := 0; i < len(blocks); i += 2 {
		a.blocks = append(a.blocks, packet.SACKBlock{Left: fillISN.Add(blocks[i]), Right: fillISN.Add(blocks[i+1])})
	}
	l.f.acked(l.now, a)
}

// pass lets time go by and returns what is made in it, as pairs of offsets.
func (l *fillLab) pass(d time.Duration) (made []int) {
	l.t.Helper()
	for end := l.now + d; ; {
		for range 1000 {
			from, to, ok := l.f.next(l.now)
			if !ok {
				break
			}
			made = append(made, from.Diff(fillISN), to.Diff(fillISN))
		}
		at := l.f.deadline(l.now)
		if at <= l.now {
			l.t.Fatalf("at %v the deadline is %v", l.now, at)
		}
		if at > end {
			l.now = end
			return made
		}
		l.now = at
	}
}

func (l *fillLab) want(got []int, want ...int) {
	l.t.Helper()
	if !slices.Equal(got, want) {
		l.t.Errorf("made %v, want %v", got, want)
	}
}

// tcp.md 2.5: exactly [N, start of the next data seen here), after fill_after,
// in segments of at most the MSS.
func TestFillExactHole(t *testing.T) {
	for _, sack := range []bool{true, false} {
		l := newFillLab(t, sack)
		l.data(0, 1000)
		l.data(3500, 4500)
		if sack {
			l.ack(1000, 3500, 4500)
		} else {
			l.ack(1000)
			l.ack(1000)
		}
		l.want(l.pass(19 * time.Millisecond))
		l.want(l.pass(2*time.Millisecond), 1000, 2000, 2000, 3000, 3000, 3500)
		l.ack(4500)
		l.want(l.pass(time.Minute))
		if r := l.f.report; r.bytes != 2500 || !slices.Equal(r.list, []ByteRange{{1000, 3500}}) || r.more != 0 {
			t.Errorf("SACK %v: reported %+v", sack, r)
		}
	}
}

// RFC 8985 section 6.2: a quarter of the round trip is the reordering to expect.
func TestFillWaitsForReordering(t *testing.T) {
	l := newFillLab(t, true)
	l.f.timing(20*time.Millisecond, 600*time.Millisecond, rtt{})
	l.data(1000, 2000)
	l.ack(0, 1000, 2000)
	l.want(l.pass(149 * time.Millisecond))
	l.want(l.pass(2*time.Millisecond), 0, 1000)
}

// The real data in time: nothing is made. Late: harmless, and not made again.
func TestFillRealDataComes(t *testing.T) {
	l := newFillLab(t, true)
	l.data(1000, 2000)
	l.ack(0, 1000, 2000)
	l.pass(10 * time.Millisecond)
	l.data(0, 1000)
	l.want(l.pass(15 * time.Millisecond)) // it is on its way
	l.ack(2000)
	l.want(l.pass(time.Minute))
	l.data(3000, 4000)
	l.ack(2000, 3000, 4000)
	l.want(l.pass(21*time.Millisecond), 2000, 3000)
	l.data(2000, 3000)
	l.ack(4000)
	l.ack(4000)
	l.want(l.pass(time.Minute))
	if len(l.f.held.s) != 0 || len(l.f.seen.s) != 0 {
		t.Errorf("left behind: held %v, seen %v", l.f.held.s, l.f.seen.s)
	}
}

// Several holes run their clocks at the same time.
func TestFillSeveralHoles(t *testing.T) {
	for _, sack := range []bool{true, false} {
		l := newFillLab(t, sack)
		for off := 1000; off < 8000; off += 2000 {
			l.data(off, off+1000)
			if sack {
				l.ack(0, off, off+1000)
			} else {
				l.ack(0)
			}
		}
		l.want(l.pass(21*time.Millisecond), 0, 1000, 2000, 3000, 4000, 5000, 6000, 7000)
		l.ack(8000)
		l.want(l.pass(time.Minute))
	}
}

// Without SACK a partial acknowledgement names the next hole, with no further
// duplicates (RFC 6582 section 3.2 step 3).
func TestRFC6582_FillAfterPartialAck(t *testing.T) {
	l := newFillLab(t, false)
	l.data(1000, 2000)
	l.data(3000, 4000)
	l.ack(0)
	l.now += 21 * time.Millisecond
	from, to, ok := l.f.next(l.now)
	if !ok || from != fillISN || to != fillISN.Add(1000) {
		t.Fatalf("%v %v %v", from, to, ok)
	}
	l.ack(2000)
	l.want(l.pass(15*time.Millisecond), 2000, 3000)
}

// What this box saw and the receiver did not get: with SACK the blocks tell its
// extent, without it the segment does, and three duplicates are wanted.
func TestFillLostBehindTheBox(t *testing.T) {
	l := newFillLab(t, true)
	l.data(0, 1000)
	l.data(1000, 1700)
	l.data(1700, 2700)
	l.ack(1000, 1700, 2700)
	l.want(l.pass(21*time.Millisecond), 1000, 1700)

	l = newFillLab(t, false)
	l.data(0, 1000)
	l.data(1000, 1700)
	l.data(1700, 5700) // a super-packet
	l.ack(1000)
	l.ack(1000)
	l.ack(1000)
	l.want(l.pass(100 * time.Millisecond))
	l.ack(1000)
	l.want(l.pass(21*time.Millisecond), 1000, 1700)
	l.ack(3700) // a partial acknowledgement, and the rest passed long ago
	l.want(l.pass(time.Millisecond), 3700, 4700)
	l.ack(5700)
	l.want(l.pass(time.Minute))

	l = newFillLab(t, false) // one duplicate only, but for long
	l.data(0, 1000)
	l.ack(0)
	l.want(l.pass(300 * time.Millisecond))
	l.want(l.pass(25 * time.Millisecond)) // nothing beyond: its extent is not known
	l.data(1000, 1500)
	l.ack(0)
	l.want(l.pass(300 * time.Millisecond))
	l.want(l.pass(25*time.Millisecond), 0, 1000)
}

// The FIN's sequence number tells where the data ends.
func TestFillTailBeforeFIN(t *testing.T) {
	for _, how := range []string{"SACK", "no SACK of the FIN", "no SACK"} {
		l := newFillLab(t, how != "no SACK")
		l.data(0, 1000)
		l.ack(1000)
		l.f.data(l.now, fillISN.Add(2300), fillISN.Add(2301), true)
		if how == "SACK" {
			l.ack(1000, 2300, 2301)
		} else {
			l.ack(1000)
		}
		l.want(l.pass(21*time.Millisecond), 1000, 2000, 2000, 2300)
		l.ack(2301)
		l.want(l.pass(time.Minute))
		if r := l.f.report; r.bytes != 1300 {
			t.Errorf("%s: reported %+v", how, r)
		}
	}
}

// A fake that is lost is made again, ever later, and in the end no more.
func TestFillBacksOffAndEnds(t *testing.T) {
	l := newFillLab(t, true)
	l.data(500, 1000)
	l.ack(0, 500, 1000)

	for range 100 {
		if made := l.pass(15 * time.Second); len(made) == 0 {
			break
		}
	}

	n := int(l.f.report.segments)
	if n != maxFillRounds || l.f.report.again != uint64(n)-1 || l.f.report.givenUp != 1 || l.f.report.bytes != 500 {
		t.Errorf("made %d, again %d, given up %d, bytes %d", n, l.f.report.again, l.f.report.givenUp, l.f.report.bytes)
	}
	if l.f.deadline(l.now) != never {
		t.Error("it still wants to be woken")
	}
}

// tcp.md 2.5: never beyond the receiver's right edge, never where the data
// behind did not pass here, never if refused.
func TestFillRefusesHoles(t *testing.T) {
	for name, spoil := range map[string]func(*fillLab){
		"edge":             func(l *fillLab) { l.f.edge = fillISN },
		"not acknowledged": func(l *fillLab) { l.f.bounded, l.f.below = true, fillISN },
		"refused":          func(l *fillLab) { l.f.refused = ErrTLS },
		"unseen": func(l *fillLab) {
			l.f.seen.s = nil
			l.data(2000, 3000)
		},
	} {
		l := newFillLab(t, true)
		l.data(1000, 2000)
		l.ack(0, 1000, 2000)
		spoil(l)
		if made := l.pass(time.Second); len(made) != 0 {
			t.Errorf("%s: made %v", name, made)
		}
	}
}

// SACK blocks below the acknowledgement (RFC 2883), of data that never passed,
// or turned around, say nothing.
func TestRFC2883_FillIgnoresDSACK(t *testing.T) {
	l := newFillLab(t, true)
	l.data(0, 3000)
	l.ack(2000, 500, 1000)
	l.ack(2000, 1000, 2000)
	l.ack(2000, 9000, 9500)
	l.ack(2000, 2900, 2500)
	l.want(l.pass(time.Second))
	if l.f.odd != 1 {
		t.Errorf("%d odd blocks", l.f.odd)
	}
}

// Bytes a second and segments per packet are bounded, and what they hold back
// is made later.
func TestFillIsRateLimited(t *testing.T) {
	l := newFillLab(t, true)
	l.data(50000, 51000)
	l.ack(0, 50000, 51000)
	first := l.pass(21 * time.Millisecond)
	if n := len(first) / 2; n < 16 || n > 24 {
		t.Errorf("%d segments at once", n)
	}
	if l.pass(5 * time.Second); l.f.report.bytes != 50000 {
		t.Errorf("%d bytes in the end", l.f.report.bytes)
	}
}

func TestFillContent(t *testing.T) {
	b := []byte("xxxxxxx")
	fillContent(b, nil, 9)
	if !bytes.Equal(b, make([]byte, 7)) {
		t.Errorf("zeros: %q", b)
	}
	whole, part := make([]byte, 12), make([]byte, 7)
	fillContent(whole, []byte("abc"), 1<<40)
	fillContent(part, []byte("abc"), 1<<40+5)
	if !bytes.Equal(whole[5:], part) {
		t.Errorf("the pattern depends on the segment: %q, %q", whole, part)
	}
}

// The list is bounded; the totals go on.
func TestFillReportIsBounded(t *testing.T) {
	var f filled
	for i := range uint64(1000) {
		f.add(i*10, i*10+4)
		f.add(i*10, i*10+4)
		f.add(i*10+2, i*10+5)
	}
	if len(f.list) != maxReported || f.more != 1000-maxReported || f.bytes != 5000 {
		t.Errorf("%d ranges, %d more, %d bytes", len(f.list), f.more, f.bytes)
	}
	f = filled{}
	for _, r := range []ByteRange{{10, 20}, {40, 50}, {20, 25}, {24, 41}, {0, 5}} {
		f.add(r.From, r.To)
	}
	if !slices.Equal(f.list, []ByteRange{{0, 5}, {10, 50}}) || f.bytes != 45 {
		t.Errorf("%v, %d bytes", f.list, f.bytes)
	}
}
