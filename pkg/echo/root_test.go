package echo

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// lab is a box with a host behind each of two interfaces.
type lab struct {
	box, near, far *netns.NetNS
	p              *Pinger
}

const (
	nearIface = "near0"
	farIface  = "far0"
)

func newLab(t *testing.T) *lab {
	t.Helper()
	roottest.Need(t)
	r, err := rig.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{}
	for _, n := range []struct {
		name string
		ns   **netns.NetNS
	}{{"box", &l.box}, {"near", &l.near}, {"far", &l.far}} {
		if *n.ns, err = r.Namespace(n.name); err != nil {
			t.Fatal(err)
		}
	}
	on := func(addrs ...string) (list []netip.Prefix) {
		for _, a := range addrs {
			list = append(list, netip.MustParsePrefix(a))
		}
		return list
	}
	if err := errors.Join(
		netns.Veth(netns.End{NS: l.box, Name: nearIface, Addrs: on("10.1.0.1/24", "fd00:1::1/64")}, netns.End{NS: l.near, Name: "eth0", Addrs: on("10.1.0.2/24", "fd00:1::2/64")}),
		netns.Veth(netns.End{NS: l.box, Name: farIface, Addrs: on("10.2.0.1/24", "fd00:2::1/64")}, netns.End{NS: l.far, Name: "eth0", Addrs: on("10.2.0.2/24", "fd00:2::2/64")}),
	); err != nil {
		t.Fatal(err)
	}
	if err := l.box.Do(func() (err error) { l.p, err = New(Config{Mark: 7}); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) index(t *testing.T, name string) (index int) {
	t.Helper()
	if err := l.box.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			index = i.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return index
}

// until waits for a condition on the counters.
func (l *lab) until(t *testing.T, what string, cond func(Counters) bool) Counters {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c := l.p.Counters()
		if cond(c) {
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %+v", what, c)
		}
	}
}

// Hosts of both families answer, and the answer is a round trip; one that does
// not answer is nobody's; and a request leaves by the interface that was named
// and by no other.
func TestRFC792_RFC4443_EchoOfRealHosts(t *testing.T) {
	l := newLab(t)
	near := l.index(t, nearIface)
	told := make(chan time.Duration, 4)
	for i, to := range []string{"10.1.0.2", "fd00:1::2"} {
		l.p.Ask(netip.MustParseAddr(to), near, func(d time.Duration) { told <- d })
		select {
		case d := <-told:
			if d <= 0 || d > timeout {
				t.Errorf("%s: %v", to, d)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not answer: %+v", to, l.p.Counters())
		}
		if c := l.p.Counters(); c.Sent != uint64(i+1) || c.Answered != c.Sent || c.Errors != 0 {
			t.Errorf("%+v", c)
		}
	}
	if err := l.far.Sysctl("net/ipv4/icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	nobody := func(d time.Duration) { t.Errorf("somebody has answered after %v", d) }
	l.p.Ask(netip.MustParseAddr("10.2.0.2"), l.index(t, farIface), nobody)
	l.until(t, "a silent host", func(c Counters) bool { return c.Sent == 3 })
	// The far host is not behind the near interface, whatever the routes say.
	l.p.Ask(netip.MustParseAddr("fd00:2::2"), near, nobody)
	c := l.until(t, "a host elsewhere", func(c Counters) bool { return c.Sent == 4 })
	time.Sleep(200 * time.Millisecond) // an answer would have come by now
	if after := l.p.Counters(); after.Answered != 2 || after.Stray != c.Stray {
		t.Errorf("%+v", after)
	}
}
