package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// manyReliable is for connections that are cheated, each with a large reservation.
const manyReliable = `
  - name: many
    match: {protocol: tcp, to_port: 5001-5002}
    reserve: {role: both, service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
`

// throttle gives a box a share of one processor until the test ends.
func (b *box) throttle(t *testing.T, share float64) {
	t.Helper()
	undo, err := rig.Throttle(b.proc, share)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-b.proc.Exited():
		default:
			b.endsInTime(t)
		}
		if err := undo(); err != nil {
			t.Error(err)
		}
	})
}

// overloadDrain is drain_timeout of a box that is overloaded, and a stop takes a few
// seconds more at most.
const (
	overloadDrain = 10 * time.Second
	overloadStop  = overloadDrain + 5*time.Second
)

// endsInTime stops a box, however little of a processor it has, and tells how long that
// took.
func (b *box) endsInTime(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := b.proc.Stop(overloadStop); err != nil {
		t.Errorf("%s: %v", b.name, err)
	}
	took := time.Since(begin)
	t.Logf("%s ended %s after SIGTERM", b.name, took.Round(time.Millisecond))
	return took
}

// overloadSilence is for how long no connection may stand still. A few packets that
// their sources send again after a timeout, doubled, are within it.
const overloadSilence = 5 * time.Second

// stream is a connection over which data goes without end.
type stream struct {
	a, b  *net.TCPConn
	got   atomic.Int64
	gap   time.Duration // the longest in which nothing came, though this process ran
	worst atomic.Int64  // the same since it was set to 0
	rest  time.Duration // between two blocks; 0: as fast as it can
	err   error
}

// flow sends until it is told to stop, and then half-closes; the reader checks that
// all has come.
func (s *stream) flow(stop <-chan struct{}) {
	var sent atomic.Int64
	wrote := make(chan error, 1)
	go func() {
		block := random(1, 32<<10)
		for {
			select {
			case <-stop:
				wrote <- s.a.CloseWrite()
				return
			default:
			}
			time.Sleep(s.rest)
			n, err := s.a.Write(block)
			sent.Add(int64(n))
			if err != nil {
				wrote <- err
				return
			}
		}
	}()
	want, buf := random(1, 32<<10), make([]byte, 32<<10)
	silence := rig.StartWatch()
	at := 0
	for {
		n, err := s.b.Read(buf)
		gap := silence.Shown()
		s.gap = max(s.gap, gap)
		s.worst.Store(max(s.worst.Load(), int64(gap)))
		silence = rig.StartWatch()
		for _, c := range buf[:n] {
			if c != want[at] {
				err = errors.New("what comes is not what was sent")
				break
			}
			at = (at + 1) % len(want)
		}
		s.got.Add(int64(n))
		if err != nil {
			if n := s.got.Load(); err.Error() == "EOF" && n == sent.Load() {
				err = nil
			}
			s.err = errors.Join(err, <-wrote)
			return
		}
	}
}

// flowAll has data go over all of them, with a rest between two blocks, until it is told
// to end, and waits for that.
func flowAll(streams []*stream, rest time.Duration) (end func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, s := range streams {
		s.rest = rest
		wg.Go(func() { s.flow(stop) })
	}
	return func() {
		close(stop)
		wg.Wait()
	}
}

// shows is the overload as a box sees it.
type shows struct {
	flows          map[string]int // of A to B, by state
	shed           uint64
	drops, waiting uint64
	packets        uint64 // of the cheat queues
	buffered       uint64
	reasons        int
}

func (b *box) shows(t *testing.T) (s shows) {
	t.Helper()
	st, err := b.Stats(t.Context())
	rows, flowErr := b.Flows(t.Context())
	if err := errors.Join(err, flowErr); err != nil {
		t.Fatal(err)
	}
	s.flows = map[string]int{}
	for _, r := range rows {
		if r.Src != addrA.String() {
			continue
		}
		s.flows[r.State]++
		if strings.Contains(r.Reason, "not cheated: the box was overloaded") {
			s.reasons++
		}
	}
	for _, q := range st.Queues {
		if q.Role == "cheat" {
			s.drops += q.DropsKernel + q.DropsUser
			s.waiting = max(s.waiting, q.Waiting)
			s.packets += q.Packets
		}
	}
	s.shed, s.buffered = st.Cheat.Shed, st.Cheat.BufferedBytes
	return s
}

