package accounting

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func conform(packets, bytes uint64) Usage { return Usage{Conform: Count{packets, bytes}} }

func info() Info { return Info{Dst: netip.MustParseAddr("239.1.2.3"), Dport: 5004} }

// look is one look at rows that show what the table says.
func look(b *Book, now time.Time, shows map[Row]Usage) {
	l := b.Begin()
	for i, r := range l.Rows {
		u, ok := shows[r]
		l.Counted[i], l.Missing[i] = u, !ok
	}
	b.Count(now, l)
}

// Draft section 7: the branches of a flow to a group are counted each by itself,
// and the reservation is one record.
func TestBranchesAreOneRecordDraftSection7(t *testing.T) {
	b := New(Limits{})
	one, two := testRow(0), testRow(1)
	b.Open(start, 1, "group", info())
	b.Open(start, 2, "group", info())
	b.Join(start, 1, one, testUser(0), Usage{})
	b.Join(start, 2, two, testUser(0), Usage{})
	look(b, start.Add(time.Second), map[Row]Usage{one: conform(1, 100), two: conform(2, 300)})
	b.Leave(start.Add(2*time.Second), one, conform(3, 500))
	if r := b.Close(start.Add(2*time.Second), 1, "left"); r != nil {
		t.Fatalf("ended with its first branch: %+v", r)
	}
	b.Leave(start.Add(5*time.Second), two, conform(2, 300))
	r := b.Close(start.Add(5*time.Second), 2, "left")
	if r == nil || r.Usage != conform(5, 800) || r.Duration(start) != 5*time.Second || len(r.Parts) != 2 {
		t.Fatalf("%+v", r)
	}
	if p := r.Parts[0]; p.Row != one || p.Usage != conform(3, 500) || p.End != start.Add(2*time.Second) {
		t.Errorf("%+v", p)
	}
	if p := r.Parts[1]; p.Row != two || p.Usage != conform(2, 300) || p.End != start.Add(5*time.Second) {
		t.Errorf("%+v", p)
	}
	u := b.Users(start.Add(5 * time.Second))
	if len(u) != 1 || u[0].Usage != conform(5, 800) || u[0].Running != 0 || u[0].Flows != 2 || u[0].Seconds != 7 {
		t.Errorf("%+v", u)
	}
}

// A row that shows less than before has begun anew: all of it is new.
func TestRowsThatBeginAnew(t *testing.T) {
	b := New(Limits{})
	r := testRow(0)
	b.Open(start, 1, "a", info())
	b.Join(start, 1, r, testUser(0), conform(7, 700)) // of before the reservation
	look(b, start.Add(time.Second), map[Row]Usage{r: conform(10, 1000)})
	look(b, start.Add(2*time.Second), map[Row]Usage{}) // it is not there for a while
	look(b, start.Add(3*time.Second), map[Row]Usage{r: conform(2, 200)})
	look(b, start.Add(4*time.Second), map[Row]Usage{r: {Conform: Count{2, 200}, Dropped: Count{1, 100}}})
	got := b.Running(start.Add(4 * time.Second))[0]
	if want := (Usage{Conform: Count{5, 500}, Dropped: Count{1, 100}}); got.Usage != want {
		t.Errorf("%+v, want %+v", got.Usage, want)
	}
}

// A row that goes from one reservation to the next, as when a style is changed:
// each has what passed in its time.
func TestSuccession(t *testing.T) {
	b := New(Limits{})
	r := testRow(0)
	b.Open(start, 1, "wf", info())
	b.Join(start, 1, r, testUser(0), Usage{})
	b.Open(start.Add(time.Second), 2, "ff", info())
	b.Join(start.Add(time.Second), 2, r, testUser(0), conform(4, 400))
	if !b.Has(2, r) || b.Has(1, r) {
		t.Error("the row has not changed hands")
	}
	old := b.Close(start.Add(2*time.Second), 1, "style changed")
	b.Leave(start.Add(3*time.Second), r, conform(9, 900))
	now := b.Close(start.Add(3*time.Second), 2, "left")
	if old.Usage != conform(4, 400) || now.Usage != conform(5, 500) || old.Serial != 1 || now.Serial != 2 {
		t.Errorf("%+v, %+v", old, now)
	}
}

// What is seen by a look that began before the row changed is of the past.
func TestStaleLook(t *testing.T) {
	b := New(Limits{})
	r := testRow(0)
	b.Open(start, 1, "a", info())
	b.Join(start, 1, r, testUser(0), Usage{})
	l := b.Begin()
	l.Counted[0] = conform(5, 500)
	b.Leave(start, r, conform(6, 600)) // the row goes, and comes again
	b.Join(start, 1, r, testUser(0), Usage{})
	b.Count(start.Add(time.Second), l)
	look(b, start.Add(time.Second), map[Row]Usage{r: conform(1, 100)})
	if got := b.Running(start)[0].Usage; got != conform(7, 700) {
		t.Errorf("%+v", got)
	}
}

