package admission

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// TestNeverOverAdmits compares Control with a plain model over random admits,
// changes, moves and releases: the links' sums are exact, and never above what
// they may grant.
func TestNeverOverAdmits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		links := []Link{
			{Name: "l0", Capacity: 1000, Reservable: 800},
			{Name: "l1", Capacity: 500, Reservable: 500, Overhead: 10},
			{Name: "l2"},
		}
		c := New(NewMemory(), 12, links...)
		type held struct {
			link      string
			bandwidth int64
		}
		model := map[ID]held{}
		sum := func(link string) (n int, b int64) {
			for _, h := range model {
				if h.link == link {
					n, b = n+1, b+h.bandwidth
				}
			}
			return n, b
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := ID(fmt.Sprint(rapid.IntRange(0, 15).Draw(t, "id")))
			if rapid.IntRange(0, 3).Draw(t, "release") == 0 {
				_, had := model[id]
				if ok, err := c.Release(id); ok != had || err != nil {
					t.Fatalf("release %s: %v, %v", id, ok, err)
				}
				delete(model, id)
			} else {
				link := links[rapid.IntRange(0, 2).Draw(t, "link")]
				r := Request{ID: id, Link: link.Name, FlowSpec: cl(rapid.Float64Range(1, 400).Draw(t, "rate"))}
				old, had := model[id]
				want := units(r.FlowSpec.TSpec.LinkRate(r.FlowSpec.Bandwidth(), link.Overhead))
				_, used := sum(link.Name)
				if had && old.link == link.Name {
					used -= old.bandwidth
				}
				fits := !link.Managed() || used+want <= int64(link.Reservable) || had && old.link == link.Name && want <= old.bandwidth
				fits = fits && (had || len(model) < 12)
				d := c.Admit(r)
				if d.Admitted != fits || d.InPlace != (had && !fits) {
					t.Fatalf("admit %+v: %+v, model says %v", r, d, fits)
				}
				if fits {
					model[id] = held{link.Name, want}
				}
			}
			for _, l := range links {
				n, b := sum(l.Name)
				u, _, err := c.Usage(l.Name)
				if err != nil || u.Reservations != n || u.Bandwidth != b {
					t.Fatalf("%s: %+v, %v, model says %d with %d", l.Name, u, err, n, b)
				}
				if l.Managed() && b > int64(l.Reservable) {
					t.Fatalf("%s is over-admitted: %d", l.Name, b)
				}
			}
		}
	})
}

// TestConcurrentAdmits: many at once get no more than one after the other.
func TestConcurrentAdmits(t *testing.T) {
	c := New(NewMemory(), 1000, wan())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				id := ID(fmt.Sprint(i, "-", j))
				c.Admit(request(id, cl(10000)))
				if j%3 == 0 {
					if _, err := c.Release(id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if u := usage(t, c, "wan0"); u.Bandwidth != 8e5 || u.Reservations != 80 {
		t.Errorf("%+v", u)
	}
}

// BenchmarkFigureDecisions asks for a reservation and gives it back, beside 100,000
// that stand, on a link whose reservations are held against its capacity, its
// services' ceilings and the service levels of the network behind it. Of the
// decisions every other one is a refusal.
func BenchmarkFigureDecisions(b *testing.B) {
	services := map[intserv.Service]Service{intserv.Guaranteed: {Ceiling: 1e8}, intserv.ControlledLoad: {Ceiling: 2e8}}
	c := New(NewMemory(), 1<<20, Link{
		Name: "wan0", Capacity: 1.2e9, Reservable: 1e9, MTU: 1500, Services: services,
		Contract: true, Levels: []Level{{DSCP: 26, Rate: 2e8, Burst: 1e12}, {DSCP: 34, Rate: 1e3, Burst: 1e9}},
	})
	ask := func(id int, level uint8) Request {
		r := request(ID(fmt.Sprint(id)), cl(1000))
		r.Level = level
		return r
	}
	for i := range 100_000 {
		if d := c.Admit(ask(i, 26)); !d.Admitted {
			b.Fatal(d.Reason)
		}
	}
	granted, refused := ask(200_000, 26), ask(200_001, 34)
	refused.FlowSpec = cl(5000)
	b.ReportAllocs()
	start, n := time.Now(), 0
	for b.Loop() {
		if d := c.Admit(granted); !d.Admitted {
			b.Fatal(d.Reason)
		}
		if d := c.Admit(refused); d.Admitted {
			b.Fatal("a level has more than it is sold for")
		}
		if ok, err := c.Release(granted.ID); !ok || err != nil {
			b.Fatal(ok, err)
		}
		n += 2
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "decisions/s")
}

func BenchmarkAdmit(b *testing.B) {
	c := New(NewMemory(), 1<<20, Link{Name: "wan0"})
	for i := range 100000 {
		c.Admit(request(ID(fmt.Sprint(i)), cl(1000)))
	}
	r := request("7", cl(1000))
	b.ReportAllocs()
	for b.Loop() {
		c.Admit(r)
	}
}
