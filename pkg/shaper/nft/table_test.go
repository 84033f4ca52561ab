package nft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

var testQueue = plan.Queue{
	Control: 100, First: 101, Cheat: []uint16{102, 103}, HasIPv6: true,
	Prefilters: []plan.Prefilter{
		{Proto: packet.ProtoTCP, ToPorts: [][2]uint16{{5000, 5999}, {8000, 8000}}, BothWays: true},
		{Proto: packet.ProtoUDP, To: []netip.Prefix{
			netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd02::/64"),
		}},
	},
}

// open makes the tables in the box.
func (l *lab) open(t testing.TB, want plan.Queue) (q *QueueTable) {
	t.Helper()
	must(t, l.Box.Do(func() (err error) { q, err = Open(want); return err }))
	t.Cleanup(func() { must(t, q.Close()) })
	must(t, q.Beat())
	return q
}

// beating keeps the rules alive until the test ends.
func (q *QueueTable) beating(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := q.Beat(); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// counts are the packets that each rule took since the last call.
type counts struct {
	q    *QueueTable
	last map[string]uint64
}

func (c *counts) since(t testing.TB) map[string]uint64 {
	t.Helper()
	rows, err := c.q.Counts()
	must(t, err)
	total, diff := map[string]uint64{}, map[string]uint64{}
	for _, r := range rows {
		total[r.Rule] += r.Packets
	}
	for name, n := range total {
		if d := n - c.last[name]; d != 0 {
			diff[name] = d
		}
	}
	c.last = total
	return diff
}

// sockets are a connected UDP pair, source to sink; back sends the other way.
type sockets struct {
	out, in *net.UDPConn
	key     packet.FlowKey
}

func (l *lab) sockets(t testing.TB, src, dst netip.Addr, dport uint16) *sockets {
	t.Helper()
	s := &sockets{}
	must(t, l.Sink.Do(func() (err error) {
		s.in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, dport)))
		return err
	}))
	must(t, l.Source.Do(func() (err error) {
		s.out, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0)), s.in.LocalAddr().(*net.UDPAddr))
		return err
	}))
	t.Cleanup(func() { must(t, errors.Join(s.in.Close(), s.out.Close())) })
	s.key = packet.MakeKey(packet.ProtoUDP, s.out.LocalAddr().(*net.UDPAddr).AddrPort(), s.in.LocalAddr().(*net.UDPAddr).AddrPort())
	return s
}

// send sends a datagram and waits until it has arrived.
func (s *sockets) send(t testing.TB) {
	t.Helper()
	_, err := s.out.Write([]byte("x"))
	must(t, err)
	must(t, s.in.SetReadDeadline(time.Now().Add(2*time.Second)))
	_, err = s.in.Read(make([]byte, 10))
	must(t, err)
}

func TestFirstThenSettled(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	want := testQueue
	want.SettledTimeout = time.Second
	q := l.open(t, want)
	q.beating(t)
	for _, a := range [][2]netip.Addr{{srcAddr, dstAddr}, {srcAddr6, dstAddr6}} {
		c := &counts{q: q}
		c.since(t)
		s := l.sockets(t, a[0], a[1], 7000)
		s.send(t)
		s.send(t)
		if diff := cmp.Diff(map[string]uint64{"first": 2}, c.since(t)); diff != "" {
			t.Errorf("%v: a new flow: %s", a, diff)
		}
		must(t, q.Settle(s.key))
		s.send(t)
		if diff := cmp.Diff(map[string]uint64{}, c.since(t)); diff != "" {
			t.Errorf("%v: a settled flow: %s", a, diff)
		}
		other := l.sockets(t, a[0], a[1], 7001)
		other.send(t)
		if diff := cmp.Diff(map[string]uint64{"first": 1}, c.since(t)); diff != "" {
			t.Errorf("%v: another flow: %s", a, diff)
		}
		time.Sleep(1200 * time.Millisecond)
		s.send(t)
		if diff := cmp.Diff(map[string]uint64{"first": 1}, c.since(t)); diff != "" {
			t.Errorf("%v: after the settled timeout: %s", a, diff)
		}
	}
}

