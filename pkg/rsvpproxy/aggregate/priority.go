package aggregate

import (
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// priority is that of an aggregate (RFC 3181), for its RESV: it is as hard to take as
// the most important of what rides in it. What it may take itself is what the most
// important of those may that it grows for; for room ahead of need nobody is to go.
// When nobody waits, it is what a router that sees it anew is to know.
func (e *end) priority() (p softstate.Priority) {
	waiting := softstate.Priority{}
	for _, part := range e.parts {
		p = higher(p, part.r.priority)
		if !part.ready() {
			waiting = higher(waiting, part.r.priority)
		}
	}
	if !e.confirmed() {
		p.Preempting = waiting.Preempting
		if e.ahead() {
			p.Preempting = 0
		}
	}
	return p
}

// higher is the highest of each, separately, as RFC 3181 section 5.1 (c) merges them.
func higher(a, b softstate.Priority) softstate.Priority {
	return softstate.Priority{Preempting: max(a.Preempting, b.Preempting), Defending: max(a.Defending, b.Defending)}
}

// confirmed says whether what is asked for is in place.
func (e *end) confirmed() bool { return e.asked != nil && e.have != nil && *e.have == *e.asked }

// ahead says whether more is asked for than is needed, or was there.
func (e *end) ahead() bool {
	m, had := measured(e.asked), measured(e.have)
	return m.rate*pipe.Slack > max(e.need.rate, had.rate) || m.bandwidth*pipe.Slack > max(e.need.bandwidth, had.bandwidth) ||
		m.bucket*pipe.Slack > max(e.need.bucket, had.bucket)
}

// raise tells of a priority that has become higher at once. A lower one goes with the
// next refresh: flows that come and go are to cost no messages (RFC 3175 section 4).
func (t *Table) raise(e *end) {
	if e.asked == nil {
		return
	}
	p := e.priority()
	if p.Defending > e.told.Defending || !e.confirmed() && p.Preempting > e.told.Preempting {
		t.resv(e)
	}
}
