package admission

import "testing"

// What is held counts against everybody but the one that takes its place.
func TestHold(t *testing.T) {
	c := New(NewMemory(), 10, wan())
	if err := c.Hold(request("held", cl(7e5))); err != nil {
		t.Fatal(err)
	}
	if err := c.Hold(request("held more", cl(3e5))); err != nil {
		t.Fatalf("beyond the limit: %v", err)
	}
	if err := c.Hold(Request{ID: "x", Link: "nowhere", FlowSpec: cl(1)}); err == nil {
		t.Error("a link that is not configured")
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 10e5 || u.Reservations != 2 {
		t.Fatalf("%+v", u)
	}
	if d := c.Admit(request("new", cl(2e5))); d.Admitted {
		t.Errorf("over-admission: %+v", d)
	}
	r := request("a", cl(6e5))
	r.Replaces = []ID{"held"}
	if d := c.Admit(r); d.Admitted {
		t.Errorf("6e5 and 3e5 do not fit 8e5: %+v", d)
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 10e5 || u.Reservations != 2 {
		t.Errorf("a refusal gives back what it had set aside: %+v", u)
	}
	r.FlowSpec = cl(5e5)
	if d := c.Admit(r); !d.Admitted || d.InPlace {
		t.Errorf("%+v", d)
	}
	if u := usage(t, c, "wan0"); u.Bandwidth != 8e5 || u.Reservations != 2 {
		t.Errorf("%+v", u)
	}
	r.Replaces = []ID{"held", "never there"}
	if d := c.Admit(r); !d.Admitted {
		t.Errorf("the same again: %+v", d)
	}
}
