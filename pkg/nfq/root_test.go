package nfq_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// handler is a Handler made of functions; nil ones do nothing.
type handler struct {
	handle   func(*nfq.Packet) nfq.Verdict
	deadline func() (time.Time, bool)
	advance  func(time.Time)
	wake     func()
	end      func()
}

func (h *handler) Handle(_ time.Time, p *nfq.Packet) nfq.Verdict {
	if h.handle == nil {
		return nfq.Accept
	}
	return h.handle(p)
}

func (h *handler) NextDeadline() (time.Time, bool) {
	if h.deadline == nil {
		return time.Time{}, false
	}
	return h.deadline()
}

func (h *handler) Advance(now time.Time) {
	if h.advance != nil {
		h.advance(now)
	}
}

func (h *handler) Wake(time.Time) {
	if h.wake != nil {
		h.wake()
	}
}

func (h *handler) BatchEnd(time.Time) {
	if h.end != nil {
		h.end()
	}
}

var queues = plan.Queue{
	Control: 100, First: 101, Cheat: []uint16{102}, HasIPv6: true,
	Prefilters: []plan.Prefilter{{Proto: packet.ProtoTCP, BothWays: true}, {Proto: packet.ProtoUDP}},
}

// rules makes the queue table in the box and keeps it beating.
func (l *lab) rules(t testing.TB) (q *nft.QueueTable) {
	t.Helper()
	must(t, l.Box.Do(func() (err error) { q, err = nft.Open(queues); return err }))
	must(t, q.Beat())
	var once sync.Once
	stop := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				if err := q.Beat(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	t.Cleanup(func() {
		once.Do(func() { close(stop) })
		beats.Wait()
		must(t, q.Close())
	})
	return q
}

// queue runs a queue in the box and returns a function that stops it.
func (l *lab) queue(t testing.TB, cfg nfq.Config) (*nfq.Queue, func() error) {
	t.Helper()
	if cfg.OnError == nil {
		cfg.OnError = func(err error) { t.Error(err) }
	}
	var q *nfq.Queue
	must(t, l.Box.Do(func() (err error) { q, err = nfq.Open(cfg); return err }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(5 * time.Second):
			return errors.New("the queue does not stop")
		}
	})
	t.Cleanup(func() { must(t, stop()) })
	return q, stop
}

// udp is a pair of sockets, source to sink.
type udp struct {
	in  *net.UDPConn
	out *net.UDPConn
}

func (l *lab) udp(t testing.TB, dst netip.Addr) *udp {
	t.Helper()
	u := &udp{}
	must(t, l.Sink.Do(func() (err error) {
		u.in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 0)))
		return err
	}))
	must(t, l.Source.Do(func() (err error) {
		u.out, err = net.DialUDP("udp", nil, u.in.LocalAddr().(*net.UDPAddr))
		return err
	}))
	must(t, u.in.SetReadBuffer(8<<20))
	t.Cleanup(func() { must(t, errors.Join(u.in.Close(), u.out.Close())) })
	return u
}

func (u *udp) send(t testing.TB, text string) {
	t.Helper()
	_, err := u.out.Write([]byte(text))
	must(t, err)
}

// receive is the next datagram, "" after a wait.
func (u *udp) receive(t testing.TB, wait time.Duration) string {
	t.Helper()
	must(t, u.in.SetReadDeadline(time.Now().Add(wait)))
	buf := make([]byte, 2048)
	n, err := u.in.Read(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func TestPacketsPass(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	q, stop := l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{}})
	for _, dst := range []netip.Addr{dstAddr, dstAddr6} {
		u := l.udp(t, dst)
		for i := range 20 {
			u.send(t, fmt.Sprint(i))
			if got := u.receive(t, time.Second); got != fmt.Sprint(i) {
				t.Fatalf("%v: got %q, want %d", dst, got, i)
			}
		}
	}
	c := q.Counters()
	if c.Packets != 40 || c.Accepted != 40 || !c.KernelKnown || c.Kernel.Waiting != 0 {
		t.Errorf("counters: %+v", c)
	}
	must(t, stop())
}