// echo makes a TCP connection on which each call of the result sends a byte
// there and back.
func (l *lab) echo(t testing.TB, dst netip.Addr, dport uint16) (key packet.FlowKey, ping func()) {
	t.Helper()
	var listener net.Listener
	must(t, l.Sink.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(dst, dport)))
		return err
	}))
	var conn net.Conn
	must(t, l.Source.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", listener.Addr().String(), 2*time.Second)
		return err
	}))
	peer, err := listener.Accept()
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(conn.Close(), peer.Close(), listener.Close())) })
	key = packet.MakeKey(packet.ProtoTCP, conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	return key, func() {
		t.Helper()
		b := make([]byte, 1)
		must(t, errors.Join(conn.SetDeadline(time.Now().Add(2*time.Second)), peer.SetDeadline(time.Now().Add(2*time.Second))))
		for _, c := range [][2]net.Conn{{conn, peer}, {peer, conn}} {
			_, err := c[0].Write(b)
			must(t, err)
			_, err = c[1].Read(b)
			must(t, err)
		}
		time.Sleep(60 * time.Millisecond) // the last acknowledgement may be delayed
	}
}

func TestCheatedGoesToItsWorker(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	for i, dst := range []netip.Addr{dstAddr, dstAddr6} {
		c := &counts{q: q}
		key, ping := l.echo(t, dst, 5001)
		c.since(t)
		ping()
		if got := c.since(t); got["first"] < 3 || len(got) != 1 {
			t.Errorf("%v: before: %v", dst, got)
		}
		must(t, q.Settle(key, key.Reverse())) // a cheated flow that is settled as well stays cheated
		must(t, q.AddCheated(i, key, key.Reverse()))
		must(t, q.AddCheated(i, key, key.Reverse())) // again
		ping()
		name := fmt.Sprintf("cheated_%d", i)
		if got := c.since(t); got[name] < 3 || len(got) != 1 {
			t.Errorf("%v: cheated: %v", dst, got)
		}
		_, other := l.echo(t, dst, 5002)
		c.since(t)
		other()
		if got := c.since(t); got["first"] < 3 || len(got) != 1 {
			t.Errorf("%v: another flow: %v", dst, got)
		}
		must(t, q.RemoveCheated(i, key, key.Reverse()))
		must(t, q.RemoveCheated(i, key)) // again
		ping()
		if got := c.since(t); len(got) != 0 { // still settled
			t.Errorf("%v: after: %v", dst, got)
		}
	}
}

// Of a policy for TCP data towards port 5000-5999 or 8000 both directions are
// wanted; what no policy names is left to the kernel.
func TestPrefilters(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	c := &counts{q: q}
	for dport, queued := range map[uint16]bool{4999: false, 5000: true, 5999: true, 6000: false, 8000: true, 8001: false} {
		_, ping := l.echo(t, dstAddr, dport)
		c.since(t)
		ping()
		got := c.since(t)
		if queued != (got["first"] >= 3) || !queued && len(got) != 0 {
			t.Errorf("port %d: %v, want queued %v", dport, got, queued)
		}
	}
}

// A connection that is watched for is queued though no policy names it, in both
// directions, also after the policies have changed; others are not.
func TestWatchedConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	for _, dst := range []netip.Addr{dstAddr, dstAddr6} {
		c := &counts{q: q}
		key, ping := l.echo(t, dst, 6001)
		_, other := l.echo(t, dst, 6002)
		must(t, q.Watch(key, key.Reverse()))
		must(t, q.Watch(key)) // again
		for range 2 {
			c.since(t)
			other()
			if got := c.since(t); len(got) != 0 {
				t.Errorf("%v: another flow: %v", dst, got)
			}
			ping()
			if got := c.since(t); got["watched"] < 3 || len(got) != 1 {
				t.Errorf("%v: watched: %v", dst, got)
			}
			must(t, q.SetPrefilters(testQueue.Prefilters))
		}
		must(t, q.Unwatch(key, key.Reverse()))
		must(t, q.Unwatch(key)) // again
		c.since(t)              // the rules' counters began anew
		ping()
		if got := c.since(t); len(got) != 0 {
			t.Errorf("%v: after: %v", dst, got)
		}
	}
}

