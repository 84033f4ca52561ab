package admission

import (
	"slices"
	"testing"
)

// sharedLedger notes what happens while nothing may be given away.
type sharedLedger struct {
	*Memory
	depth    int
	steps    []string
	prepared []Entry
	limits   []int64
}

func (s *sharedLedger) note(what string) {
	if s.depth == 0 {
		what += " alone"
	}
	s.steps = append(s.steps, what)
}

func (s *sharedLedger) Together() func() {
	s.depth++
	return func() { s.depth-- }
}

func (s *sharedLedger) Prepare(e Entry, limits []int64) {
	s.prepared, s.limits = append(s.prepared, e), limits
}

func (s *sharedLedger) Commit(e Entry, limits []int64) (Short, bool, error) {
	s.note("commit " + string(e.ID))
	return s.Memory.Commit(e, limits)
}

func (s *sharedLedger) Remove(id ID) (Entry, bool, error) {
	s.note("remove " + string(id))
	return s.Memory.Remove(id)
}

// What is set aside while a decision is made is not given to other boxes: it may
// have to be put back.
func TestTogether(t *testing.T) {
	s := &sharedLedger{Memory: NewMemory()}
	c := New(s, 10, wan())
	c.Admit(request("old", cl(7e5)))
	r := request("new", cl(9e5))
	r.Replaces = []ID{"old"}
	if d := c.Admit(r); d.Admitted {
		t.Fatalf("%+v", d)
	}
	if _, err := c.Release("old"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"commit old", "remove old", "commit new", "commit old", "remove old alone"}; !slices.Equal(s.steps, want) || s.depth != 0 {
		t.Errorf("%q, want %q", s.steps, want)
	}
	c.Together()()
	New(NewMemory(), 1, wan()).Together()() // nobody to keep it from
}

// What is prepared is what will be committed, with the same limits.
func TestPrepare(t *testing.T) {
	s := &sharedLedger{Memory: NewMemory()}
	c := New(s, 10, wan())
	c.Prepare(request("a", cl(5e5)))
	bad := request("b", cl(-1))
	c.Prepare(bad)
	bad.Link, bad.FlowSpec = "nowhere", cl(1)
	c.Prepare(bad)
	c.SetPolicy(Policy{Rules: []Rule{{Name: "none", Refuse: true}}})
	bad = request("c", cl(5e5)) // whom policy refuses nobody is asked for
	bad.Asker = &Asker{}
	c.Prepare(bad)
	c.SetPolicy(Policy{})
	if len(s.prepared) != 1 || s.Len() != 0 {
		t.Fatalf("prepared %+v, %d entries", s.prepared, s.Len())
	}
	if d := c.Admit(request("a", cl(5e5))); !d.Admitted {
		t.Fatalf("%+v", d)
	}
	e, _, err := s.Entry("a")
	if err != nil || !slices.Equal(e.Shares, s.prepared[0].Shares) || len(s.limits) != len(e.Shares) || s.limits[0] != 800_001 {
		t.Errorf("prepared %+v within %d, committed %+v, %v", s.prepared[0].Shares, s.limits, e.Shares, err)
	}
	New(NewMemory(), 1, wan()).Prepare(request("a", cl(1)))
}
