package accounting

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var start = time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)

func testRow(n int) Row {
	return Row{
		Interface: fmt.Sprintf("wan%d", n%2),
		Key:       packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(n)}), 4000), netip.MustParseAddrPort("239.1.2.3:5004")),
	}
}

func testUser(n int) User { return User{Kind: ByAddress, Name: fmt.Sprintf("10.1.0.%d", n)} }

// model is the truth: who has a row when a packet passes is who pays for it.
type model struct {
	kernel map[Row]*Usage // rows that are there, and what they show
	holder map[Row]uint64
	user   map[Row]User
	key    map[uint64]string
	used   map[string]Usage // of the reservation that runs now
	users  map[User]Usage
	all    Usage
	ended  []Usage
}

// TestPropertyNothingIsCountedTwiceOrLost compares the book with a model over
// random packets, looks that take their time, rows that change hands, go and come
// again from nothing, reservations with several branches and senders, restarts of
// the process, and readers.
func TestPropertyNothingIsCountedTwiceOrLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Kept: 1000, Users: 100, Parts: rapid.IntRange(1, 4).Draw(t, "parts")}
		b := New(limits)
		now := start
		m := model{kernel: map[Row]*Usage{}, holder: map[Row]uint64{}, user: map[Row]User{}, key: map[uint64]string{}, used: map[string]Usage{}, users: map[User]Usage{}}
		lastID := uint64(0)
		var looks []*Look
		show := func(r Row) Usage {
			if u := m.kernel[r]; u != nil {
				return *u
			}
			return Usage{}
		}
		leave := func(r Row) {
			b.Leave(now, r, show(r))
			delete(m.holder, r)
		}
		end := func(id uint64) {
			for r, h := range m.holder {
				if h == id {
					leave(r)
				}
			}
			key := m.key[id]
			delete(m.key, id)
			last := true
			for _, k := range m.key {
				last = last && k != key
			}
			got := b.Close(now, id, "test")
			if (got != nil) != last {
				t.Fatalf("close %d of %s: %+v", id, key, got)
			}
			if !last {
				return
			}
			if diff := cmp.Diff(m.used[key], got.Usage); diff != "" {
				t.Fatalf("record of %s (-model +got):\n%s", key, diff)
			}
			m.ended = append(m.ended, m.used[key])
			delete(m.used, key)
		}
		anyID := func() (uint64, bool) {
			for id := lastID; id > 0; id-- {
				if m.key[id] != "" && rapid.Bool().Draw(t, "this one") {
					return id, true
				}
			}
			return 0, false
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			r := testRow(rapid.IntRange(0, 5).Draw(t, "row"))
			switch rapid.SampledFrom([]string{"packets", "packets", "packets", "open", "join", "join", "leave", "gone", "close", "begin", "count", "restart"}).Draw(t, "what") {
			case "packets":
				if m.kernel[r] == nil {
					m.kernel[r] = &Usage{}
				}
				n := Count{uint64(rapid.IntRange(1, 5).Draw(t, "packets")), uint64(rapid.IntRange(100, 900).Draw(t, "bytes"))}
				u := []Usage{{Conform: n}, {Exceed: n}, {Dropped: n}}[rapid.IntRange(0, 2).Draw(t, "kind")]
				*m.kernel[r] = m.kernel[r].Plus(u)
				if id, ok := m.holder[r]; ok {
					m.used[m.key[id]] = m.used[m.key[id]].Plus(u)
					m.users[m.user[r]] = m.users[m.user[r]].Plus(u)
					m.all = m.all.Plus(u)
				}
			case "open":
				lastID++
				key := fmt.Sprint("session ", rapid.IntRange(0, 2).Draw(t, "key"))
				m.key[lastID] = key
				b.Open(now, lastID, key, Info{Dst: netip.MustParseAddr("239.1.2.3")})
			case "join":
				id, ok := anyID()
				if !ok {
					continue
				}
				u := testUser(rapid.IntRange(0, 3).Draw(t, "user"))
				b.Join(now, id, r, u, show(r))
				m.holder[r], m.user[r] = id, u
			case "leave":
				leave(r)
			case "gone": // the row is removed, its last counts are told
				leave(r)
				delete(m.kernel, r)
			case "close":
				if id, ok := anyID(); ok {
					end(id)
				}
			case "begin":
				l := b.Begin()
				for i, r := range l.Rows {
					l.Counted[i], l.Missing[i] = show(r), m.kernel[r] == nil && rapid.Bool().Draw(t, "missing")
				}
				looks = append(looks, l)
			case "count": // the looks may end in any order, long after
				if len(looks) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(looks)-1).Draw(t, "look")
				b.Count(now, looks[i])
				looks = append(looks[:i], looks[i+1:]...)
			case "restart": // the kernel goes on counting, the reservations come again
				b = restarted(t, b, now, limits, &m)
				looks = nil
			}
		}
		check(t, b, now, &m)
		for id := range m.key {
			end(id)
		}
		check(t, b, now, &m)
		var got []Usage
		for _, r := range b.Ended() {
			got = append(got, r.Usage)
		}
		if diff := cmp.Diff(m.ended, got); diff != "" {
			t.Fatalf("ended records (-model +got):\n%s", diff)
		}
	})
}

// restarted is the process that comes after one that wrote its book down and died.
func restarted(t *rapid.T, b *Book, now time.Time, limits Limits, m *model) *Book {
	data, err := b.Encode(now)
	if err != nil {
		t.Fatal(err)
	}
	b, err = Decode(data, limits)
	if err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	for id, key := range m.key {
		b.Open(now, id, key, Info{Dst: netip.MustParseAddr("239.1.2.3")})
	}
	for r, id := range m.holder {
		u := Usage{}
		if m.kernel[r] != nil {
			u = *m.kernel[r]
		}
		b.Join(now, id, r, m.user[r], u)
	}
	if list := b.Forfeit(now, "gone"); len(list) != 0 {
		t.Fatalf("forfeited %+v", list)
	}
	return b
}

func check(t *rapid.T, b *Book, now time.Time, m *model) {
	l := b.Begin()
	for i, r := range l.Rows {
		if m.kernel[r] != nil {
			l.Counted[i] = *m.kernel[r]
		}
	}
	b.Count(now, l)
	if got := b.Totals().Usage; got != m.all {
		t.Fatalf("totals %+v, model %+v", got, m.all)
	}
	got, want := map[User]Usage{}, map[User]Usage{}
	for _, s := range b.Users(now) {
		if s.Usage != (Usage{}) {
			got[s.User] = s.Usage
		}
	}
	for u, n := range m.users {
		if n != (Usage{}) {
			want[u] = n
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("users (-model +got):\n%s", diff)
	}
	sum := Usage{}
	for _, r := range b.Running(now) {
		sum = sum.Plus(r.Usage)
		parts := Usage{}
		for _, p := range r.Parts {
			parts = parts.Plus(p.Usage)
		}
		if r.More == 0 && parts != r.Usage {
			t.Fatalf("the parts of a record are %+v, the record %+v", parts, r.Usage)
		}
	}
	want2 := Usage{}
	for _, u := range m.used {
		want2 = want2.Plus(u)
	}
	if sum != want2 {
		t.Fatalf("running records %+v, model %+v", sum, want2)
	}
	data, err := b.Encode(now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(data, b.limits)
	if err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	if diff := cmp.Diff(b.Ended(), again.Ended(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("ended records after a restart:\n%s", diff)
	}
}
