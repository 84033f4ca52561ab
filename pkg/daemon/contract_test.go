package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// sold is testConfig with an SLS table on the network's side.
func sold(rows string) string {
	return strings.Replace(testConfig, "capacity: 19mbit", "capacity: 19mbit, sls: ["+rows+"]", 1)
}

const voiceRow = "{class: voice-admit, rate: 80kbit, burst: 400B}, {class: af21, rate: 1mbit, burst: 9kB}, "

func parse(t testing.TB, file string) *config.Config {
	t.Helper()
	c, err := config.Parse("box.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// linksOf are the test's two links as a configuration has them.
func linksOf(r rig, c *config.Config) *links {
	list := slices.Clone(r.links().list)
	for i := range list {
		list[i].cfg = c.Interfaces[i]
	}
	return newLinks(list)
}

func day(h, m int) time.Time { return time.Date(2027, 1, 1, h, m, 0, 0, time.Local) }

// RFC 2998 section 4.1.1, steps 8 and 9: what does not fit its service level is
// refused by error 1 value 2 (RFC 2205 Appendix B), with the figures.
func TestReservationOverItsLevelRFC2998Section4_1(t *testing.T) {
	r := controlOf(t, sold(voiceRow+"{class: af31, rate: 8mbit, burst: 128kB}"))
	if refusal := r.Reserve(request(1, 6e5)); refusal != nil {
		t.Fatal(refusal)
	}
	refusal := r.Reserve(request(2, 6e5))
	if refusal == nil || refusal.Code != wire.ErrAdmission || refusal.Value != wire.AdmissionBandwidth ||
		refusal.Text != "service level af31 of wan0 has 400000 of 1000000 bytes/s left, asked for are 600000" {
		t.Errorf("%+v", refusal)
	}
	if refusal := r.Reserve(named(3, byEF, wan)); refusal == nil || refusal.Value != wire.AdmissionBandwidth || !strings.Contains(refusal.Text, "no service level ef") {
		t.Errorf("%+v", refusal)
	}
	if len(r.fake.have) != 1 {
		t.Errorf("treatments %+v", r.fake.have)
	}
}

// A reload that takes a level away, or makes it smaller, disturbs no reservation;
// one that makes it larger lets more in.
func TestReloadOfLevelsDisturbsNoReservation(t *testing.T) {
	r := controlOf(t, sold(voiceRow+"{class: af31, rate: 8mbit, burst: 128kB}"))
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	installs := r.fake.installs
	for _, rows := range []string{"{class: af31, rate: 9mbit, burst: 128kB}", "{class: af31, rate: 8mbit, burst: 65kB}", "{class: af31, rate: 10mbit, burst: 1MB, from: 00:00, until: 24:00}"} {
		if err := r.admit.SetLinks(linksOf(r, parse(t, sold(voiceRow+rows))).admission(day(12, 0))...); err != nil {
			t.Fatal(err)
		}
		r.reprogramAll(t.Context())
		if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
			t.Errorf("%s: a refresh: %v", rows, refusal)
		}
		if n := counted(t, r, "wan0/level/af31"); n != 1e6 {
			t.Errorf("%s: %d", rows, n)
		}
	}
	if r.fake.installs != installs {
		t.Errorf("the kernel was changed %d times", r.fake.installs-installs)
	}
	if refusal := r.Reserve(request(2, 2e5)); refusal != nil {
		t.Errorf("the level has grown: %v", refusal)
	}
}

// Levels follow the time of day, without a reload and without disturbing what is
// reserved.
func TestLevelsFollowTheClock(t *testing.T) {
	file := sold(voiceRow + "{class: af31, rate: 8mbit, burst: 128kB, from: 08:00, until: 20:00}")
	r := controlOf(t, file)
	d := &Daemon{log: zap.NewNop(), admit: r.admit}
	d.cfg.Store(parse(t, file))
	d.links.Store(r.links())
	d.setLevels(day(8, 0))
	if refusal := r.Reserve(request(1, 5e5)); refusal != nil {
		t.Fatal(refusal)
	}
	d.setLevels(day(20, 0))
	if refusal := r.Reserve(request(2, 1e5)); refusal == nil || refusal.Code != wire.ErrAdmission || !strings.Contains(refusal.Text, "nothing at this time of day") {
		t.Errorf("at 20:00: %+v", refusal)
	}
	if refusal := r.Reserve(request(1, 5e5)); refusal != nil {
		t.Errorf("what is reserved: %v", refusal)
	}
	d.setLevels(day(7, 59).AddDate(0, 0, 1))
	if refusal := r.Reserve(request(2, 1e5)); refusal == nil {
		t.Error("at 07:59 a reservation was admitted")
	}
	d.setLevels(day(8, 0).AddDate(0, 0, 1))
	if refusal := r.Reserve(request(2, 1e5)); refusal != nil {
		t.Errorf("at 08:00: %v", refusal)
	}
}

func TestTimeOfDay(t *testing.T) {
	for _, tc := range []struct {
		now  time.Time
		want time.Duration
	}{
		{day(0, 0), 0},
		{day(8, 30), 8*time.Hour + 30*time.Minute},
		{day(8, 30).Add(1500 * time.Millisecond), 8*time.Hour + 30*time.Minute + 1500*time.Millisecond},
		{day(8, 30).UTC(), 8*time.Hour + 30*time.Minute},
	} {
		if got := timeOfDay(tc.now); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.now, got, tc.want)
		}
	}
}