// A box that has a third of the time that its connections need lets them go one by
// one, with the reason, until it can do the rest: nothing stalls, nothing is lost in its
// queues, and its memory is bounded.
func TestOverload(t *testing.T) {
	t.Run("by all", overloadByAll)
	t.Run("stopped", overloadStopped)
	if soak(0, 1) == 1 {
		t.Run("by one", overloadByOne)
		t.Run("by first packets", overloadByFirst)
	}
}

func overloadByAll(t *testing.T) {
	const n = 40
	during := soak(4*time.Second, 20*time.Second)
	l, streams := overloadLab(t, n, "1s")
	b := l.boxes[0]
	end := flowAll(streams, 0)
	time.Sleep(2 * time.Second)
	easy, share := b.shows(t), b.wants(t)
	usual := b.shows(t)
	t.Logf("with all it wants of a processor: %d packets in the queues in a second or so by %.0f%% of it, %v, %d waiting, resident %d MB",
		usual.packets-easy.packets, 100*share, usual.flows, usual.waiting, b.resident(t)>>20)

	b.throttle(t, share/3)
	begin := time.Now()
	highest, memory, waiting := uint64(0), 0, uint64(0)
	last, some := usual, false
	for time.Since(begin) < during {
		time.Sleep(250 * time.Millisecond)
		now := b.shows(t)
		t.Logf("%5d ms: %v, %d let go, %d lost, %d waiting", time.Since(begin).Milliseconds(), now.flows, now.shed, now.drops, now.waiting)
		some = some || now.shed > 0 && now.flows[console.FlowCheated] > 0
		highest, memory, waiting, last = max(highest, now.buffered), max(memory, b.resident(t)), max(waiting, now.waiting), now
	}
	eventually(t, 10*time.Second, "those that were let go say why", func() error {
		if now := b.shows(t); now.reasons < int(now.shed) {
			return fmt.Errorf("%d of %d, %v", now.reasons, now.shed, now.flows)
		}
		return nil
	})
	end()
	longest := judgeStreams(t, streams)
	t.Logf("%d of %d let go; %d lost in the queues; at most %d waiting, %d kB held, %d MB resident; the longest silence of a connection %s",
		last.shed, n, last.drops, waiting, highest>>10, memory>>20, longest.Round(time.Millisecond))
	if !some {
		t.Errorf("%d of %d were let go: want one after the other", last.shed, n)
	}
	if during > 10*time.Second && last.flows[console.FlowCheated] == 0 {
		t.Error("all were let go: the box can do a third of them")
	}
	if last.drops > usual.drops {
		t.Errorf("%d packets lost in the queues", last.drops-usual.drops)
	}
	if highest > 64<<20 || memory > 300<<20 {
		t.Errorf("%d bytes held, %d resident", highest, memory)
	}
	if longest > overloadSilence {
		t.Errorf("a connection stood still for %s", longest)
	}
}

// A box that is stopped while it is overloaded ends in time, and the connections go on
// without it.
func overloadStopped(t *testing.T) {
	const n = 20
	l, streams := overloadLab(t, n, "1s")
	b := l.boxes[0]
	end := flowAll(streams, 0)
	time.Sleep(time.Second)
	share := b.wants(t)
	before := b.shows(t)
	b.throttle(t, share/6)
	// The queues begin to fill, and nobody has been let go yet, or few.
	time.Sleep(200 * time.Millisecond)
	took := b.endsInTime(t)
	t.Logf("before it had a sixth of %.0f%% of a processor %v", 100*share, before.flows)
	var got []int64
	for _, s := range streams {
		got = append(got, s.got.Load())
	}
	eventually(t, 15*time.Second, "all go on without the box", func() error {
		for i, s := range streams {
			if s.got.Load() <= got[i] {
				return fmt.Errorf("connection %d does not", i)
			}
		}
		return nil
	})
	end()
	if longest := judgeStreams(t, streams); longest > overloadSilence+took {
		t.Errorf("a connection stood still for %s, the box having taken %s to end", longest, took)
	}
}

