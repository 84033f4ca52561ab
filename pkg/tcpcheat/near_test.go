package tcpcheat

import (
	"errors"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

var pacedParams = Params{Mode: Pace, Rate: 1e6, Bucket: 64e3}

// A connection of which only ACKs are touched is cheated on in `flows`, owns
// nothing, and is given back at once.
func TestNearLifetime(t *testing.T) {
	for _, tt := range []struct {
		p    Params
		mode string
		why  string
	}{
		{pacedParams, "pace", "paced"},
		{Params{Thin: true, Rate: 1e6, Bucket: 64e3}, "none", "ACKs thinned"},
		{Params{Mode: Pace, Thin: true, Fill: true, Rate: 1e6, Bucket: 64e3}, "pace", "paced, ACKs thinned, holes filled"},
	} {
		l := newLab(t)
		if err := l.e.WatchNear(l.now, l.key); err != nil {
			t.Fatal(err)
		}
		l.start(tt.p)
		if st := l.stats(); st.State != Cheated || st.Mode.String() != tt.mode || st.Reason != tt.why {
			t.Errorf("%s: %v, mode %v, reason %q", tt.why, st.State, st.Mode, st.Reason)
		}
		l.src(ack, 0, 1448, l.opts())
		if a, _ := l.rcv(ack, 1448, 60000, 0, 0, l.opts()); a == Drop {
			t.Errorf("%s: the first ACK was dropped", tt.why)
		}
		l.e.Stop(l.now, l.key)
		ev := l.e.TakeEvents()
		if st := l.stats(); st.State != Watched || len(ev) != 1 || ev[0].Kind != EventDrained {
			t.Errorf("%s: after Stop: %v, events %v", tt.why, st.State, ev)
		}
		l.e.Abort(l.now)
		for _, s := range l.take() {
			if s.Has(packet.FlagRST) {
				t.Errorf("%s: reset, with nothing in hand", tt.why)
			}
		}
	}
}

// Draining and aborting give such a connection back too.
func TestNearDrainsAtOnce(t *testing.T) {
	for _, end := range []func(*lab){func(l *lab) { l.e.Drain(l.now) }, func(l *lab) { l.e.Abort(l.now) }} {
		l := newLab(t)
		l.start(pacedParams)
		l.src(ack, 0, 1448, l.opts())
		end(l)
		if st := l.stats(); st.State != Watched || st.Mode != Pace {
			t.Errorf("%v, mode %v", st.State, st.Mode)
		}
	}
}

// tcp.md 2.1: what the engine must keep its hands off ends the treatment.
func TestNearLeavesAlone(t *testing.T) {
	l := newLab(t)
	l.start(pacedParams)
	l.src(ack|packet.FlagURG, 0, 1448, l.opts())
	ev := l.e.TakeEvents()
	if st := l.stats(); st.State != LeftAlone || st.Reason != ErrUrgent.Error() || len(ev) != 1 || ev[0].Kind != EventLeftAlone {
		t.Errorf("%v %q, events %v", st.State, st.Reason, ev)
	}
}

// A connection whose handshake was not seen can be treated, but not cheated.
func TestNearWithoutHandshake(t *testing.T) {
	l := newLab(t)
	if err := l.e.WatchNear(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 5000, 1448, l.opts())
	if st := l.stats(); st.State != Watched {
		t.Fatalf("picked up: %v %s", st.State, st.Reason)
	}
	if err := l.e.Start(l.now, l.key, labParams); !errors.Is(err, ErrNoHandshake) {
		t.Errorf("reliable without a handshake: %v", err)
	}
	if err := l.e.Start(l.now, l.key, pacedParams); err != nil {
		t.Error(err)
	}
	if st := l.stats(); st.State != Cheated || st.Mode != Pace {
		t.Errorf("%v, mode %v", st.State, st.Mode)
	}
}

// Watch without more still wants the handshake.
func TestWatchWantsTheHandshake(t *testing.T) {
	l := newLab(t)
	if err := l.e.Watch(l.now, l.key); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 5000, 1448, l.opts())
	if st := l.stats(); st.State != LeftAlone || st.Reason != ErrNoHandshake.Error() {
		t.Errorf("%v %s", st.State, st.Reason)
	}
}

