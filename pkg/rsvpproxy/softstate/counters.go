package softstate

import (
	"maps"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Drop is why a received message had no effect.
type Drop uint8

// The reasons.
const (
	DropMalformed  Drop = iota // RFC 2205 Appendix B: logged, never answered
	DropNotForUs               // to be forwarded untouched by the owner (RFC 2209 section 2)
	DropFamily                 // IPv6, which is not enabled, or not on this interface
	DropHop                    // RSVP_HOP is no neighbour: our own, or no unicast address
	DropLIH                    // logical interface handle is none of ours
	DropNoState                // nothing here that the message could match
	DropWrongHop               // PathTear of another previous hop (RFC 2205 section 3.1.5)
	DropLoop                   // PATH for a proxied sender, or a transparent node's own message, came back from the network
	DropConfirmDst             // ResvConf not addressed to its RESV_CONFIRM (Appendix B)
	DropTTL                    // would leave with a TTL of zero
	DropLimitPath              // a limit on sessions, senders or neighbours was reached by a PATH
	DropLimitResv              // a limit on neighbours or requests was reached by a RESV
	DropLateResult             // ReserveResult for a reservation that is gone
	DropInterface              // multicast PathTear, or PATH beyond what is kept, that came where routing does not expect it (RFC 2205 section 3.9)
	DropShare                  // a PATH of a neighbour that holds its share of sessions and senders ([Limits.Share])
	dropCount                  // number of reasons
)

var dropNames = [dropCount]string{
	"malformed", "not-for-us", "family", "hop", "lih", "no-state", "wrong-hop", "loop",
	"confirm-destination", "ttl", "limit-path", "limit-resv", "late-result", "interface", "neighbor-share",
}

// String returns a name fit for a metric's label.
func (d Drop) String() string {
	if d < dropCount {
		return dropNames[d]
	}
	return "unknown"
}

// Counters are the figures of a [Node] since it was made. The maps are copies.
type Counters struct {
	In, Out   map[wire.MsgType]uint64
	Dropped   map[Drop]uint64
	Malformed map[wire.Kind]uint64
	// PathErrs and ResvErrs count errors found here, by code.
	PathErrs, ResvErrs map[wire.ErrorCode]uint64

	PathTimeouts, ResvTimeouts  uint64
	Reserves, Refused, Releases uint64
	Preempted                   uint64 // reservations ended for others
	// ErrorsLimited are PathErr and ResvErr messages not sent: [Config.ErrorRate].
	ErrorsLimited uint64
	// Postponed are RESV messages that had to wait for their PATH: [Node.Recover].
	Postponed uint64

	// TearsRepeated are PathTear and ResvTear messages of a transparent node that were
	// sent once more, TearsUnrepeated those for which there was no room.
	TearsRepeated, TearsUnrepeated uint64

	// What is held now.
	Sessions, Senders, Reservations, Neighbors int
}

type counters struct {
	in, out            [wire.ResvConf + 1]uint64
	dropped            [dropCount]uint64
	malformed          map[wire.Kind]uint64
	pathErrs, resvErrs map[wire.ErrorCode]uint64

	pathTimeouts, resvTimeouts  uint64
	reserves, refused, releases uint64
	preempted                   uint64
	notifiesIn, notifiesOut     uint64
	limited, postponed          uint64
	repeated, unrepeated        uint64
}

// Counters returns the figures of n.
func (n *Node) Counters() Counters {
	c := &n.count
	out := Counters{
		In: map[wire.MsgType]uint64{}, Out: map[wire.MsgType]uint64{}, Dropped: map[Drop]uint64{},
		Malformed: maps.Clone(c.malformed), PathErrs: maps.Clone(c.pathErrs), ResvErrs: maps.Clone(c.resvErrs),
		PathTimeouts: c.pathTimeouts, ResvTimeouts: c.resvTimeouts,
		Reserves: c.reserves, Refused: c.refused, Releases: c.releases, Preempted: c.preempted, ErrorsLimited: c.limited, Postponed: c.postponed, TearsRepeated: c.repeated, TearsUnrepeated: c.unrepeated,
		Sessions: len(n.sessions), Senders: n.room.senders.All(), Reservations: len(n.byID), Neighbors: len(n.neighbors),
	}
	for t := wire.Path; t <= wire.ResvConf; t++ {
		out.In[t], out.Out[t] = c.in[t], c.out[t]
	}
	out.In[wire.Notify], out.Out[wire.Notify] = c.notifiesIn, c.notifiesOut
	for d := range dropCount {
		out.Dropped[d] = c.dropped[d]
	}
	return out
}

func (n *Node) drop(d Drop) {
	n.count.dropped[d]++
	n.lastDrop, n.hasDropped = d, true
}
