package daemon

import (
	"math"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

func consoleTSpec(t intserv.TSpec) *console.TSpec {
	out := &console.TSpec{R: t.Rate, B: t.Bucket, Min: t.MinUnit, Max: t.MaxPacket}
	if !math.IsInf(t.Peak, 1) {
		p := t.Peak
		out.P = &p
	}
	return out
}

// Stats is every counter of the daemon.
func (d *Daemon) Stats() console.Stats {
	s := console.Stats{
		Events: d.events.Stats(),
		Inject: d.injectStats(), Shaper: d.shaperStats(), Cheat: d.cheatStats(),
		Admission: console.AdmissionStats{
			Granted: d.tc.granted.get(), Refused: d.tc.refused.get(), Released: d.tc.freed.get(), Preempted: d.tc.ousted.get(), ForeignMarks: d.tc.foreign.get(), Shared: d.sharedStats(),
		},
	}
	s.Accounting = d.accountingStats()
	if d.dog != nil {
		s.Watchdog = console.WatchdogStats{Running: d.dog.Running(), Restarts: d.dog.Died(), Missed: d.dog.Missed()}
	}
	for _, q := range d.queues {
		row := queueStats(q, q.q.Counters())
		row.Overloaded = q.num >= queueCheat && d.overload.pressed(int(q.num-queueCheat))
		s.Queues = append(s.Queues, row)
	}
	s.RSVP = d.rsvpStats()
	_, full := d.flows.size()
	s.Classify = console.ClassifyStats{
		Packets: d.first.count.packets.get(), Matched: d.first.count.matched.get(),
		Unwanted: d.first.count.unwanted.get(), Full: full,
	}
	return s
}

func queueStats(q *queue, c nfq.Counters) console.QueueStats {
	return console.QueueStats{
		Queue: q.num, Role: q.role, Packets: c.Packets, Bytes: c.Bytes, Batches: c.Batches,
		Verdicts:      console.VerdictStats{Accept: c.Accepted, Modified: c.Modified, Drop: c.Dropped, Requeue: c.Requeued},
		VerdictErrors: c.VerdictErrors, ParseErrors: c.ParseErrors, Truncated: c.Truncated, ENOBUFS: c.NoBuffers,
		Waiting: c.Kernel.Waiting, DropsKernel: c.Kernel.QueueDropped, DropsUser: c.Kernel.UserDropped,
	}
}

func (d *Daemon) rsvpStats() console.RSVPStats {
	var s console.RSVPStats
	capture := d.rsvp.CaptureCounters()
	s.Errors.Malformed, s.Errors.Limited = capture.Malformed, capture.Limited+capture.Strangers+capture.Overflow
	s.Errors.Refused = map[string]uint64{}
	refused := func(kind string, n uint64) {
		if n > 0 {
			s.Errors.Refused[kind] += n
		}
	}
	refused("truncated", capture.Malformed)
	refused("rate", capture.Limited)
	refused("rate-strangers", capture.Strangers)
	refused("overflow", capture.Overflow)
	refused("hidden-from-outside", capture.Intruders)
	sent := d.rsvp.SendCounters()
	s.Errors.SendFailed, s.Multicast.Scoped = sent.Errors, sent.Scoped
	v, err := d.rsvp.View()
	if err != nil {
		return s
	}
	c := &v.Counters
	s.Received, s.Sent = messages(c.In), messages(c.Out)
	if r := v.Reliable; r != nil {
		// The messages of RFC 2961 carry or stand for those above.
		s.Received.Other = r.BundlesIn + r.SummariesIn
		s.Sent.Other = r.BundlesOut + r.SummariesOut + r.AckMessages
	}
	s.Multicast.RoutesFull = v.GroupsLimited
	if u := d.rsvp.Unseen(); u != nil {
		s.Transparent = &console.TransparentStats{
			Names: u.Names, NamesFull: u.NamesFull, Foreign: capture.Foreign, Signed: capture.Signed, Gathered: u.Gathered.Whole,
			Fragments: capture.Fragments, TearsRepeated: c.TearsRepeated, TearsUnrepeated: c.TearsUnrepeated,
		}
	}
	g := &v.Diag
	s.Diagnostics = console.DiagnosticStats{
		Requests: g.RequestsIn, Replies: g.RepliesIn, Forwarded: g.RequestsOut, Passed: g.Passed, Answered: g.RepliesOut,
		Fragments: g.Fragments, NoPath: g.NoPath, RoutesCut: g.RouteTooLong, Loops: g.Loops,
	}
	if u := &v.Tunnels; u.Tunnels > 0 || u.Held > 0 {
		s.Tunnels = &console.TunnelStats{
			Tunnels: u.Tunnels, Carried: u.Carried, Held: u.Held, Granted: u.Granted, Refused: u.Refused, TimedOut: u.TimedOut,
			Failed: u.Failed, Full: u.Full, Unbound: u.Unbound,
		}
	}
	s.Aggregation = d.aggregationStats(&v.Aggregation)
	refused("diag-malformed", g.Malformed)
	refused("diag-rate", g.Limited)
	refused("diag-stray", g.Stray)
	refused("diag-expired", g.Expired)
	refused("diag-unreachable", g.Unreachable)
	if i := v.Security; i != nil {
		n := &i.Counters
		s.Integrity = &console.IntegrityStats{
			Signed: n.Signed, Accepted: n.Accepted, Refused: n.ByReason(), Associations: i.Associations,
			Challenges: n.Challenges, Responses: n.Responses, Handshakes: n.Handshakes, GivenUp: n.GivenUp,
			StaleSigned: n.StaleSigned, StaleAccepted: n.StaleAccepted,
		}
	}
	s.Timeouts = c.PathTimeouts + c.ResvTimeouts
	for kind, n := range c.Malformed {
		refused(kind.String(), n)
		switch kind {
		case wire.KindChecksum:
			s.Errors.Checksum += n
		case wire.KindType, wire.KindUnknownClass, wire.KindUnknownCType:
			s.Errors.Unknown += n
		default:
			s.Errors.Malformed += n
		}
	}
	for why, n := range c.Dropped {
		if why != softstate.DropMalformed { // counted by kind above
			refused(why.String(), n)
		}
		switch why {
		case softstate.DropMalformed: // with the codec's kinds above
		case softstate.DropLimitPath, softstate.DropLimitResv, softstate.DropShare:
			s.Errors.Full += n
		default:
			s.Errors.Unexpected += n
		}
	}
	return s
}

func messages(n map[wire.MsgType]uint64) console.RSVPMessages {
	return console.RSVPMessages{
		Path: n[wire.Path], Resv: n[wire.Resv], PathErr: n[wire.PathErr], ResvErr: n[wire.ResvErr],
		PathTear: n[wire.PathTear], ResvTear: n[wire.ResvTear], ResvConf: n[wire.ResvConf],
	}
}

func (d *Daemon) cheatStats() console.CheatStats {
	s := console.CheatStats{
		Started: d.ended.started.get(), Ended: d.ended.ended.get(), LeftAlone: d.reasons.all(), Promises: d.promises.stats(),
	}
	if o := d.overload; o != nil {
		s.Shed, s.ShedRefused = o.shed.get(), o.refused.get()
	}
	if d.echo != nil {
		s.Echoes = console.EchoStats(d.echo.Counters())
	}
	for _, worker := range d.cheat.snapshots(workerTimeout) {
		list, t := worker.list, worker.totals
		s.FakeAcks += t.FakeAcks
		s.AbsorbedAcks += t.Absorbed
		s.AcksThinned += t.Thinned
		s.Rewritten += t.Rewritten
		s.Retransmits += t.Retransmits
		s.Timeouts += t.Timeouts
		s.TailProbes += t.TailProbes
		s.TooBig += t.TooBig
		s.TooBigRefused += t.TooBigRefused
		s.Withdrawn += t.Withdrawals
		s.FilledBytes += t.FilledBytes
		s.FillsAgain += t.FillsAgain
		s.FillsGivenUp += t.FillsGivenUp
		s.BufferedBytes += uint64(t.Buffered)
		for i := range list {
			if st := list[i].stats.State; st == tcpcheat.Cheated || st == tcpcheat.Draining {
				s.Flows++
			}
		}
	}
	return s
}
