package accounting

import "time"

// window is what a peak rate is measured over, at least.
const window = time.Second

// meter adds up usage, and finds the peak.
type meter struct {
	usage Usage
	peak  float64
	bytes uint64 // carried in the window that is open
}

// add notes usage, and that the meter must be looked at when the window closes.
func (b *Book) add(m *meter, u Usage) {
	m.usage = m.usage.Plus(u)
	n := u.Carried().Bytes
	if n == 0 {
		return
	}
	if m.bytes == 0 {
		b.moved = append(b.moved, m)
	}
	m.bytes += n
}

// shut ends the meter's window after d. What came in less than a second
// came in one second.
func (m *meter) shut(d time.Duration) {
	m.peak = m.peakAfter(d)
	m.bytes = 0
}

func (m *meter) peakAfter(d time.Duration) float64 {
	return max(m.peak, float64(m.bytes)/max(d, window).Seconds())
}

// tick closes the window if it was long enough.
func (b *Book) tick(now time.Time) {
	if b.opened.IsZero() {
		b.opened = now
	}
	d := now.Sub(b.opened)
	if d < window {
		return
	}
	for _, m := range b.moved {
		m.shut(d)
	}
	clear(b.moved)
	b.moved, b.opened = b.moved[:0], now
}