// judgeStreams wants every byte to have arrived, and returns the longest silence.
func judgeStreams(t *testing.T, streams []*stream) (longest time.Duration) {
	t.Helper()
	for i, s := range streams {
		longest = max(longest, s.gap)
		if s.err != nil {
			t.Errorf("connection %d after %d bytes: %v", i, s.got.Load(), s.err)
		}
	}
	return longest
}

// overloadLab has n connections that are cheated, each packet on its own, and RSVP
// with a refresh period.
func overloadLab(t *testing.T, n int, refresh string) (*lab, []*stream) {
	t.Helper()
	l := newLab(t, 2, nil)
	for _, end := range []struct {
		do   func(func() error) error
		name string
	}{{l.a.Do, hostIface}, {l.b.Do, hostIface}} {
		if err := end.do(func() error { return noOffload(end.name) }); err != nil {
			t.Fatal(err)
		}
	}
	var configs []string
	for i := range l.boxes {
		c := l.edge(i, manyReliable+loadPolicies, fmt.Sprintf("limits: {buffered: 64MiB, flows: 4000, sessions: 2000}\ntcp: {drain_timeout: %s}", overloadDrain))
		c.reliable, c.capacity = true, "1gbit"
		configs = append(configs, strings.Replace(c.String(), "refresh: 1s", "refresh: "+refresh, 1))
	}
	l.startAll(t, configs...)
	b := l.boxes[0]
	b.expected = []string{`"level":"warn"`}
	to := newAcceptor(t, l, at(addrB, portReliable))
	streams := make([]*stream, n)
	for i := range streams {
		var c survivor
		if err := c.open(t, l, at(addrB, portReliable), to); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = c.a.Close(), c.b.Close() })
		streams[i] = &stream{a: c.a, b: c.b}
	}
	eventually(t, 20*time.Second, "all are cheated", func() error {
		if s := b.shows(t); s.flows[console.FlowCheated] < n {
			return fmt.Errorf("%v", s.flows)
		}
		return nil
	})
	return l, streams
}

// wants is the share of a processor that a box's program takes during a second.
func (b *box) wants(t *testing.T) float64 {
	t.Helper()
	used, begin := b.processor(t), time.Now()
	time.Sleep(time.Second)
	return (b.processor(t) - used).Seconds() / time.Since(begin).Seconds()
}

// processor is how much of the processors' time a box's program has had.
func (b *box) processor(t *testing.T) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.proc.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	user, userErr := strconv.Atoi(f[11])
	system, systemErr := strconv.Atoi(f[12])
	if err := errors.Join(userErr, systemErr); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// A connection that floods is let go, and the others stay as they are: it has the
