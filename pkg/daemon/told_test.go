package daemon

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// A sender that speaks RSVP itself is left to it; when it stops, the flow has
// ten seconds to show that it goes on (RFC 5945 section 2.2).
func TestSenderSpeaksAndStopsRFC5945(t *testing.T) {
	now := time.Now()
	f := flow{role: roleSender, state: stateWatched}
	c := &conn{}
	c.dirs[0] = f
	g := &c.dirs[0]
	g.speaker(now, softstate.Event{Role: softstate.SenderProxy})
	if g.itself || !g.stopped.IsZero() || g.state != stateWatched || c.idle(now) != idleUDP {
		t.Fatalf("%+v", g)
	}
	g.speaker(now, softstate.Event{Role: softstate.Transit})
	if !g.itself || g.state != stateLeftAlone || g.reason != reasonItself || c.idle(now) != idleUDP {
		t.Fatalf("%+v", g)
	}
	g.speaker(now, softstate.Event{Role: softstate.SenderProxy})
	if g.itself || g.state != stateWatched || c.idle(now.Add(-time.Second)) != idleStopped {
		t.Fatalf("%+v", g)
	}
	if c.idle(now.Add(idleStopped)) != idleStopped {
		t.Error("the last words of a flow are no sign of life")
	}
	if c.idle(now.Add(idleStopped+time.Second)) != idleUDP || !g.stopped.IsZero() {
		t.Error("a flow that goes on is like any other")
	}
	// A reserved flow is not disturbed by who speaks for it.
	g.state = stateManaged
	g.speaker(now, softstate.Event{Role: softstate.Transit})
	g.speaker(now, softstate.Event{Role: softstate.BothProxy})
	if g.state != stateManaged || g.stopped != now {
		t.Errorf("%+v", g)
	}
}