func TestPrefiltersAreReplacedWithoutAGap(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	q.beating(t)
	s := l.sockets(t, srcAddr, dstAddr, 7000)
	must(t, q.Settle(s.key))
	must(t, q.SetPrefilters(testQueue.Prefilters))
	c := &counts{q: q}
	c.since(t)
	s.send(t)
	if got := c.since(t); len(got) != 0 {
		t.Errorf("a settled flow is asked for again: %v", got)
	}
	must(t, q.UnsettleAll())
	s.send(t)
	if got := c.since(t); got["first"] != 1 {
		t.Errorf("a flow that is settled no more is not asked for: %v", got)
	}
	// Under traffic every packet meets a rule, the old one or the new one: the
	// queue's listener drops all, so that what slips through arrives.
	var sent uint64
	stop := time.Now().Add(400 * time.Millisecond)
	swaps := 0
	drops := l.dropQueue(t, 101)
	for time.Now().Before(stop) {
		for range 20 {
			_, err := s.out.Write([]byte("y"))
			must(t, err)
			sent++
		}
		must(t, q.SetPrefilters(testQueue.Prefilters))
		swaps++
	}
	waitFor(t, func() bool { return drops() == sent })
	must(t, s.in.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if n, err := s.in.Read(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes slipped through a swap of the rules", n)
	}
	t.Logf("%d packets during %d swaps", sent, swaps)
	if err := q.SetPrefilters([]plan.Prefilter{{Proto: packet.ProtoESP, ToPorts: [][2]uint16{{1, 1}}}}); err == nil {
		t.Error("nonsense was taken")
	}
	// Addresses of one family only leave the other alone.
	must(t, q.SetPrefilters([]plan.Prefilter{{To: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}}}))
	s6 := l.sockets(t, srcAddr6, dstAddr6, 7000)
	s6.send(t)
}

// Before the first beat all packets pass: what is settled before it never waits.
func TestRulesWaitForTheFirstBeat(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var q *QueueTable
	must(t, l.Box.Do(func() (err error) { q, err = Open(testQueue); return err }))
	t.Cleanup(func() { must(t, q.Close()) })
	s, c := l.sockets(t, srcAddr, dstAddr, 7000), &counts{q: q}
	s.send(t)
	if got := c.since(t); len(got) != 0 {
		t.Errorf("before it: %v", got)
	}
	must(t, q.Beat())
	s.send(t)
	if got := c.since(t); got["first"] != 1 {
		t.Errorf("after it: %v", got)
	}
}

func TestGuardOpensWithoutBeat(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	q := l.open(t, testQueue)
	for range 8 { // longer than the guard's second
		time.Sleep(200 * time.Millisecond)
		must(t, q.Beat())
	}
	for _, a := range [][2]netip.Addr{{srcAddr, dstAddr}, {srcAddr6, dstAddr6}} {
		s := l.sockets(t, a[0], a[1], 7000)
		c := &counts{q: q}
		must(t, q.Beat())
		c.since(t)
		s.send(t)
		if got := c.since(t); got["first"] != 1 {
			t.Errorf("%v: with a beat: %v", a, got)
		}
		time.Sleep(1100 * time.Millisecond)
		s.send(t)
		if got := c.since(t); len(got) != 0 {
			t.Errorf("%v: without a beat: %v", a, got)
		}
		must(t, q.Beat())
		s.send(t)
		if got := c.since(t); got["first"] != 1 {
			t.Errorf("%v: with a beat again: %v", a, got)
		}
	}
}

// tables are the names of the box's tables.
func (l *lab) tables(t testing.TB) (names []string) {
	t.Helper()
	must(t, l.Box.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		for _, x := range tables {
			names = append(names, x.Name)
		}
		return err
	}))
	return names
}

func TestCloseRemovesOnlyOurs(t *testing.T) {
	l := newLab(t)
	must(t, l.Box.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(&nftables.Table{Name: "somebody", Family: nftables.TableFamilyIPv4})
		return c.Flush()
	}))
	q := l.open(t, testQueue)
	if diff := cmp.Diff([]string{"somebody", plan.QueueTable, plan.QueueTable}, l.tables(t)); diff != "" {
		t.Error(diff)
	}
	must(t, q.Close())
	if diff := cmp.Diff([]string{"somebody"}, l.tables(t)); diff != "" {
		t.Error(diff)
	}
	for _, err := range []error{q.Beat(), q.Settle(), q.Unsettle(), q.UnsettleAll(), q.Renew(), q.Watch(), q.Unwatch(), q.AddCheated(0), q.RemoveCheated(0), q.SetPrefilters(nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestOpenSaysWhoHasTheTable(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	must(t, l.Box.Do(func() error {
		_, err := Open(testQueue)
		if !errors.Is(err, ErrOwned) {
			t.Errorf("a second daemon: %v", err)
		}
		t.Log(err)
		return nil
	}))
	must(t, q.Close())
	must(t, l.Box.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(&nftables.Table{Name: plan.QueueTable, Family: nftables.TableFamilyIPv6})
		if err := c.Flush(); err != nil {
			return err
		}
		if _, err = Open(testQueue); !errors.Is(err, ErrForeign) {
			t.Errorf("a table without owner: %v", err)
		}
		t.Log(err)
		return nil
	}))
	if diff := cmp.Diff([]string{plan.QueueTable}, l.tables(t)); diff != "" {
		t.Errorf("the foreign table alone should be left: %s", diff)
	}
	errs := make(chan error)
	go func() { // a thread without capabilities, which ends with its goroutine
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			errs <- err
			return
		}
		_, err := Open(testQueue)
		errs <- err
	}()
	if err := <-errs; !errors.Is(err, ErrNotPermitted) {
		t.Errorf("without capabilities: %v", err)
	}
}