// most packets.
func overloadByOne(t *testing.T) {
	const n, loud = 8, 2
	l, streams := overloadLab(t, n, "1s")
	b := l.boxes[0]
	end := flowAll(streams, 100*time.Millisecond)
	// Segments of a connection with a wrong checksum: they cost the box as much as
	// others, and nobody believes them.
	raw, err := traffic.OpenRaw(l.a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	var segments [loud][]byte
	for i := range segments {
		local := streams[i].a.LocalAddr().(*net.TCPAddr)
		segments[i] = packet.AppendTCP(nil, &packet.Segment{
			Key: packet.MakeKey(packet.ProtoTCP, at(addrA, uint16(local.Port)), at(addrB, portReliable)), TTL: 64, DF: true,
			Flags: packet.FlagACK, Payload: make([]byte, 1000),
		})
		segments[i][20+16] ^= 0x55
	}
	b.throttle(t, 0.15)
	ctx, cancel := context.WithCancel(t.Context())
	flooded := make(chan int, 1)
	begin := time.Now()
	go func() {
		sent, err := raw.Repeat(ctx, 30_000, func(i int) []byte { return segments[i%loud] })
		if err != nil {
			t.Errorf("flood: %v", err)
		}
		flooded <- sent
	}()
	var last shows
	for time.Since(begin) < soak(4*time.Second, 15*time.Second) {
		time.Sleep(250 * time.Millisecond)
		last = b.shows(t)
		t.Logf("%5d ms: %v, %d let go, %d lost, %d waiting", time.Since(begin).Milliseconds(), last.flows, last.shed, last.drops, last.waiting)
	}
	cancel()
	took := time.Since(begin)
	sent := <-flooded
	l.loudOnes(t, streams[:loud])
	end()
	judgeStreams(t, streams[:loud])
	longest := judgeStreams(t, streams[loud:])
	t.Logf("%.0f segments a second; %d of %d let go, %d lost in the queues; the longest silence of another connection %s",
		float64(sent)/took.Seconds(), last.shed, n, last.drops, longest.Round(time.Millisecond))
	if last.flows[console.FlowCheated] < (n-loud)/2 {
		t.Errorf("%v: most of the others should be as they were", last.flows)
	}
	if longest > overloadSilence {
		t.Errorf("another connection stood still for %s", longest)
	}
}

// loudOnes wants connections to have been let go.
func (l *lab) loudOnes(t *testing.T, streams []*stream) {
	t.Helper()
	b := l.boxes[0]
	for i, s := range streams {
		port := uint16(s.a.LocalAddr().(*net.TCPAddr).Port)
		if row, err := b.flow(t, port); err != nil || !strings.Contains(row.Reason, "overloaded") {
			t.Errorf("the loud connection %d: %+v, %v", i, row, err)
		}
	}
}

// First packets at more than the box can do, SYNs of connections that a policy claims:
// those that are settled or cheated already do not suffer. The queue of first packets
// lets pass what it has no room for.
func overloadByFirst(t *testing.T) {
	const n = 6
	l, streams := overloadLab(t, n, "30s")
	l.inOrder(t)
	b := l.boxes[0]
	for _, b := range l.boxes {
		b.expected = []string{`"level":"error"`, `"level":"warn"`}
	}
	end := flowAll(streams, 50*time.Millisecond)
	const during = 10 * time.Second
	ld := beginLoad(t, l, 4000, 4*time.Second+during)
	time.Sleep(3 * time.Second)
	raw, err := traffic.OpenRaw(l.a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	for i, s := range streams {
		s.worst.Store(0)
		t.Logf("before: connection %d has %d kB", i, s.got.Load()>>10)
	}
	before := b.queued(t)
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	begin := time.Now()
	sent, err := raw.Repeat(ctx, 100_000, func(i int) []byte {
		return packet.AppendTCP(nil, &packet.Segment{
			Key: packet.MakeKey(packet.ProtoTCP, at(addrA, uint16(1024+i%30_000)), at(addrB, portRealtime)), TTL: 64, DF: true,
			Seq: packet.Seq(i), Flags: packet.FlagSYN, Window: 1000, Options: []byte{2, 4, 5, 180},
		})
	})
	took := time.Since(begin)
	if err != nil {
		t.Errorf("flood: %v", err)
	}
	after := b.queued(t)
	now := b.shows(t)
	memory := b.resident(t)
	var silence time.Duration
	for _, s := range streams {
		silence = max(silence, time.Duration(s.worst.Load()))
	}
	ld.wait(t)
	end()
	judgeStreams(t, streams)
	all, lost, order, late := int64(0), int64(0), int64(0), time.Duration(0)
	for i, r := range ld.results {
		t.Logf("%s: %d sent, %d lost, %d out of order, delay p99 %s, at most %s", ld.names[i], r.Sent, r.Lost, r.Reordered, r.Delay.P99, r.Delay.Max)
		all, lost, order, late = all+r.Sent, lost+r.Lost, order+r.Reordered, max(late, r.Delay.Max)
	}
	looked := after["first"] - before["first"]
	t.Logf("%.0f SYNs a second, of which %.0f were looked at; %v, %d let go of %d; %d cheat packets lost; longest silence of a cheated connection %s; settled flows late by %s at most; %d MB resident",
		float64(sent)/took.Seconds(), float64(looked)/took.Seconds(), now.flows, now.shed, n, now.drops, silence.Round(time.Millisecond), late, memory>>20)
	if looked == 0 || uint64(sent) < 2*looked {
		t.Errorf("%d SYNs, of which the box has looked at %d: that is not twice what it can do", sent, looked)
	}
	// A processor that is full loses some before any rule is looked at.
	if order > 0 || lost > all/50 {
		t.Errorf("settled flows: %d of %d packets lost, %d out of order", lost, all, order)
	}
	if now.drops > 0 || silence > overloadSilence {
		t.Errorf("cheated connections: %d packets lost in their queues, and a silence of %s", now.drops, silence)
	}
	if memory > 500<<20 {
		t.Errorf("%d MB resident", memory>>20)
	}
}