// The peak is that of the worst second, of the reservation's and the user's flows
// together, and never that of less than a second. What was dropped was not carried.
func TestPeak(t *testing.T) {
	b := New(Limits{})
	one, two := testRow(0), testRow(1)
	b.Open(start, 1, "a", info())
	b.Join(start, 1, one, testUser(0), Usage{})
	b.Open(start, 2, "b", info())
	b.Join(start, 2, two, testUser(0), Usage{})
	at, shows := start, map[Row]Usage{}
	step := func(d time.Duration, first, second Usage) {
		at = at.Add(d)
		shows[one], shows[two] = shows[one].Plus(first), shows[two].Plus(second)
		look(b, at, shows)
	}
	step(0, Usage{}, Usage{})
	step(time.Second, conform(1, 1000), Usage{})
	step(2*time.Second, conform(1, 6000), conform(1, 1000)) // a look was late: 3000 a second
	step(100*time.Millisecond, conform(1, 2000), Usage{})   // too short to be a second
	step(time.Second, Usage{Dropped: Count{1, 90000}}, Usage{Exceed: Count{1, 2500}})
	peaks := func() (a, b2, u float64) {
		for _, r := range b.Running(at) {
			switch r.Parts[0].Row {
			case one:
				a = r.Peak
			case two:
				b2 = r.Peak
			}
		}
		return a, b2, b.Users(at)[0].Peak
	}
	p1, p2, pu := peaks()
	if p1 != 3000 || math.Abs(p2-2500/1.1) > 1 || math.Abs(pu-4500/1.1) > 1 {
		t.Errorf("%v, %v, %v", p1, p2, pu)
	}
	shows[one] = shows[one].Plus(conform(1, 5000))
	b.Leave(at.Add(time.Millisecond), one, shows[one])
	if r := b.Close(at.Add(time.Millisecond), 1, "short"); r.Peak != 5000 || r.Parts[0].Peak != 5000 {
		t.Errorf("a burst at the end: %v", r.Peak)
	}
}

// Ended records are kept until they are read; what there is no room for is counted.
func TestKeptUntilRead(t *testing.T) {
	b := New(Limits{Kept: 3})
	for i := range 5 {
		r := testRow(i)
		b.Open(start, uint64(i+1), fmt.Sprint(i), info())
		b.Join(start, uint64(i+1), r, testUser(i), Usage{})
		b.Leave(start, r, conform(1, uint64(100*(i+1))))
		b.Close(start, uint64(i+1), "left")
	}
	serials := func() (list []uint64) {
		for _, r := range b.Ended() {
			list = append(list, r.Serial)
		}
		return list
	}
	if got := serials(); !slices.Equal(got, []uint64{3, 4, 5}) {
		t.Fatalf("%v", got)
	}
	if got := b.Totals(); got.Lost != 2 || got.LostUsage != conform(2, 300) || got.Ended != 5 || got.Kept != 3 || got.Usage != conform(5, 1500) {
		t.Errorf("%+v", got)
	}
	if n := b.Strike(4); n != 2 || !slices.Equal(serials(), []uint64{5}) {
		t.Errorf("%d struck out, %v left", n, serials())
	}
	if n := b.Strike(4); n != 0 || b.Totals().Read != 2 {
		t.Errorf("again: %d, %+v", n, b.Totals())
	}
	b.Limit(0)
	if len(b.Ended()) != 0 || b.Totals().Lost != 3 {
		t.Errorf("%+v", b.Totals())
	}
}

