package admission

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func anyone(ID) bool { return true }

func prior(id ID, f intserv.FlowSpec, setup, hold uint16) Request {
	r := request(id, f)
	r.Priority = Priority{setup, hold}
	return r
}

// preempted are the IDs of those that had to make room; they are in the ledger no
// more.
func preempted(t rapid.TB, c *Control, d Decision) (ids []ID) {
	t.Helper()
	for _, e := range d.Preempted {
		if _, ok, err := c.ledger.Entry(e.ID); ok || err != nil {
			t.Fatalf("%s is still there: %v", e.ID, err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// RFC 3181 section 4: setup priority against hold priority; equals stay. Lowest
// first, as few as needed.
func TestPreemptRFC3181Section4(t *testing.T) {
	filled := func() *Control {
		c := New(NewMemory(), 100, wan()) // 8e5 reservable
		for _, r := range []Request{
			prior("1", cl(2e5), 0, 5), prior("2", cl(2e5), 2, 2), prior("3", cl(1e5), 1, 1), prior("4", cl(2e5), 1, 1), prior("5", cl(1e5), 9, 9),
		} {
			if d := c.AdmitOver(r, anyone); !d.Admitted || d.Preempted != nil {
				t.Fatalf("%+v", d)
			}
		}
		return c
	}
	for name, tt := range map[string]struct {
		ask  Request
		want []ID // nil: refused
	}{
		"nobody is below":              {prior("n", cl(1e5), 1, 1), nil},
		"one of two that are lowest":   {prior("n", cl(1e5), 2, 2), []ID{"4"}},
		"both that are lowest":         {prior("n", cl(3e5), 2, 2), []ID{"4", "3"}},
		"equals stay":                  {prior("n", cl(4e5), 2, 9), nil},
		"up to the next":               {prior("n", cl(4e5), 3, 3), []ID{"2", "4"}},
		"what is not needed stays":     {prior("n", cl(5e5), 3, 3), []ID{"4", "3", "2"}},
		"hold is what counts":          {prior("n", cl(6e5), 5, 5), nil},
		"all but the highest":          {prior("n", cl(7e5), 6, 6), []ID{"4", "3", "2", "1"}},
		"not even all make room":       {prior("n", cl(9e5), 65535, 65535), nil},
		"a change of its own":          {prior("3", cl(2e5), 2, 2), []ID{"4"}},
		"less needs nobody":            {prior("1", cl(1e5), 9, 9), []ID{}},
		"no priority":                  {request("n", cl(1e5)), nil},
		"too large packets are no one": {prior("n", big(), 9, 9), nil},
	} {
		c := filled()
		d := c.AdmitOver(tt.ask, anyone)
		got := slices.Sorted(slices.Values(preempted(t, c, d)))
		want := slices.Sorted(slices.Values(tt.want))
		if d.Admitted != (tt.want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: admitted %v, %v, want %v", name, d.Admitted, got, tt.want)
		}
		if u := usage(t, c, "wan0"); !d.Admitted && (u.Reservations != 5 || u.Bandwidth != 8e5) {
			t.Errorf("%s: somebody was disturbed: %+v", name, u)
		}
		if u := usage(t, c, "wan0"); u.Bandwidth > 8e5 {
			t.Errorf("%s: %+v", name, u)
		}
	}
	// Nobody is taken whom the caller cannot take, nor without a caller that can.
	c := filled()
	if d := c.AdmitOver(prior("n", cl(1e5), 6, 6), func(id ID) bool { return id == "2" }); !slices.Equal(preempted(t, c, d), []ID{"2"}) {
		t.Errorf("%+v", d)
	}
	c = filled()
	if d := c.Admit(prior("n", cl(1e5), 6, 6)); d.Admitted {
		t.Errorf("%+v", d)
	}
	c.SetPolicy(Policy{Stay: true})
	if d := c.AdmitOver(prior("n", cl(1e5), 6, 6), anyone); d.Admitted {
		t.Errorf("preemption is off: %+v", d)
	}
}

func big() intserv.FlowSpec {
	f := cl(1e5)
	f.TSpec.MaxPacket, f.TSpec.Bucket = 9000, 9000
	return f
}

// A caller that cannot take the place of those that made room gives all back, and
// all is as it was.
func TestPreemptionTakenBack(t *testing.T) {
	c := New(NewMemory(), 100, wan())
	c.Admit(prior("1", cl(4e5), 0, 0))
	c.Admit(prior("2", cl(4e5), 0, 0))
	was, err := c.Reservations("wan0")
	if err != nil {
		t.Fatal(err)
	}
	d := c.AdmitOver(prior("3", cl(7e5), 1, 1), anyone)
	if ids := preempted(t, c, d); !slices.Equal(ids, []ID{"2", "1"}) {
		t.Fatalf("%v, %+v", ids, d)
	}
	if _, err := c.Release("3"); err != nil {
		t.Fatal(err)
	}
	if err := c.PutBack(d.Preempted); err != nil {
		t.Fatal(err)
	}
	now, err := c.Reservations("wan0")
	if diff := cmp.Diff(was, now); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
}

// A user's own reservations make room for a more important one of the same user,
// on whatever link they are; another's do not.
func TestPreemptInUsersAccount(t *testing.T) {
	other := wan()
	other.Name = "wan1"
	c := New(NewMemory(), 100, wan(), other)
	c.SetPolicy(Policy{Users: []User{{Name: "ann", Names: []string{"ann"}, Rate: 3e5}}})
	of := func(id ID, link, owner string, rate float64, p uint16) Request {
		r := prior(id, cl(rate), p, p)
		r.Link, r.Asker = link, &Asker{Owner: owner}
		return r
	}
	for _, r := range []Request{of("1", "wan1", "ann", 2e5, 1), of("2", "wan0", "bob", 2e5, 0), of("3", "wan0", "ann", 1e5, 2)} {
		if d := c.AdmitOver(r, anyone); !d.Admitted {
			t.Fatalf("%+v", d)
		}
	}
	if d := c.AdmitOver(of("4", "wan0", "ann", 1e5, 1), anyone); d.Admitted || d.Code != CodePolicy || d.Value != ValueExceeded {
		t.Errorf("%+v", d)
	}
	d := c.AdmitOver(of("4", "wan0", "ann", 1e5, 2), anyone)
	if !d.Admitted || !slices.Equal(preempted(t, c, d), []ID{"1"}) || d.User != "ann" {
		t.Errorf("%+v", d)
	}
	if n, err := c.Sum(UserAccount("ann")); n != 2e5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestPreemption: over random requests no account passes its limit, nobody of
// equal or higher hold priority goes, all of those that go are needed, and a
// refusal disturbs nobody and could not have been helped.
func TestPreemption(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		links := []Link{
			{Name: "l0", Capacity: 1000, Reservable: 800}, {Name: "l1", Capacity: 500, Reservable: 500}, {Name: "l2"},
		}
		c := New(NewMemory(), 1000, links...)
		policy := Policy{
			Users:      []User{{Name: "ann", Rate: 600}, {Name: "bob"}},
			Thresholds: []Threshold{{Below: 2, Share: 0.5}},
		}
		c.SetPolicy(policy)
		limitOf := func(r *Request, link Link) (of map[Account]int64) {
			of = map[Account]int64{UserAccount("ann"): 600}
			if link.Managed() {
				of[LinkAccount(link.Name)] = int64(link.Reservable)
				if r.Priority.Setup < 2 {
					of[LinkAccount(link.Name)] = int64(link.Reservable / 2)
				}
			}
			return of
		}
		model := map[ID]Entry{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := ID(fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "id")))
			if rapid.IntRange(0, 5).Draw(t, "release") == 0 {
				if _, err := c.Release(id); err != nil {
					t.Fatal(err)
				}
				delete(model, id)
				continue
			}
			link := links[rapid.IntRange(0, 2).Draw(t, "link")]
			setup := uint16(rapid.IntRange(0, 4).Draw(t, "setup"))
			r := Request{
				ID: id, Link: link.Name, FlowSpec: cl(float64(rapid.IntRange(1, 400).Draw(t, "rate"))),
				Priority: Priority{setup, setup + uint16(rapid.IntRange(0, 2).Draw(t, "hold"))},
				Asker:    &Asker{Owner: rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user")},
			}
			d := c.AdmitOver(r, anyone)
			old := model[id]
			gone := map[ID]bool{}
			for _, v := range preempted(t, c, d) {
				if e, ok := model[v]; !ok || e.Request.Priority.Hold >= setup || v == id || gone[v] {
					t.Fatalf("%+v takes %+v, %v", r, e, ok)
				}
				gone[v] = true
			}
			// What would be in the accounts with and without some of them.
			less := old.Link == r.Link && old.Request.User == "" && old.Request.FlowSpec.Covers(r.FlowSpec)
			fits := func(without map[ID]bool) bool {
				for a, limit := range limitOf(&r, link) {
					share := int64(r.FlowSpec.TSpec.Rate)
					if a == UserAccount("ann") && r.Asker.Owner != "ann" || share <= old.of(a) || a == UserAccount("ann") && less {
						continue
					}
					sum := share
					for _, e := range model {
						if e.ID != id && !without[e.ID] {
							sum += e.of(a)
						}
					}
					if sum > limit {
						return false
					}
				}
				return true
			}
			switch {
			case d.Admitted && !fits(gone):
				t.Fatalf("%+v: over-admitted: %+v", r, d)
			case !d.Admitted:
				all := map[ID]bool{}
				for _, e := range model {
					all[e.ID] = e.Request.Priority.Hold < setup
				}
				if fits(all) {
					t.Fatalf("%+v refused, and yet there was room to be made: %+v", r, d)
				}
			}
			for v := range gone {
				delete(gone, v)
				if fits(gone) {
					t.Fatalf("%+v: %s did not need to go: %v", r, v, d.Preempted)
				}
				gone[v] = true
			}
			for v := range gone {
				delete(model, v)
			}
			if d.Admitted {
				e, ok, err := c.ledger.Entry(id)
				if !ok || err != nil || e.Request.User != r.Asker.Owner || e.Request.Asker != nil {
					t.Fatalf("%+v %v %v", e, ok, err)
				}
				model[id] = e
			}
			if c.ledger.Len() != len(model) {
				t.Fatalf("%d entries, want %d", c.ledger.Len(), len(model))
			}
			for _, a := range []Account{"l0", "l1", "l2", UserAccount("ann"), UserAccount("bob")} {
				want := int64(0)
				for _, e := range model {
					want += e.of(a)
				}
				if got, err := c.Sum(a); got != want || err != nil {
					t.Fatalf("%s holds %d, want %d", a, got, want)
				}
			}
		}
	})
}

// Guaranteed flows' delay bounds leave room for so many bursts: those of lower
// priority make that room too.
func TestPreemptForBursts(t *testing.T) {
	l := wan()
	l.Bursts, l.Lead, l.LeadTime = 30000, 1e9, 0
	c := New(NewMemory(), 100, l)
	burst := func(id ID, b float64, p uint16, s intserv.Service) Request {
		r := prior(id, cl(1e4), p, p)
		r.FlowSpec.TSpec.Bucket = b
		if r.FlowSpec.Service = s; s == intserv.Guaranteed {
			r.FlowSpec.RSpec.Rate = 1e4
		}
		return r
	}
	for _, r := range []Request{burst("1", 10000, 0, intserv.ControlledLoad), burst("2", 10000, 1, intserv.ControlledLoad), burst("3", 10000, 2, intserv.Guaranteed)} {
		if d := c.AdmitOver(r, anyone); !d.Admitted {
			t.Fatalf("%+v", d)
		}
	}
	d := c.AdmitOver(burst("4", 15000, 2, intserv.Guaranteed), anyone)
	if !d.Admitted || len(d.Preempted) != 2 {
		t.Errorf("%+v", d)
	}
	if d = c.AdmitOver(burst("5", 15000, 2, intserv.Guaranteed), anyone); d.Admitted || d.Code != CodeAdmission || d.Value != ValueDelay {
		t.Errorf("%+v", d)
	}
}

// BenchmarkPreempt: one decision at a link with 10,000 reservations, for which a
// few have to go, and one that nobody makes room for.
func BenchmarkPreempt(b *testing.B) {
	for name, setup := range map[string]uint16{"taken": 1, "refused": 0} {
		b.Run(name, func(b *testing.B) {
			c := New(NewMemory(), 1<<20, Link{Name: "wan0", Capacity: 1e7, Reservable: 1e7})
			for i := range 10000 {
				c.Admit(prior(ID(fmt.Sprint(i)), cl(1000), 1-setup, 1-setup))
			}
			r := prior("n", cl(5000), 1, 1)
			b.ReportAllocs()
			for b.Loop() {
				if d := c.AdmitOver(r, anyone); d.Admitted != (setup == 1) {
					b.Fatalf("%+v", d)
				}
				if _, err := c.Release("n"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
