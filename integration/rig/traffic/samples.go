package traffic

import (
	"slices"
	"time"
)

// maxSamples bounds the memory of one distribution (8 MB).
const maxSamples = 1 << 20

// Distribution of a time. All are 0 when nothing was measured.
type Distribution struct {
	Count int           `json:"count"`
	Min   time.Duration `json:"min_ns"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"` // 99.9 %
	P9999 time.Duration `json:"-"`       // 99.99 %, of those who measure for so long
	Max   time.Duration `json:"max_ns"`
	Mean  time.Duration `json:"mean_ns"`
}

// samples collects times. Beyond maxSamples it keeps every second of them, then
// every fourth and so on, so that all parts of a long run weigh the same.
type samples struct {
	kept   []time.Duration
	stride int
	skip   int

	count    int
	sum      time.Duration
	min, max time.Duration
}

func (s *samples) add(d time.Duration) {
	if s.count == 0 || d < s.min {
		s.min = d
	}
	if s.count == 0 || d > s.max {
		s.max = d
	}
	s.count++
	s.sum += d
	if s.skip > 0 {
		s.skip--
		return
	}
	if len(s.kept) == maxSamples {
		for i := range maxSamples / 2 {
			s.kept[i] = s.kept[2*i]
		}
		s.kept = s.kept[:maxSamples/2]
		s.stride = max(1, s.stride) * 2
	}
	s.kept = append(s.kept, d)
	s.skip = max(1, s.stride) - 1
}

// distribution sorts what was collected.
func (s *samples) distribution() Distribution {
	if s.count == 0 {
		return Distribution{}
	}
	slices.Sort(s.kept)
	return Distribution{
		Count: s.count,
		Min:   s.min,
		P50:   quantile(s.kept, 0.50),
		P99:   quantile(s.kept, 0.99),
		P999:  quantile(s.kept, 0.999),
		P9999: quantile(s.kept, 0.9999),
		Max:   s.max,
		Mean:  s.sum / time.Duration(s.count),
	}
}

// quantile returns the smallest value that at least a share q of all does not
// exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	index := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(index, 0), len(sorted)-1)]
}