// At each minute of the day a table has what the row has that is in force then, and
// from one look at the clock to the next nothing changes.
func TestLevelsAtEachMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hour := rapid.IntRange(0, 23)
		a, b := time.Duration(hour.Draw(t, "a"))*time.Hour, time.Duration(hour.Draw(t, "b"))*time.Hour+time.Minute
		sls := []config.ServiceLevel{
			{Class: dscp.AF31, Rate: 1, Burst: 1, From: a, Until: b},
			{Class: dscp.EF, Rate: 5, Burst: 5, Until: 24 * time.Hour},
			{Class: dscp.AF31, Rate: 2, Burst: 2, From: b, Until: a},
		}
		if rapid.Bool().Draw(t, "a gap") {
			sls = sls[:2]
		}
		for now := time.Duration(0); now < 24*time.Hour; {
			got := levelsAt(sls, now)
			if len(got) != 2 || got[1] != (admission.Level{DSCP: dscp.EF, Rate: 5, Burst: 5}) {
				t.Fatalf("at %v: %+v", now, got)
			}
			want := admission.Level{DSCP: dscp.AF31, Closed: true}
			for _, s := range sls {
				if s.Class == dscp.AF31 && s.At(now) {
					want = admission.Level{DSCP: s.Class, Rate: float64(s.Rate), Burst: float64(s.Burst)}
				}
			}
			if got[0] != want {
				t.Fatalf("at %v: %+v, want %+v", now, got[0], want)
			}
			next := nextChange(sls, now)
			if next <= 0 || next > lookAgain {
				t.Fatalf("at %v: the next look is in %v", now, next)
			}
			if last := levelsAt(sls, now+next-1); now+next < 24*time.Hour && !slices.Equal(last, got) {
				t.Fatalf("between %v and %v it changed: %+v, %+v", now, now+next, got, last)
			}
			now += next
		}
	})
}

// What `check` takes for the largest queue is the shaper's.
func TestCheckKnowsTheQueue(t *testing.T) {
	if config.MaxQueued != plan.MostQueued {
		t.Errorf("%d, the shaper has %d", config.MaxQueued, plan.MostQueued)
	}
}

// Senders that share a reservation and have different policies: all of them may
// send all of it, in each one's level.
func TestLevelsOfSendersThatShare(t *testing.T) {
	file := strings.Replace(testConfig, "policies:\n", "policies:\n  - {name: other, match: {protocol: tcp, from_port: 4001, to_port: 104}, reserve: {tspec: {rate: 8mbit, burst: 64kB}}, mark: af11}\n", 1)
	r := controlOf(t, file)
	for i := range 2 {
		r.syn(t, i)
	}
	if refusal := r.Reserve(sharedRequest(1, wire.SE, 1e6, 0, 1)); refusal != nil {
		t.Fatal(refusal)
	}
	for a, want := range map[admission.Account]int64{"wan0": 1e6, "wan0/level/af31": 1e6, "wan0/level/af11": 1e6, "wan0/service/controlled-load": 1e6} {
		if n := counted(t, r, a); n != want {
			t.Errorf("%s has %d, want %d", a, n, want)
		}
	}
	for i, want := range []uint8{dscp.AF31, dscp.AF11} {
		if got := r.fake.have[imagingSender(i)].DSCP; got != want {
			t.Errorf("sender %d is marked %d, want %d", i, got, want)
		}
	}
	if refusal := r.Reserve(sharedRequest(1, wire.SE, 1e6, 0)); refusal != nil {
		t.Fatal(refusal)
	}
	if n := counted(t, r, "wan0/level/af11"); n != 0 {
		t.Errorf("%d left of the sender that has gone", n)
	}
}

// RFC 2205 section 3.11.2: a change that the kernel refuses leaves the ledger as it
// was, even if the level has shrunk meanwhile.
func TestFailedChangeLeavesItsLevel(t *testing.T) {
	r := controlOf(t, sold(voiceRow+"{class: af31, rate: 8mbit, burst: 128kB}"))
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.admit.SetLevels("wan0", []admission.Level{{DSCP: dscp.AF31, Closed: true}})
	r.fake.fail = fmt.Errorf("no memory")
	if refusal := r.Reserve(request(1, 5e5)); refusal == nil || refusal.Code != wire.ErrTCSystem {
		t.Fatalf("%+v", refusal)
	}
	if n := counted(t, r, "wan0/level/af31"); n != 1e6 {
		t.Errorf("%d, want what was reserved", n)
	}
}

// What is told of the rest of a link is no more than its levels have left.
func TestRestIsThatOfTheLevels(t *testing.T) {
	r := controlOf(t, sold(voiceRow+"{class: af31, rate: 8mbit, burst: 128kB}"))
	r.admit.SetLevels("wan0", []admission.Level{{DSCP: dscp.AF31, Rate: 5e5, Burst: 1e5}})
	if got := r.rest(wan); got > 5e5 || got < 5e5-float64(r.links().byIndex[wan].cfg.Reservable)/steps {
		t.Errorf("%v, want about half a million", got)
	}
	if got := r.rest(lan); got != 0 {
		t.Errorf("%v of an interface that is not shaped", got)
	}
}