// There is room for so many users; those who have nothing any more make room, and
// nobody's bytes are lost.
func TestUsersAreBounded(t *testing.T) {
	b := New(Limits{Users: 2})
	join := func(n int) {
		b.Open(start, uint64(n+1), fmt.Sprint(n), info())
		b.Join(start, uint64(n+1), testRow(n), testUser(n), Usage{})
	}
	leave := func(n int) {
		b.Leave(start, testRow(n), conform(1, uint64(100*(n+1))))
		b.Close(start, uint64(n+1), "left")
	}
	join(0)
	leave(0)
	join(1)
	join(2) // in the place of the first
	join(3) // no room
	leave(1)
	join(4) // in the place of the second
	leave(3)
	leave(2)
	leave(4)
	var text []string
	for _, s := range b.Users(start) {
		text = append(text, fmt.Sprint(s.Kind, " ", s.Name, " ", s.Usage.Conform.Bytes, " ", s.Running))
	}
	want := []string{"address 10.1.0.2 300 0", "address 10.1.0.4 500 0", "others  700 0"}
	if !slices.Equal(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
	if b.Totals().Folded != 3 {
		t.Errorf("%+v", b.Totals())
	}
}

// A process that starts again goes on with what it finds; what does not come again
// ends when it was last seen.
func TestForfeit(t *testing.T) {
	b := New(Limits{})
	for i := range 2 {
		b.Open(start, uint64(i+1), fmt.Sprint(i), info())
		b.Join(start, uint64(i+1), testRow(i), testUser(i), Usage{})
	}
	look(b, start.Add(time.Minute), map[Row]Usage{testRow(0): conform(1, 100), testRow(1): conform(2, 200)})
	data, err := b.Encode(start.Add(61 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Decode(data, Limits{}); err != nil {
		t.Fatal(err)
	}
	b.Open(start.Add(2*time.Minute), 7, "0", info())
	b.Join(start.Add(2*time.Minute), 7, testRow(0), testUser(0), conform(5, 500))
	list := b.Forfeit(start.Add(5*time.Minute), "it did not come again")
	if len(list) != 1 || list[0].Usage != conform(2, 200) || list[0].End != start.Add(time.Minute) || list[0].Serial != 1 {
		t.Fatalf("%+v", list)
	}
	r := b.Running(start.Add(5 * time.Minute))
	if len(r) != 1 || r[0].Usage != conform(5, 500) || !r[0].Begin.Equal(start) || len(r[0].Parts) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := `{"version":1,"last_serial":1,"totals":{"usage":{},"ended":1,"read":0,"lost":0,"lost_usage":{},"folded":0},"running":[],"ended":[],"users":[]}`
	if _, err := Decode([]byte(good), Limits{}); err != nil {
		t.Fatal(err)
	}
	record := `{"serial":%d,"info":{"dst":"10.0.0.1","protocol":17,"dport":1,"src":"10.0.0.2","style":"ff","service":"","dscp":0,"rate":1},"begin":"2026-11-26T08:00:00Z","usage":{},"peak":0,"parts":[]}`
	for want, data := range map[string]string{
		"version 2":             strings.Replace(good, `"version":1`, `"version":2`, 1),
		"not what this program": strings.Replace(good, `"running"`, `"walking"`, 1),
		"more than one":         good + good,
		"serial 2":              strings.Replace(good, `"ended":[]`, `"ended":[`+fmt.Sprintf(record, 2)+`]`, 1),
		"dst is missing":        strings.Replace(good, `"ended":[]`, `"ended":[`+strings.Replace(fmt.Sprintf(record, 1), "10.0.0.1", "", 1)+`]`, 1),
	} {
		if _, err := Decode([]byte(data), Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// FuzzDecode: whatever is in the file, what is taken from it is written down as it
// was.
func FuzzDecode(f *testing.F) {
	b := New(Limits{})
	b.Open(start, 1, "a", info())
	b.Join(start, 1, testRow(0), testUser(0), Usage{})
	b.Open(start, 2, "b", info())
	b.Join(start, 2, testRow(1), testUser(1), Usage{})
	b.Leave(start, testRow(1), conform(1, 100))
	b.Close(start, 2, "left")
	data, err := b.Encode(start)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Decode(data, Limits{})
		if err != nil {
			return
		}
		once, err := b.Encode(start)
		if err != nil {
			return // a date that JSON does not have
		}
		c, err := Decode(once, Limits{})
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		c.Forfeit(start, "over")
		for _, r := range c.Running(start) {
			t.Errorf("still running: %+v", r)
		}
	})
}

// What the log and the file do not have is known over a restart; a file from before
// that was kept has been told of whole.
func TestUntold(t *testing.T) {
	b := New(Limits{})
	for id := range uint64(4) {
		b.Open(start, id, fmt.Sprint(id), Info{Dst: netip.MustParseAddr("10.2.0.2")})
		b.Close(start, id, "over")
	}
	serials := func(b *Book) (list []uint64) {
		for _, r := range b.Untold() {
			list = append(list, r.Serial)
		}
		return list
	}
	if got := serials(b); len(got) != 4 {
		t.Errorf("%v", got)
	}
	b.Told(2)
	b.Told(1)
	b.Strike(3)
	data, err := b.Encode(start)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(data, Limits{})
	if err != nil || !slices.Equal(serials(again), []uint64{4}) {
		t.Fatalf("%v, %v", serials(again), err)
	}
	before := bytes.Replace(data, []byte(`"told":2,`), nil, 1)
	if again, err = Decode(before, Limits{}); err != nil || len(before) == len(data) || len(serials(again)) != 0 {
		t.Errorf("%v, %v", serials(again), err)
	}
	if _, err = Decode(bytes.Replace(data, []byte(`"told":2`), []byte(`"told":5`), 1), Limits{}); err == nil || !strings.Contains(err.Error(), "told is 5, above last_serial (4)") {
		t.Errorf("%v", err)
	}
	b.Told(9)
	if b.Open(start, 9, "next", Info{}); len(serials(b)) != 0 || b.Close(start, 9, "over") == nil || len(serials(b)) != 1 {
		t.Errorf("%v", serials(b))
	}
}
