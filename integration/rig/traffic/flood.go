package traffic

import (
	"context"
	"time"
)

// flooded is how long a flood sends before it looks at the clock again.
const flooded = 5 * time.Millisecond

// Repeat sends packets in turn, so many a second, until the context ends, and
// returns how many were sent. It is for floods: what is late is made up for.
func (r *Raw) Repeat(ctx context.Context, perSecond int, next func(i int) []byte) (sent int, err error) {
	tick := time.NewTicker(flooded)
	defer tick.Stop()
	begin := time.Now()
	for {
		due := int(time.Since(begin).Seconds() * float64(perSecond))
		// No more than a second's worth at once, should this have been held up.
		for last := min(due, sent+perSecond); sent < last; sent++ {
			if err := r.Send(next(sent)); err != nil {
				return sent, err
			}
		}
		select {
		case <-ctx.Done():
			return sent, nil
		case <-tick.C:
		}
	}
}
