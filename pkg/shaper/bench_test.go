package shaper

import (
	"sync"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// BenchmarkInstall is a reservation coming and going with a class of the pool.
func BenchmarkInstall(b *testing.B) {
	n := newNet(b)
	s := n.shaper(Options{})
	n.check(s.Set(b.Context(), plan20))
	for b.Loop() {
		if _, err := s.Install(b.Context(), voice); err != nil {
			b.Fatal(err)
		}
		if err := s.Remove(b.Context(), "qp0", voice.Key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInstallLevels is a reservation that comes and goes beside others of its
// service level, whose class gives way, or by DSCP grows.
func BenchmarkInstallLevels(b *testing.B) {
	for name, byDSCP := range map[string]bool{"by flow": false, "by DSCP": true} {
		b.Run(name, func(b *testing.B) {
			n := newNet(b)
			s := n.shaper(Options{})
			n.check(s.Set(b.Context(), sold(byDSCP)))
			tr := voice
			tr.DSCP, tr.Bucket = af31, 9000
			if byDSCP {
				tr.DSCP = 10 // whatever is bought is not changed
			}
			other := tr
			other.Key.SrcPort++
			_, err := s.Install(b.Context(), other)
			n.check(err)
			for b.Loop() {
				if _, err := s.Install(b.Context(), tr); err != nil {
					b.Fatal(err)
				}
				if err := s.Remove(b.Context(), "qp0", tr.Key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInstallChange changes a reservation's rate.
func BenchmarkInstallChange(b *testing.B) {
	n := newNet(b)
	s := n.shaper(Options{})
	n.check(s.Set(b.Context(), plan20))
	tr := voice
	for b.Loop() {
		tr.Rate = 30_000 - tr.Rate // 10 000 and 20 000 in turn
		if _, err := s.Install(b.Context(), tr); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInstallMany is a new flow, with a new class, beside all the others.
func BenchmarkInstallMany(b *testing.B) {
	n := newNet(b)
	s := n.shaper(Options{})
	n.check(s.Set(b.Context(), plan.Plan{Interfaces: []plan.Interface{{Name: "qp0", Capacity: 1e10}}}))
	tr := voice
	i := 0
	for b.Loop() {
		tr.Key.SrcPort, tr.Key.Src[0] = uint16(i), byte(i>>16)
		tr.Reserve = i < plan.DefaultPool
		i++
		if _, err := s.Install(b.Context(), tr); err != nil {
			b.Fatal(err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	n := newNet(t)
	s := n.shaper(Options{OnCrash: 4e6}) // renewed each millisecond
	n.check(s.Set(t.Context(), plan20))
	var wg sync.WaitGroup
	for worker := range 4 {
		tr := voice
		tr.Key.SrcPort = uint16(worker)
		wg.Go(func() {
			for range 50 {
				_, err := s.Install(t.Context(), tr)
				if err == nil {
					_, err = s.Counters("qp0", tr.Key)
				}
				if err == nil {
					_, err = s.AllCounters()
				}
				if err == nil {
					_, err = s.Classes(t.Context())
				}
				if err == nil {
					err = s.Remove(t.Context(), "qp0", tr.Key)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if p := s.ports["qp0"]; len(p.idle) > 4 || len(p.flows) != 0 {
		t.Errorf("%d idle classes, %d flows", len(p.idle), len(p.flows))
	}
}