func TestRequeueReachesTheOtherQueue(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	var seen atomic.Uint32
	l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		p.RequeueTo = 102
		return nfq.Requeue
	}}})
	u := l.udp(t, dstAddr)
	u.send(t, "nobody listens on 102: bypass")
	if got := u.receive(t, time.Second); got == "" {
		t.Error("a packet sent on to a queue without a listener was lost")
	}
	l.queue(t, nfq.Config{Num: 102, GSO: true, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		if p.Queue == 102 && p.Hook == 2 {
			seen.Add(1)
		}
		return nfq.Accept
	}}})
	u.send(t, "through both")
	if got := u.receive(t, time.Second); got != "through both" || seen.Load() != 1 {
		t.Errorf("got %q, seen %d", got, seen.Load())
	}
}

func TestDrop(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	q, _ := l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		if p.Data[28] == 'x' {
			return nfq.Drop
		}
		return nfq.Accept
	}}})
	u := l.udp(t, dstAddr)
	u.send(t, "x")
	u.send(t, "y")
	if got := u.receive(t, time.Second); got != "y" {
		t.Errorf("got %q, want y", got)
	}
	if c := q.Counters(); c.Dropped != 1 || c.Kernel.Waiting != 0 {
		t.Errorf("counters: %+v", c)
	}
}

// Whatever mixture of verdicts a burst gets, what remains keeps its order and
// nothing is lost.
func TestOrderOverMixedVerdicts(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	q, _ := l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		switch p.Data[31] % 5 {
		case 1:
			p.SetMark, p.HasSetMark = 7, true
		case 2:
			// Shortened by a byte, which UDP over IPv4 may be without a
			// checksum: the headers follow.
			p.Data = p.Data[:len(p.Data)-1]
			p.Data[3]--
			p.Data[25]--
			p.Data[26], p.Data[27] = 0, 0
			p.Data[10], p.Data[11] = 0, 0
			sum := packet.Checksum(p.Data[:20])
			p.Data[10], p.Data[11] = byte(sum>>8), byte(sum)
			return nfq.AcceptModified
		case 3:
			return nfq.Drop
		case 4:
			p.RequeueTo = 102 // nobody listens there
			return nfq.Requeue
		}
		return nfq.Accept
	}}})
	u := l.udp(t, dstAddr)
	const bursts, burst = 20, 100
	for b := range bursts {
		var want []int
		for i := range burst {
			u.send(t, fmt.Sprintf("%03d%c_", b, i))
			if i%5 != 3 {
				want = append(want, i)
			}
		}
		for _, i := range want {
			text := fmt.Sprintf("%03d%c", b, i)
			if i%5 != 2 {
				text += "_"
			}
			if got := u.receive(t, time.Second); got != text {
				t.Fatalf("burst %d: got %q, want %q; %+v", b, got, text, q.Counters())
			}
		}
	}
	c := q.Counters()
	if c.Packets != bursts*burst || c.Dropped != c.Packets/5 || c.Modified != c.Packets/5 || c.VerdictErrors != 0 {
		t.Errorf("counters: %+v", c)
	}
}

// A stream of super-packets whose checksums were left to the device comes out
// right if each change is followed by a full checksum (tcp.md 0.4).
func TestModifySuperPackets(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	var unready, gso atomic.Uint64
	q, _ := l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		v, err := packet.Parse(p.Data)
		if err != nil || !v.IsTCP() {
			return nfq.Drop
		}
		if p.CsumNotReady {
			unready.Add(1)
		}
		if p.GSO {
			gso.Add(1)
		}
		v.SetDSCP(46)
		v.SetTCPChecksum()
		p.Data = v.Bytes()
		return nfq.AcceptModified
	}}})
	const total = 16 << 20
	for _, dst := range []netip.Addr{dstAddr, dstAddr6} {
		sum, n := l.stream(t, dst, total)
		if n != total || sum != streamSum(total) {
			t.Errorf("%v: %d bytes arrived, want %d, or they are not the same", dst, n, total)
		}
	}
	if unready.Load() == 0 || gso.Load() == 0 {
		t.Errorf("the test saw %d packets without a checksum and %d super-packets: it proves nothing", unready.Load(), gso.Load())
	}
	if c := q.Counters(); c.Modified != c.Packets || c.VerdictErrors != 0 {
		t.Errorf("counters: %+v", c)
	}
}

// The rules bypass a queue that nobody listens to, whatever ended the listener:
// its socket is closed then.
func TestListenerGoneIsBypassed(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	handled := make(chan struct{}, 1)
	_, stop := l.queue(t, nfq.Config{Num: 101, Handler: &handler{handle: func(*nfq.Packet) nfq.Verdict {
		handled <- struct{}{}
		return nfq.Drop
	}}})
	u := l.udp(t, dstAddr)
	u.send(t, "a")
	<-handled
	must(t, stop())
	u.send(t, "b")
	if got := u.receive(t, time.Second); got != "b" {
		t.Errorf("got %q, want b", got)
	}
}

