package reliable

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/timers"
)

// timed is what owns a timer.
type timed interface {
	fire(l *Layer, now time.Time)
}

// timer is embedded in its owner.
type timer = timers.Timer[timed]
