package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

const af31 = 26 // RFC 2597

// slowly has the boxes of a row refresh only twice a minute, with RFC 2961: what
// comes back sooner was asked for.
func (l *lab) slowly(f family, onCrash string) (out []string) {
	for _, c := range l.threeBoxes("19mbit") {
		c = f.policies(c)
		c = strings.Replace(c, "refresh: 1s, reliable: false", "refresh: 30s, reliable: true", 1)
		out = append(out, strings.Replace(c, "on_crash: 5s", "on_crash: "+onCrash, 1))
	}
	return out
}

// reserved reads what a box's link has granted, in bit/s.
func (b *box) reserved(t *testing.T, iface string) uint64 {
	t.Helper()
	links, err := b.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return linkRow(links, iface).ReservedBPS
}

// Boxes of a row are killed and come back, the middle one and the edges: the
// reserved flow keeps its marking and its class, the ledger counts it at all
// times, and its session is there again long before the next refresh (RFC 5063
// sections 4.5.1 and 4.5.2.2).
func TestKilledBoxRecovers(t *testing.T) { overBoth(t, killedBoxRecovers) }

func killedBoxRecovers(t *testing.T, f family) {
	l := newLab(t, 3, nil)
	l.watch(t, leftWAN, rightWAN)
	configs := l.slowly(f, "20s")
	l.startAll(t, configs...)
	onWire := capture(t, l.boxes[1].ns, rightWAN, toPort(portVoice))
	end := l.callOver(t, f, portVoice, 60*time.Second)
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
	}
	time.Sleep(200 * time.Millisecond) // what was on its way when it was reserved
	before := heardSo(t, onWire)
	for _, i := range []int{1, 0, 2} {
		b := l.boxes[i]
		b.kill(t)
		b.start(t, configs[i])
		begin := time.Now()
		if i < 2 && b.reserved(t, rightWAN) != f.voiceRate() {
			t.Errorf("%s comes back and grants %d bit/s, want %d", b.name, b.reserved(t, rightWAN), f.voiceRate())
		}
		eventually(t, 10*time.Second, b.name+": its session", func() error {
			if i < 2 {
				if got := b.reserved(t, rightWAN); got != f.voiceRate() {
					t.Fatalf("%s grants %d bit/s meanwhile", b.name, got)
				}
			}
			rows, err := b.Sessions(t.Context())
			if err == nil && (len(rows) != 1 || rows[0].State != console.SessionReserved) {
				err = fmt.Errorf("sessions %+v", rows)
			}
			return err
		})
		t.Logf("%s has its session again %s after its start", b.name, time.Since(begin).Round(10*time.Millisecond))
		if st, err := b.Stats(t.Context()); err != nil || i < 2 && st.Shaper.ClassesUsed != 1 {
			t.Errorf("%s: shaper %+v, %v; want one class in use", b.name, st.Shaper, err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	// The middle box has no policy: it marks as its mapping says.
	if wrong, all := unmarked(t, onWire, before, af31); wrong > 0 || all < 50 {
		t.Errorf("%d of %d voice packets went unmarked", wrong, all)
	}
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
	}
	end().check(t)
}

// What nobody claims is counted until on_crash has passed, and then it is gone:
// from the ledger and from the kernel (RFC 5063 section 4.5.2.3).
func TestUnclaimedReservationEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.watch(t, leftWAN, rightWAN)
	configs := l.slowly(ipv4, "6s")
	l.startAll(t, configs...)
	end := l.talk(t, portVoice, 20*time.Second)
	b := l.boxes[1]
	b.waitSession(t, portVoice, console.SessionReserved)
	for _, b := range l.boxes {
		b.kill(t) // nobody is there to tell
	}
	b.start(t, configs[1])
	if got := b.reserved(t, rightWAN); got != 80_000 {
		t.Errorf("%d bit/s are counted for what is still in the kernel, want 80000", got)
	}
	if st, err := b.Stats(t.Context()); err != nil || st.Shaper.ClassesUsed != 1 {
		t.Errorf("shaper %+v, %v", st.Shaper, err)
	}
	eventually(t, 20*time.Second, "it ends", func() error {
		st, err := b.Stats(t.Context())
		if got := b.reserved(t, rightWAN); err == nil && (got != 0 || st.Shaper.ClassesUsed != 0) {
			err = fmt.Errorf("%d bit/s, shaper %+v", got, st.Shaper)
		}
		return err
	})
	end()
}