func TestStopReleasesWhatWaits(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	begun := make(chan struct{})
	var once sync.Once
	_, stop := l.queue(t, nfq.Config{Num: 101, Batch: 4, Handler: &handler{handle: func(*nfq.Packet) nfq.Verdict {
		once.Do(func() { close(begun) })
		time.Sleep(time.Millisecond)
		return nfq.Accept
	}}})
	u := l.udp(t, dstAddr)
	const n = 500
	for i := range n {
		u.send(t, fmt.Sprint(i))
	}
	<-begun
	must(t, stop())
	for i := range n {
		if got := u.receive(t, time.Second); got != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
}

func TestPanicAccepts(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	var reported, deadlines atomic.Int32
	past := time.Now()
	q, _ := l.queue(t, nfq.Config{
		Num: 101, OnError: func(error) { reported.Add(1) },
		Handler: &handler{
			handle:   func(*nfq.Packet) nfq.Verdict { panic("on purpose") },
			deadline: func() (time.Time, bool) { return past, deadlines.Add(1) < 50 },
			advance:  func(time.Time) { panic("on purpose, in the timer") },
		},
	})
	u := l.udp(t, dstAddr)
	for i := range 10 {
		u.send(t, fmt.Sprint(i))
		if got := u.receive(t, time.Second); got != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
	if c := q.Counters(); c.Panics < 11 || c.Accepted != 10 || reported.Load() == 0 {
		t.Errorf("%d reports, counters %+v", reported.Load(), c)
	}
}

func TestTruncatedIsNeverChanged(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	q, _ := l.queue(t, nfq.Config{Num: 101, CopyRange: 48, Handler: &handler{handle: func(p *nfq.Packet) nfq.Verdict {
		if !p.Truncated || len(p.Data) != 48 || p.OrigLen != 128 {
			return nfq.Drop
		}
		clear(p.Data)
		return nfq.AcceptModified
	}}})
	u := l.udp(t, dstAddr)
	text := fmt.Sprintf("%100d", 42)
	u.send(t, text)
	if got := u.receive(t, time.Second); got != text {
		t.Errorf("got %q", got)
	}
	if c := q.Counters(); c.Refused != 1 || c.Truncated != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestOpenSaysWhy(t *testing.T) {
	l := newLab(t)
	l.queue(t, nfq.Config{Num: 101, Handler: &handler{}})
	must(t, l.Box.Do(func() error {
		if _, err := nfq.Open(nfq.Config{Num: 101, Handler: &handler{}}); !errors.Is(err, nfq.ErrInUse) {
			t.Errorf("second listener: %v", err)
		}
		return nil
	}))
	// A thread without capabilities, which ends with its goroutine.
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			errs <- err
			return
		}
		_, err := nfq.Open(nfq.Config{Num: 105, Handler: &handler{}})
		errs <- err
	}()
	if err := <-errs; !errors.Is(err, nfq.ErrNotPermitted) {
		t.Errorf("without capabilities: %v", err)
	}
}

func TestWakeAndTimer(t *testing.T) {
	l := newLab(t)
	woken := make(chan time.Time, 100)
	late := make(chan time.Duration, 100)
	next := time.Now().Add(5 * time.Millisecond)
	q, stop := l.queue(t, nfq.Config{Num: 101, Handler: &handler{
		wake:     func() { woken <- time.Now() },
		deadline: func() (time.Time, bool) { return next, len(late) < 50 },
		advance: func(now time.Time) {
			late <- time.Since(next)
			next = now.Add(300 * time.Microsecond)
		},
	}})
	for range 20 {
		q.Wake()
		select {
		case <-woken:
		case <-time.After(time.Second):
			t.Fatal("Wake was not seen")
		}
	}
	var worst time.Duration
	for range 50 {
		select {
		case d := <-late:
			worst = max(worst, d)
			if d < 0 {
				t.Errorf("%v too early", -d)
			}
		case <-time.After(time.Second):
			t.Fatal("the timer does not run")
		}
	}
	t.Logf("timer late: worst %v", worst)
	must(t, stop())
	q.Wake() // must do no harm
	if err := q.Run(t.Context()); !errors.Is(err, nfq.ErrClosed) {
		t.Errorf("a second Run: %v", err)
	}
}