// Filling goes on beside the sender's side in one box.
func TestNearBesideCheating(t *testing.T) {
	l := newLab(t)
	p := labParams
	p.Mode, p.Fill = Realtime, true
	l.start(p)
	l.src(ack, 0, 1448, l.opts())
	if st := l.stats(); st.Mode != Realtime || st.FakeAcks == 0 || st.Reason != "holes filled" {
		t.Errorf("mode %v, %d fake ACKs, reason %q", st.Mode, st.FakeAcks, st.Reason)
	}
	l.rcv(ack, 1448, 60000, 0, 0, l.opts())
	l.e.Stop(l.now, l.key)
	l.pass(1e9)
	if st := l.stats(); st.State != Watched || st.Mode != Realtime {
		t.Errorf("after Stop: %v, mode %v", st.State, st.Mode)
	}
}

// A reservation may be in place before the first packet of a connection in the
// middle has come to the engine: that packet is on its way from the queue of first
// packets, and RESV was faster, or there was a PATH before it.
func TestStartBeforeTheFirstPacketInTheMiddle(t *testing.T) {
	thinned := Params{Rate: 1e5, Bucket: 6000, Thin: true}
	for name, p := range map[string]Params{"paced": smallPace, "thinned": thinned} {
		for _, fromSource := range []bool{true, false} {
			l := newLab(t)
			if err := errors.Join(l.e.WatchNear(l.now, l.key), l.e.Start(l.now, l.key, p)); err != nil {
				t.Fatal(err)
			}
			if fromSource {
				l.src(ack, 0, 1448, l.opts())
			} else {
				l.rcv(ack, 0, 60000, 0, 0, l.opts())
			}
			ev := l.e.TakeEvents()
			if st := l.stats(); st.State != Cheated || len(ev) != 1 || ev[0].Kind != EventStarted {
				t.Errorf("%s, from source %t: %v %q, events %+v", name, fromSource, st.State, st.Reason, ev)
			}
		}
	}

	// What is taken back before that packet is not begun.
	l := newLab(t)
	if err := errors.Join(l.e.WatchNear(l.now, l.key), l.e.Start(l.now, l.key, smallPace)); err != nil {
		t.Fatal(err)
	}
	l.e.Stop(l.now, l.key)
	l.src(ack, 0, 1448, l.opts())
	if st := l.stats(); st.State != Watched {
		t.Errorf("stopped before: %v", st.State)
	}

	// From the middle nobody can be spoken for.
	l = newLab(t)
	if err := errors.Join(l.e.WatchNear(l.now, l.key), l.e.Start(l.now, l.key, labParams)); err != nil {
		t.Fatal(err)
	}
	l.src(ack, 0, 1448, l.opts())
	if st := l.stats(); st.State != LeftAlone || st.Reason != ErrNoHandshake.Error() {
		t.Errorf("to be cheated: %v %q", st.State, st.Reason)
	}
}

// The ports of a connection whose handshake was not seen may be used anew: what was
// known is not the new connection's, whose handshake is.
func TestPortsOfAConnectionInTheMiddleAreUsedAnew(t *testing.T) {
	l := midway(t, smallPace)
	l.rcv(ack, 1448, 60000, 0, 0, l.opts())
	l.take()
	l.e.TakeEvents()
	l.sisn, l.risn = 1000, 2000
	l.open()
	c := l.e.find(l.key)
	ev := l.e.TakeEvents()
	if len(ev) != 1 || ev[0].Kind != EventReplaced || c.state != Watched || c.midway || c.treated() {
		t.Errorf("events %+v, %v, midway %t, treated %t", ev, c.state, c.midway, c.treated())
	}
	if err := l.e.Start(l.now, l.key, smallPace); err != nil || l.stats().State != Cheated {
		t.Errorf("%v, %v", l.stats().State, err)
	}
}
