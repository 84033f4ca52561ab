package admission

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func sum(t rapid.TB, l Ledger, a Account) int64 {
	t.Helper()
	n, err := l.Sum(a)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLedgerAccounts: whatever is committed, changed, moved and removed, each
// account holds exactly the shares of the entries that are there, only one that
// an entry grows in is in its way, and no commit has an account pass its limit.
// What is added can be taken away exactly.
func TestLedgerAccounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkAccounts(t, NewMemory()) })
}

func checkAccounts(t *rapid.T, l Ledger) {
	model := map[ID]Entry{}
	total := func(a Account, but ID) (n int64) {
		for id, e := range model {
			if id != but {
				n += e.of(a)
			}
		}
		return n
	}
	links := []string{"wan0", "wan1"}
	for range rapid.IntRange(1, 80).Draw(t, "steps") {
		id := ID(fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "id")))
		if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
			got, ok, err := l.Remove(id)
			if _, had := model[id]; ok != had || err != nil || ok && got.ID != id {
				t.Fatalf("remove %s: %+v, %v, %v", id, got, ok, err)
			}
			delete(model, id)
		} else {
			commitOne(t, l, model, total, drawEntry(t, id, rapid.SampledFrom(links).Draw(t, "link")))
		}
		for _, link := range links {
			checkUsage(t, l, model, link)
		}
		for _, a := range drawable(links) {
			if got, want := sum(t, l, a), total(a, ""); got != want {
				t.Fatalf("%s holds %d, its entries sum up to %d", a, got, want)
			}
		}
		if l.Len() != len(model) {
			t.Fatalf("%d entries, want %d", l.Len(), len(model))
		}
	}
	for id := range model {
		if _, ok, err := l.Remove(id); !ok || err != nil {
			t.Fatal(id, ok, err)
		}
	}
	for _, a := range drawable(links) {
		if n := sum(t, l, a); n != 0 {
			t.Fatalf("%s holds %d of nobody", a, n)
		}
	}
}

// drawable are the accounts that entries are drawn from.
func drawable(links []string) (list []Account) {
	for _, l := range links {
		list = append(list, LinkAccount(l))
		for level := range uint8(3) {
			list = append(list, LevelAccount(l, level))
		}
	}
	return append(list, "user/alice", "user/bob")
}

func drawEntry(t *rapid.T, id ID, link string) Entry {
	amount := rapid.Int64Range(0, 50)
	e := Entry{ID: id, Link: link, Burst: amount.Draw(t, "burst"), Shares: []Share{{LinkAccount(link), amount.Draw(t, "amount")}}}
	for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom(drawable([]string{link})[1:]), 0, 3, rapid.ID[Account]).Draw(t, "accounts") {
		e.Shares = append(e.Shares, Share{a, amount.Draw(t, "amount")})
	}
	return e
}

// commitOne commits an entry with limits that are drawn, and holds the answer
// against the model.
func commitOne(t *rapid.T, l Ledger, model map[ID]Entry, total func(Account, ID) int64, e Entry) {
	old := model[e.ID]
	limits := make([]int64, len(e.Shares))
	want, fits := Short{}, true
	for i, s := range e.Shares {
		limits[i] = rapid.OneOf(rapid.Int64Range(0, 120), rapid.Just[int64](noLimit)).Draw(t, "limit")
		used := total(s.Account, e.ID)
		if fits && s.Amount > old.of(s.Account) && used+s.Amount > limits[i] {
			want, fits = Short{s.Account, used}, false
		}
	}
	short, ok, err := l.Commit(e, limits)
	if err != nil || ok != fits || short != want {
		t.Fatalf("commit %+v with limits %v: %+v, %v, %v; want %+v, %v", e, limits, short, ok, err, want, fits)
	}
	if !ok {
		return
	}
	model[e.ID] = e
	for i, s := range e.Shares {
		if n := sum(t, l, s.Account); n > limits[i] && s.Amount > old.of(s.Account) {
			t.Fatalf("%s holds %d, more than its limit of %d", s.Account, n, limits[i])
		}
	}
}

func checkUsage(t *rapid.T, l Ledger, model map[ID]Entry, link string) {
	var want Usage
	for _, e := range model {
		if e.Link == link {
			want = want.plus(e, 1)
		}
	}
	if got, err := l.Usage(link); err != nil || got != want {
		t.Fatalf("%s: %+v, %v; want %+v", link, got, err, want)
	}
	list, err := l.Entries(link)
	if err != nil || len(list) != want.Reservations {
		t.Fatalf("%s: %d entries, %v; want %d", link, len(list), err, want.Reservations)
	}
}

// TestLedgerRefusesNonsense: an entry whose shares cannot be taken away again
// exactly is an error, and changes nothing.
func TestLedgerRefusesNonsense(t *testing.T) {
	for name, tc := range map[string]struct {
		shares []Share
		limits []int64
	}{
		"an account twice":      {[]Share{{"wan0", 1}, {"wan0", 2}}, []int64{9, 9}},
		"less than nothing":     {[]Share{{"wan0", -1}}, []int64{9}},
		"so much that it wraps": {[]Share{{"wan0", maxUnits + 1}}, []int64{noLimit}},
		"a limit missing":       {[]Share{{"wan0", 1}, {"user/alice", 1}}, []int64{9}},
	} {
		m := NewMemory()
		if _, ok, err := m.Commit(Entry{ID: "a", Link: "wan0", Shares: tc.shares}, tc.limits); ok || err == nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if m.Len() != 0 || sum(t, m, "wan0") != 0 {
			t.Errorf("%s: %d entries, %d on wan0", name, m.Len(), sum(t, m, "wan0"))
		}
	}
}

// TestControlCountsServiceAndLevel: each reservation is in the accounts of its
// link, its service and its level, and changes between levels exactly.
func TestControlCountsServiceAndLevel(t *testing.T) {
	m := NewMemory()
	c := New(m, 100, wan())
	at := func(id ID, level uint8, f intserv.FlowSpec) Request {
		r := request(id, f)
		r.Level = level
		return r
	}
	for _, r := range []Request{at("a", 26, cl(1e5)), at("b", 26, cl(1e5)), at("v", 46, gs(1e5, 2e5))} {
		if d := c.Admit(r); !d.Admitted {
			t.Fatalf("%+v", d)
		}
	}
	check := func(want map[Account]int64) {
		t.Helper()
		for a, n := range want {
			if got := sum(t, m, a); got != n {
				t.Errorf("%s holds %d, want %d", a, got, n)
			}
		}
	}
	check(map[Account]int64{
		"wan0": 4e5, "wan0/level/af31": 2e5, "wan0/level/ef": 2e5, "wan0/service/controlled-load": 2e5, "wan0/service/guaranteed": 2e5,
	})
	if d := c.Admit(at("a", 18, cl(1e5))); !d.Admitted {
		t.Fatalf("%+v", d)
	}
	check(map[Account]int64{"wan0": 4e5, "wan0/level/af31": 1e5, "wan0/level/af21": 1e5})
	if err := c.Hold(at("held", 26, cl(1e6))); err != nil {
		t.Fatal(err)
	}
	check(map[Account]int64{"wan0": 14e5, "wan0/level/af31": 11e5})
	for _, id := range []ID{"a", "b", "v", "held"} {
		if ok, err := c.Release(id); !ok || err != nil {
			t.Fatal(id, ok, err)
		}
	}
	check(map[Account]int64{"wan0": 0, "wan0/level/af31": 0, "wan0/level/af21": 0, "wan0/level/ef": 0, "wan0/service/guaranteed": 0})
}
