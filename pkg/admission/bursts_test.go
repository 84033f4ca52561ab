package admission

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func promising() Link {
	l := wan()
	l.Bursts, l.Lead, l.LeadTime = 7000, 3000, 4*time.Millisecond
	return l
}

// RFC 2212: the D that a link advertises holds as long as the others do not send
// more at once than it leaves room for. Who would is refused by code 1 value 1.
func TestBurstsKeepTheDelayBoundRFC2212(t *testing.T) {
	c := New(NewMemory(), 100, promising())
	for _, id := range []ID{"a", "b"} {
		if d := c.Admit(request(id, cl(1e5))); !d.Admitted { // 3000 bytes each
			t.Fatalf("%s: %+v", id, d)
		}
	}
	d := c.Admit(request("voice", gs(1e5, 2e5)))
	if d.Admitted || d.Code != CodeAdmission || d.Value != ValueDelay {
		t.Errorf("a third burst of 3000 in 7000: %+v", d)
	}
	if want := "3 reservations on wan0 could send 9000 bytes at once, and the delay bounds of guaranteed service there leave room for 7000"; d.Reason != want {
		t.Errorf("reason %q", d.Reason)
	}
	small := gs(1e4, 1e4)
	small.TSpec.Bucket, small.TSpec.MaxPacket = 400, 400
	if d := c.Admit(request("voice", small)); !d.Admitted {
		t.Errorf("a burst of 400: %+v", d)
	}
	// From now on the others keep the promise, too; what is there may shrink.
	if d := c.Admit(request("c", cl(1e5))); d.Admitted || d.Value != ValueDelay {
		t.Errorf("a burst that voice was not promised: %+v", d)
	}
	if d := c.Admit(request("a", cl(5e4))); !d.Admitted {
		t.Errorf("a reservation that shrinks: %+v", d)
	}
	if ok, err := c.Release("voice"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if d := c.Admit(request("c", cl(1e5))); !d.Admitted {
		t.Errorf("without a guaranteed flow nothing was promised: %+v", d)
	}
	if u := usage(t, c, "wan0"); u.Burst != 9000 || u.Guaranteed != 0 {
		t.Errorf("usage %+v", u)
	}
}

// A large bucket is let out by its class bit by bit, and nobody is delayed by
// its own burst.
func TestBurstsOfOne(t *testing.T) {
	l := promising()
	f := gs(1e5, 5e5)
	f.TSpec.Bucket = 1e6
	if got := l.burst(f); got != 3000+2000 {
		t.Errorf("burst %d, want what the class lets out: 5000", got)
	}
	l.Bursts = 100
	if d := New(NewMemory(), 100, l).Admit(request("a", f)); !d.Admitted {
		t.Errorf("alone on the link: %+v", d)
	}
}

// Whatever comes and goes, what was promised to guaranteed flows holds, unless
// the link itself was changed.
func TestBurstsNeverPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := promising()
		c := New(NewMemory(), 100, l)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := ID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "id")))
			if rapid.IntRange(0, 2).Draw(t, "release") == 0 {
				if _, err := c.Release(id); err != nil {
					t.Fatal(err)
				}
				continue
			}
			rate := rapid.Float64Range(100, 1e5).Draw(t, "r")
			f := cl(rate)
			if rapid.Bool().Draw(t, "guaranteed") {
				f = gs(rate, 2*rate)
			}
			f.TSpec.Bucket = rapid.Float64Range(100, 9000).Draw(t, "b")
			c.Admit(request(id, f))
			u, _, err := c.Usage("wan0")
			if err != nil {
				t.Fatal(err)
			}
			var burst int64
			guaranteed := 0
			list, err := c.Reservations("wan0")
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				burst += list[i].Burst
				if list[i].guaranteed() {
					guaranteed++
				}
			}
			if u.Burst != burst || u.Guaranteed != guaranteed {
				t.Fatalf("usage %+v, the entries sum up to %d and %d", u, burst, guaranteed)
			}
			if guaranteed > 0 && len(list) > 1 && float64(burst) > l.Bursts {
				t.Fatalf("%d bytes of bursts with %d guaranteed flows", burst, guaranteed)
			}
		}
	})
}

// RFC 2212, Invocation Information: a flow that reduces its TSpec or its RSpec is
// not denied, whatever has become of the link; more slack for the same rate is a
// reduction, too.
func TestAdmitDecreaseRFC2212(t *testing.T) {
	c := New(NewMemory(), 1, promising())
	if d := c.Admit(request("a", gs(1e5, 4e5))); !d.Admitted {
		t.Fatalf("%+v", d)
	}
	small := promising()
	small.Reservable, small.MTU, small.Bursts = 1e4, 1000, 10
	if err := c.SetLinks(small); err != nil {
		t.Fatal(err)
	}
	slack := func(f intserv.FlowSpec) intserv.FlowSpec { f.RSpec.Slack = 500; return f }
	for _, l := range []struct {
		name string
		f    intserv.FlowSpec
	}{{"more slack", slack(gs(1e5, 4e5))}, {"less R", slack(gs(1e5, 2e5))}, {"less r", slack(gs(5e4, 2e5))}} {
		if d := c.Admit(request("a", l.f)); !d.Admitted {
			t.Errorf("%s: %+v", l.name, d)
		}
	}
	if d := c.Admit(request("a", gs(5e4, 3e5))); d.Admitted || !d.InPlace {
		t.Errorf("more R again: %+v", d)
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 2e5 {
		t.Errorf("usage %+v", u)
	}
}
