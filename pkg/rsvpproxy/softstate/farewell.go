package softstate

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// A transparent node cannot have its messages acknowledged: RFC 2961 has to do with
// neighbours, and its name is another one in each session. So what must not get lost
// is said several times: PATH and RESV by quick refreshes ([Config.Quick]), PathTear
// and ResvTear, which nothing refreshes, by repeating them after the same waits. RFC
// 2205 leaves a lost tear to the lifetime of the state (sections 3.1.5 and 3.1.6), two
// and a half minutes in which nobody else can have what it holds; it forbids no
// repetition, which finds no state if the first has arrived. A tear is not repeated
// any more once the state is there again.

// said is a tear that was sent, or is about to be.
type said struct {
	send  Send
	key   farewellKey
	left  int // repetitions
	wait  time.Duration
	timer timer
}

// farewellKey finds the tears that a new message makes void.
type farewellKey struct {
	session wire.Session
	out     IfIndex
}

// repeat notes a tear that is sent, to send it again, and forgets those of the state
// that is sent now.
func (n *Node) repeat(s Send) {
	k := farewellKey{s.Msg.Session.Key(), s.Out}
	switch s.Msg.Type {
	case wire.Path, wire.Resv:
		for _, w := range slices.Clone(n.farewells[k]) {
			if w.send.undoneBy(s) {
				n.forget(w)
			}
		}
	case wire.PathTear, wire.ResvTear:
		n.say(s, n.cfg.Quick)
	default:
	}
}

// undoneBy says whether a tear must not follow a message.
func (s *Send) undoneBy(o Send) bool {
	if s.Dst != o.Dst {
		return false
	}
	switch {
	case s.Msg.Type == wire.PathTear && o.Msg.Type == wire.Path:
		return *s.Msg.SenderTemplate == *o.Msg.SenderTemplate && *s.Msg.Hop == *o.Msg.Hop
	case s.Msg.Type == wire.ResvTear && o.Msg.Type == wire.Resv:
		if s.Msg.Style != o.Msg.Style || *s.Msg.Hop != *o.Msg.Hop {
			return false
		}
		return s.Msg.Style == wire.WF || slices.ContainsFunc(s.Msg.Flows, func(d wire.FlowDescriptor) bool {
			return slices.ContainsFunc(d.Filters, func(f wire.Filter) bool {
				return slices.ContainsFunc(o.Msg.Flows, func(e wire.FlowDescriptor) bool { return slices.Contains(e.Filters, f) })
			})
		})
	default:
		return false
	}
}

// say has a tear sent a number of times from now on. There is a bound on how many
// wait: what comes on top is said once.
func (n *Node) say(s Send, times int) {
	if times <= 0 {
		return
	}
	if n.saying >= n.cfg.Limits.Senders {
		n.count.unrepeated++
		return
	}
	w := &said{send: s, key: farewellKey{s.Msg.Session.Key(), s.Out}, left: times, wait: quickBase}
	w.timer = timer{Owner: owner{kind: timerSaid, w: w}}
	n.farewells[w.key] = append(n.farewells[w.key], w)
	n.saying++
	n.sayNext(n.now, w)
}

func (n *Node) sayNext(now time.Time, w *said) {
	n.timers.Set(&w.timer, now.Add(n.jitter(w.wait)))
	w.wait *= 2
}

// sayAgain is the timer's.
func (n *Node) sayAgain(now time.Time, w *said) {
	m := *w.send.Msg
	s := w.send
	s.Msg = &m
	n.count.out[m.Type]++
	n.count.repeated++
	n.emit(s)
	if w.left--; w.left > 0 {
		n.sayNext(now, w)
		return
	}
	n.forget(w)
}

func (n *Node) forget(w *said) {
	n.timers.Stop(&w.timer)
	n.saying--
	if list := slices.DeleteFunc(n.farewells[w.key], func(o *said) bool { return o == w }); len(list) > 0 {
		n.farewells[w.key] = list
	} else {
		delete(n.farewells, w.key)
	}
}
