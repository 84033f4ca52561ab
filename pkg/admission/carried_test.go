package admission

import "testing"

// RFC 3175 section 2.8: what an aggregate carries takes nothing of the link but what the
// aggregate has, whatever it is; its user's account is charged, and policy asked.
func TestCarried(t *testing.T) {
	c := New(NewMemory(), 100, Link{
		Name: "wan0", Capacity: 1e6, Reservable: 4e5, Bursts: 5000, Lead: 1e6, Contract: true, Levels: []Level{{DSCP: 26, Rate: 4e5, Burst: 64000}},
	})
	c.SetPolicy(campus())
	ask := func(id ID, rate float64, carried bool) Decision {
		r := Request{ID: id, Link: "wan0", FlowSpec: cl(rate), Level: 26, Carried: carried}
		if carried {
			r.Asker = asker("10.1.0.5")
		}
		return c.Admit(r)
	}
	if d := ask("aggregate", 4e5, false); !d.Admitted {
		t.Fatal(d.Reason)
	}
	for _, id := range []ID{"one", "two"} { // the link is full
		if d := ask(id, 2e5, true); !d.Admitted || d.User != "ann" {
			t.Errorf("%+v", d)
		}
	}
	if d := ask("three", 1e4, true); d.Admitted || d.Value != ValueExceeded {
		t.Errorf("over the user's limit: %+v", d)
	}
	u, _, err := c.Usage("wan0")
	if err != nil || u.Bandwidth != 4e5 || u.Reservations != 3 {
		t.Errorf("%+v, %v", u.Usage, err)
	}
	// It leaves the aggregate: there is no room for it by itself.
	if d := ask("one", 2e5, false); d.Admitted {
		t.Error("admitted beyond the link")
	}
	if _, err := c.Release("two"); err != nil {
		t.Fatal(err)
	}
	if d := ask("three", 1e4, true); !d.Admitted {
		t.Error(d.Reason)
	}
}
