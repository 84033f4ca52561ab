package traffic

import "time"

// Interval is the width of a time series' buckets.
const Interval = 100 * time.Millisecond

// maxBuckets bounds a series to one hour; later bytes count into the last one.
const maxBuckets = int(time.Hour / Interval)

// Series holds bytes per Interval since the start of a measurement.
type Series []int64

func (s *Series) add(at time.Duration, n int) {
	bucket := min(max(int(at/Interval), 0), maxBuckets-1)
	for len(*s) <= bucket {
		*s = append(*s, 0)
	}
	(*s)[bucket] += int64(n)
}

// Bytes sums the series from one time to another, both rounded down to
// Interval.
func (s Series) Bytes(from, to time.Duration) int64 {
	var sum int64
	for i := max(0, int(from/Interval)); i < min(int(to/Interval), len(s)); i++ {
		sum += s[i]
	}
	return sum
}

// Rate is the mean rate between two times, bit/s. Time after the last byte
// counts as time without any.
func (s Series) Rate(from, to time.Duration) float64 {
	from, to = from.Truncate(Interval), to.Truncate(Interval)
	return bitsPerSecond(s.Bytes(from, to), to-from)
}
