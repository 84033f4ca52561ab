package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// broker starts etcd in the second box's namespace; the first reaches it over
// their link.
func (l *lab) broker(t *testing.T, dir string) *rig.Process {
	t.Helper()
	addr, _ := hop(0, 2)
	env, err := etcdtest.Environ(dir, at(addr, 2379).String(), at(addr, 2380).String())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Start(rig.ProcessConfig{NS: l.boxes[1].ns, Path: self, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sharing is the configuration of box i, of whose link to the other box one level
// is sold to both together.
func (l *lab) sharing(i int) string {
	addr, _ := hop(0, 2)
	c := l.edge(i, "  - {name: marked, match: {protocol: tcp}, mark: le}\n  - {name: calls, match: {protocol: udp}, reserve: {role: receiver, tspec: {rate: 2mbit, burst: 64kB}}}\n", fmt.Sprintf(
		"admission: {ledger: etcd, etcd: {endpoints: [\"http://%s\"], box: box%d, ttl: 5s, timeout: 1s}}", at(addr, 2379), i+1))
	c.secured = ", sls: [{class: af31, rate: 2mbit, burst: 64kB, shared: region}]"
	return c.String()
}

// want makes a reservation by hand from one host to the other.
func (b *box) want(t *testing.T, from, to netip.Addr, port uint16, rate string) string {
	t.Helper()
	row, err := b.Reserve(t.Context(), console.ReservationRequest{
		Protocol: console.Text("udp"), Src: from.String(), Sport: port, Dst: to.String(), Dport: port, Rate: console.Text(rate), Burst: console.Text("8kB"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return row.ID
}

// refused waits until a reservation by hand is refused for a reason.
func (b *box) refused(t *testing.T, id string, why ...string) {
	t.Helper()
	row := b.waitReservation(t, id, console.SessionRejected)
	if !slices.ContainsFunc(why, func(w string) bool { return strings.Contains(row.Error, w) }) {
		t.Errorf("%s: refused with %q, want %q", b.name, row.Error, why)
	}
}

// region is what the box says of the shared level.
func (b *box) region(t *testing.T, iface string) console.SharedRow {
	t.Helper()
	links, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rows := linkRow(links, iface).Shared; len(rows) == 1 {
		return rows[0]
	}
	t.Fatalf("%s: %s shares %+v", b.name, iface, linkRow(links, iface).Shared)
	return console.SharedRow{}
}

// ledger waits for a state of the box's ledger.
func (b *box) ledger(t *testing.T, state string) {
	t.Helper()
	eventually(t, 20*time.Second, b.name+": etcd is "+state, func() error {
		st, err := b.Status(t.Context())
		if err == nil && (st.Ledger.State != state || state != console.LedgerConnected && !slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, "etcd is not in use") })) {
			err = fmt.Errorf("ledger %+v, problems %q", st.Ledger, st.Problems)
		}
		return err
	})
}

// Two boxes share a service level of 2 Mbit/s through etcd (RFC 2998 section 4.3):
// what one has the other cannot get. Without etcd what is reserved stays, ends and
// is shown, and new ones are refused with the reason; packets do not wait for it.
// A box that dies gives its share back.
func TestTwoBoxesShareALevel(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	dir := t.TempDir()
	etcd := l.broker(t, dir)
	l.startAll(t, l.sharing(0), l.sharing(1))
	one, two := l.boxes[0], l.boxes[1]
	one.ledger(t, console.LedgerConnected)
	two.ledger(t, console.LedgerConnected)

	first := one.want(t, addrA, addrB, 6001, "1.2mbit")
	one.waitReservation(t, first, console.SessionReserved)
	second := two.want(t, addrB, addrA, 6002, "1mbit")
	two.refused(t, second, "service level af31 of wan0 has 100000 of 250000 bytes/s left, asked for are 125000")
	third := two.want(t, addrB, addrA, 6003, "0.5mbit")
	two.waitReservation(t, third, console.SessionReserved)
	eventually(t, 5*time.Second, "both boxes know what both hold", func() error {
		a, b := one.region(t, rightWAN), two.region(t, leftWAN)
		if a.HeldBPS != 1_700_000 || a.OwnBPS != 1_200_000 || a.LimitBPS != 2_000_000 || a.HeldBurst != 16_000 || len(a.Boxes) != 2 ||
			b.HeldBPS != 1_700_000 || b.OwnBPS != 500_000 || b.OwnBurst != 8000 {
			return fmt.Errorf("%+v and %+v", a, b)
		}
		return nil
	})

	// etcd hangs: it answers nothing, and nothing tells that it does not.
	if err := etcd.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	hung := one.want(t, addrA, addrB, 6004, "0.2mbit")
	slowest := time.Duration(0)
	for port := uint16(7100); port < 7120; port++ {
		began := time.Now()
		source, _ := connect(t, l.a, l.b, at(addrB, port)) // its first packets pass the box's hands
		slowest = max(slowest, time.Since(began))
		if _, err := one.Sessions(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = source.Close()
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("while reservations wait for an etcd that hangs, a connection is there after %v at most", slowest)
	if slowest > 900*time.Millisecond {
		t.Errorf("packets wait for etcd: a connection took %v", slowest)
	}
	// The receiver's box, which has heard of it by ResvErr, tells it back.
	one.refused(t, hung, "shared account region", "traffic control system error")
	one.ledger(t, console.LedgerOutOfReach)
	if err := etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	if row := one.waitReservation(t, first, console.SessionReserved); row.Class == "" {
		t.Errorf("the first reservation is %+v", row)
	}
	if _, err := two.Release(t.Context(), third); err != nil { // it ends here, and is told later
		t.Fatal(err)
	}

	l.broker(t, dir)
	one.ledger(t, console.LedgerConnected)
	two.ledger(t, console.LedgerConnected)
	one.waitReservation(t, first, console.SessionReserved)
	one.waitReservation(t, hung, console.SessionReserved) // it is asked for again, and there is room
	eventually(t, 5*time.Second, "all is told", func() error {
		if a := two.region(t, leftWAN); a.HeldBPS != 1_400_000 || a.OwnBPS != 0 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})

	// The first box dies. Its share is there for others when its lease has ended; it
	// comes back, and has it again.
	one.kill(t)
	eventually(t, 30*time.Second, "nothing is held any more", func() error {
		if a := two.region(t, leftWAN); a.HeldBPS != 0 || len(a.Boxes) != 0 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	one.start(t, l.sharing(0))
	one.waitReservation(t, first, console.SessionReserved)
	eventually(t, 5*time.Second, "the other box sees it", func() error {
		if a := two.region(t, leftWAN); a.HeldBPS < 1_200_000 || len(a.Boxes) != 1 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
}
