package integrity

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWindowRFC2747Section4_2: valid is what is above the maximum, or inside the
// window and not in the list.
func TestWindowRFC2747Section4_2(t *testing.T) {
	for _, tc := range []struct {
		size int
		in   []uint64
		want []bool
	}{
		{1, []uint64{5, 5, 6, 5, 9, 8}, []bool{true, false, true, false, true, false}},
		{3, []uint64{5, 9, 7, 7, 8, 6, 7, 10, 8, 9}, []bool{true, true, true, false, true, false, false, true, false, false}},
		// Below the lower end.
		{3, []uint64{5, 4}, []bool{true, false}},
		// Modulo 2^64.
		{2, []uint64{1<<64 - 2, 1, 1<<64 - 1, 1<<64 - 1, 0}, []bool{true, true, true, false, true}},
	} {
		var w window
		for i, seq := range tc.in {
			if got := w.accept(seq, tc.size); got != tc.want[i] {
				t.Errorf("window %d, %v: number %d (%d): %v", tc.size, tc.in, i, seq, got)
			}
		}
	}
}

// TestWindowProperty against a model that keeps everything: nothing is accepted
// twice, all that is new and no further back than the window is accepted.
func TestWindowProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		base := rapid.SampledFrom([]uint64{0, 1 << 63, 1<<64 - 20}).Draw(t, "base")
		var w window
		w.start(base)
		accepted := []uint64{0}
		for _, rel := range rapid.SliceOfN(rapid.Uint64Range(0, 40), 1, 80).Draw(t, "numbers") {
			slices.Sort(accepted)
			floor := accepted[max(0, len(accepted)-size)]
			want := rel > floor && !slices.Contains(accepted, rel)
			if got := w.accept(base+rel, size); got != want {
				t.Fatalf("%d with %v accepted: %v", rel, accepted, got)
			}
			if want {
				accepted = append(accepted, rel)
			}
			if w.latest() != base+slices.Max(accepted) || len(w.seen) > size {
				t.Fatalf("window %v", w.seen)
			}
		}
	})
}

// TestSequenceRFC2747Section3: unique and increasing modulo 2^64, whatever the
// clock does; after a restart too, as long as the clock went on.
// RFC 2747 section 3.2: by the clock.
func TestSequenceRFC2747Section3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := &key{Key: testKey()}
		now, high := start, start
		last := k.next(now)
		for _, step := range rapid.SliceOf(rapid.Int64Range(-1e9, 2e9)).Draw(t, "steps") {
			now = now.Add(time.Duration(step))
			if now.After(high) {
				high = now
			}
			seq := k.next(now)
			if !after(seq, last) {
				t.Fatalf("%d follows %d", seq, last)
			}
			last = seq
		}
		again := &key{Key: testKey()}
		if seq := again.next(high.Add(time.Second)); !after(seq, last) {
			t.Fatalf("after a restart %d follows %d", seq, last)
		}
	})
}

// TestSequenceEra: NTP time rolls over in 2036, the order stays.
func TestSequenceEra(t *testing.T) {
	k := &key{Key: testKey()}
	roll := time.Unix(1<<32-2208988800, 0)
	if before, then := k.next(roll.Add(-time.Second)), k.next(roll); then != 0 || !after(then, before) {
		t.Errorf("%d, %d", before, then)
	}
}

// TestRestoreSequencesRFC2747Section3_1: stable storage helps when the clock was
// set back over the restart.
func TestRestoreSequencesRFC2747Section3_1(t *testing.T) {
	a, b := link(t, Config{}), link(t, Config{})
	take(t, b, start, signed(t, a, start, tear(t, alice, 1)), None)
	saved := a.LastSequences()
	back := start.Add(-time.Hour)
	take(t, b, back, signed(t, link(t, Config{}), back, tear(t, alice, 1)), Replayed)
	a = link(t, Config{})
	a.RestoreSequences(saved)
	take(t, b, back, signed(t, a, back, tear(t, alice, 1)), None)
	a.RestoreSequences(map[uint64]uint64{testKey().ID: 1})
	take(t, b, back, signed(t, a, back, tear(t, alice, 1)), None)
}