func testKeys(n int, v6 bool) []packet.FlowKey {
	src, dst := srcAddr, dstAddr
	if v6 {
		src, dst = srcAddr6, dstAddr6
	}
	var keys []packet.FlowKey
	for i := range n {
		keys = append(keys, packet.MakeKey(packet.ProtoTCP,
			netip.AddrPortFrom(src, uint16(i)), netip.AddrPortFrom(dst, uint16(i>>16))))
	}
	return keys
}

func TestFullSetIsTold(t *testing.T) {
	l := newLab(t)
	want := testQueue
	want.MaxCheated, want.MaxSettled = 10, 10
	q := l.open(t, want)
	for _, v6 := range []bool{false, true} {
		keys := testKeys(12, v6)
		must(t, q.AddCheated(0, keys[:8]...))
		if err := q.AddCheated(0, keys[8:]...); !errors.Is(err, ErrFull) {
			t.Errorf("12 flows in a set of 10: %v", err)
		}
		must(t, q.AddCheated(0, keys[8:10]...)) // nothing of the refused call was done
		must(t, q.RemoveCheated(0, keys...))
		must(t, q.AddCheated(0, keys[2:]...))
		if err := q.Settle(keys...); !errors.Is(err, ErrFull) {
			t.Errorf("12 flows in settled, of 10: %v", err)
		}
		must(t, q.Settle(keys[:3]...))
		must(t, q.Settle(keys[:3]...))
		if err := q.Watch(keys...); !errors.Is(err, ErrFull) {
			t.Errorf("12 flows in watched, of 10: %v", err)
		}
		must(t, q.Watch(keys[:8]...))
	}
	if err := q.AddCheated(2, testKeys(1, false)...); err == nil {
		t.Error("there is no cheat queue 2")
	}
}

func TestManyElements(t *testing.T) {
	l := newLab(t)
	q := l.open(t, testQueue)
	keys := append(testKeys(6000, false), testKeys(6000, true)...)
	must(t, q.AddCheated(1, keys...))
	must(t, q.Settle(keys...))
	must(t, q.RemoveCheated(1, keys...))
	for _, b := range q.tables {
		elements, err := q.conn.GetSetElements(b.settled)
		must(t, err)
		if len(elements) != 6000 {
			t.Errorf("%d settled elements, want 6000", len(elements))
		}
		elements, err = q.conn.GetSetElements(b.cheated[1])
		must(t, err)
		if len(elements) != 0 {
			t.Errorf("%d cheated elements are left", len(elements))
		}
	}
}

// A call that the kernel leaves unanswered ends in time, and the next one is
// not answered with its leftovers.
func TestDeadline(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	q := l.open(t, testQueue)
	err := q.conn.call(func() error { _, err := q.conn.raw.Receive(); return err })
	if !errors.Is(err, ErrTimeout) || !q.conn.stale {
		t.Errorf("%v, stale %v", err, q.conn.stale)
	}
	must(t, q.Beat())
	if q.conn.stale {
		t.Error("still stale")
	}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// markAll has the box mark every packet before it is routed.
func (l *lab) markAll(t testing.TB, mark uint32) {
	t.Helper()
	must(t, l.Box.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Name: "marks", Family: nftables.TableFamilyIPv4})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "prerouting", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Immediate{Register: reg0, Data: binaryutil.NativeEndian.PutUint32(mark)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg0},
		}})
		return c.Flush()
	}))
}

func BenchmarkAddCheated(b *testing.B) {
	for _, n := range []int{2, 200, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLab(b)
			q := l.open(b, testQueue)
			keys := testKeys(n, false)
			var add, remove time.Duration
			for b.Loop() {
				t0 := time.Now()
				must(b, q.AddCheated(0, keys...))
				t1 := time.Now()
				must(b, q.RemoveCheated(0, keys...))
				add, remove = add+t1.Sub(t0), remove+time.Since(t1)
			}
			per := float64(b.N) * float64(n) * 1000
			b.ReportMetric(float64(add)/per, "us/add")
			b.ReportMetric(float64(remove)/per, "us/remove")
		})
	}
}

func BenchmarkBeat(b *testing.B) {
	l := newLab(b)
	q := l.open(b, testQueue)
	for b.Loop() {
		must(b, q.Beat())
	}
}
