package softstate

import "github.com/qosproxy/qosproxy/pkg/rsvpproxy/timers"

type timerKind uint8

const (
	timerPathRefresh timerKind = iota
	timerPathLife
	timerResvRefresh
	timerResvLife
	timerFailure
	timerLimit
	timerHopLife
	timerSaid
)

// timer is embedded in the state that it belongs to.
type timer = timers.Timer[owner]

// owner is a psb for all kinds but timerResvLife, which has an rsb, and
// timerResvRefresh.
type owner struct {
	kind timerKind
	p    *psb
	r    *rsb
	u    *upstream
	w    *said
}
