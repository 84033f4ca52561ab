package metrics

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/console"
)

func (s sink) stats(st console.Stats) {
	s.queues(st.Queues)
	s.rsvp(st.RSVP)
	s.cheat(st.Cheat)
	s.shaper(st.Shaper)
	put(s.counter("injected_packets_total", "Packets that the box made itself."), st.Inject.Packets)
	put(s.counter("injected_bytes_total", "Bytes of packets that the box made itself."), st.Inject.Bytes)
	put(s.counter("inject_errors_total", "Own packets that were not sent."), st.Inject.Errors)
	unsent := s.counter("inject_unsent_total", "Own packets that were not sent, by reason.", "reason")
	put(unsent, st.Inject.TooLong, "too_long")
	put(unsent, st.Inject.NoBuffers, "no_buffers")
	put(unsent, st.Inject.NoFrame, "no_frame")
	put(unsent, st.Inject.NoPort, "no_port")
	put(s.counter("first_packets_total", "Packets that were classified."), st.Classify.Packets)
	verdicts := s.counter("classified_total", "First packets by outcome.", "outcome")
	put(verdicts, st.Classify.Matched, "matched")
	put(verdicts, st.Classify.Unwanted, "unwanted")
	put(verdicts, st.Classify.Full, "full")
	admission := s.counter("admission_total", "Admission control by decision.", "decision")
	put(admission, st.Admission.Granted, "granted")
	put(admission, st.Admission.Refused, "refused")
	put(admission, st.Admission.Released, "released")
	put(admission, st.Admission.Preempted, "preempted")
	put(s.counter("dclass_foreign_total", "Code points that DCLASS named and that reservations may not have."), st.Admission.ForeignMarks)
	s.accounting(st.Accounting)
	if n := st.Admission.Shared; n != nil {
		shared := s.counter("shared_total", "What was decided together with other boxes, and what went wrong.", "what")
		put(shared, n.Granted, "granted")
		put(shared, n.Refused, "refused")
		put(shared, n.Failed, "failed")
		put(shared, n.ByQuota, "by-quota")
		put(shared, n.Crowded, "crowded")
		put(shared, n.Conflicts, "conflict")
		put(shared, n.Registered, "registered")
		put(shared, n.LeasesLost, "lease-lost")
		put(shared, n.Over, "over-limit")
		put(shared, n.WatchErrors, "watch-error")
	}
	put(s.gauge("watchdog_running", "1 while a process looks after this one."), truth(st.Watchdog.Running))
	put(s.counter("watchdog_restarts_total", "Times that the watchdog had ended and was started again."), st.Watchdog.Restarts)
	put(s.counter("watchdog_beats_missed_total", "Beats that the watchdog could not be given."), st.Watchdog.Missed)
	put(s.gauge("event_clients", "Clients that follow the events."), st.Events.Clients)
	put(s.counter("events_sent_total", "Events sent to clients."), st.Events.Sent)
	put(s.counter("events_lost_total", "Events that a client had no room for."), st.Events.Lost)
	put(s.counter("event_clients_refused_total", "Clients beyond the limit."), st.Events.Refused)
}

// accounting has sums only: users and reservations are too many for labels.
func (s sink) accounting(a console.AccountingStats) {
	put(s.gauge("accounting_running", "Reservations that are accounted for now."), a.Running)
	put(s.gauge("accounting_kept", "Records of ended reservations that nobody has read."), a.Kept)
	put(s.gauge("accounting_users", "Users with a sum of their own."), a.Users)
	records := s.counter("accounting_records_total", "Records of ended reservations, by what became of them.", "event")
	put(records, a.Ended, "ended")
	put(records, a.Read, "read")
	put(records, a.Lost, "lost")
	put(s.counter("accounting_lost_bytes_total", "Bytes in the records that nobody has read in time."), a.LostBytes)
	packets := s.counter("accounting_packets_total", "Packets of reserved flows, by what they were found to be.", "result")
	bytes := s.counter("accounting_bytes_total", "IP bytes of reserved flows, by what they were found to be.", "result")
	put(packets, a.ConformPackets, "conform")
	put(packets, a.ExceedPackets, "exceed")
	put(packets, a.DroppedPackets, "dropped")
	put(bytes, a.ConformBytes, "conform")
	put(bytes, a.ExceedBytes, "exceed")
	put(bytes, a.DroppedBytes, "dropped")
	put(s.counter("accounting_users_folded_total", "Users that were added to the others for want of room."), a.UsersFolded)
	errs := s.counter("accounting_errors_total", "What could not be written, by where to.", "to")
	put(errs, a.LinesLost, "file")
	put(errs, a.SaveErrors, "state_dir")
}

func (s sink) queues(rows []console.QueueStats) {
	labels := []string{"queue", "role"}
	packets := s.counter("queue_packets_total", "Packets read from an NFQUEUE queue.", labels...)
	bytes := s.counter("queue_bytes_total", "Bytes read from an NFQUEUE queue.", labels...)
	verdicts := s.counter("queue_verdicts_total", "Verdicts given.", append(labels, "verdict")...)
	errs := s.counter("queue_errors_total", "Trouble with a queue, by kind.", append(labels, "kind")...)
	drops := s.counter("queue_drops_total", "Packets that the kernel dropped: queue full (kernel) or socket full (user).", append(labels, "by")...)
	waiting := s.gauge("queue_waiting", "Packets in the kernel's queue.", labels...)
	overloaded := s.gauge("queue_overloaded", "1 while connections are let go because a cheat queue cannot keep up.", labels...)
	for _, q := range rows {
		l := queueLabel(q)
		with := func(v string) []string { return append(slices.Clone(l), v) }
		put(packets, q.Packets, l...)
		put(bytes, q.Bytes, l...)
		put(verdicts, q.Verdicts.Accept, with("accept")...)
		put(verdicts, q.Verdicts.Modified, with("modified")...)
		put(verdicts, q.Verdicts.Drop, with("drop")...)
		put(verdicts, q.Verdicts.Requeue, with("requeue")...)
		put(errs, q.VerdictErrors, with("verdict")...)
		put(errs, q.ParseErrors, with("parse")...)
		put(errs, q.Truncated, with("truncated")...)
		put(errs, q.ENOBUFS, with("enobufs")...)
		put(drops, q.DropsKernel, with("kernel")...)
		put(drops, q.DropsUser, with("user")...)
		put(waiting, q.Waiting, l...)
		put(overloaded, truth(q.Overloaded), l...)
	}
}

func (s sink) rsvp(r console.RSVPStats) {
	f := s.counter("rsvp_messages_total", "RSVP messages.", "direction", "type")
	for _, d := range []struct {
		name string
		m    console.RSVPMessages
	}{{"received", r.Received}, {"sent", r.Sent}} {
		put(f, d.m.Path, d.name, "path")
		put(f, d.m.Resv, d.name, "resv")
		put(f, d.m.PathErr, d.name, "path_err")
		put(f, d.m.ResvErr, d.name, "resv_err")
		put(f, d.m.PathTear, d.name, "path_tear")
		put(f, d.m.ResvTear, d.name, "resv_tear")
		put(f, d.m.ResvConf, d.name, "resv_conf")
		put(f, d.m.Other, d.name, other)
	}
	e := s.counter("rsvp_errors_total", "RSVP messages that were not taken or not sent, by reason.", "reason")
	put(e, r.Errors.Malformed, "malformed")
	put(e, r.Errors.Checksum, "checksum")
	put(e, r.Errors.Unknown, "unknown")
	put(e, r.Errors.Unexpected, "unexpected")
	put(e, r.Errors.Limited, "limited")
	put(e, r.Errors.Full, "full")
	put(e, r.Errors.SendFailed, "send_failed")
	put(e, r.Errors.Unreachable, "unreachable")
	put(s.counter("rsvp_timeouts_total", "States that were not refreshed in time."), r.Timeouts)
	d := s.counter("rsvp_diagnostics_total", "Diagnostic messages of RFC 2745, by what was done.", "event")
	put(d, r.Diagnostics.Requests, "request")
	put(d, r.Diagnostics.Replies, "reply")
	put(d, r.Diagnostics.Forwarded, "forwarded")
	put(d, r.Diagnostics.Passed, "passed")
	put(d, r.Diagnostics.Answered, "answered")
	put(d, r.Diagnostics.Fragments, "fragment")
	put(d, r.Diagnostics.NoPath, "no_path")
	put(d, r.Diagnostics.RoutesCut, "route_cut")
	put(d, r.Diagnostics.Loops, "loop")
	put(s.counter("rsvp_scoped_total", "RSVP messages not sent to a group whose data do not pass the interface's threshold."), r.Multicast.Scoped)
	put(s.counter("rsvp_multicast_routes_full_total", "Entries of the multicast forwarding cache that found no room."), r.Multicast.RoutesFull)
	if r.Transparent != nil {
		s.transparent(r.Transparent)
	}
	if r.Tunnels != nil {
		s.tunnels(r.Tunnels)
	}
	if r.Aggregation != nil {
		s.aggregation(r.Aggregation)
	}
	if r.Integrity != nil {
		s.integrity(r.Integrity)
	}
	s.refused(r.Errors.Refused)
}

func (s sink) transparent(v *console.TransparentStats) {
	put(s.gauge("rsvp_names", "Names of others that neighbours know the box by."), v.Names)
	put(s.counter("rsvp_names_full_total", "Names that found no room."), v.NamesFull)
	by := s.counter("rsvp_passed_total", "RSVP that went by a transparent hop: messages not understood, signed ones, fragments.", "kind")
	put(by, v.Foreign, "foreign")
	put(by, v.Signed, "signed")
	put(by, v.Fragments, "fragment")
	put(s.counter("rsvp_gathered_total", "RSVP messages put together of fragments."), v.Gathered)
	tears := s.counter("rsvp_tears_repeated_total", "Tears of a transparent hop: messages repeated, and tears that are not for want of room.", "event")
	put(tears, v.TearsRepeated, "repeated")
	put(tears, v.TearsUnrepeated, "full")
}

// refused are the kinds of refused messages; their names are the engine's, of
// which there are some thirty.
func (s sink) refused(kinds map[string]uint64) {
	f := s.counter("rsvp_refused_total", "RSVP messages received that were not taken, by kind.", "kind")
	for kind, n := range kinds {
		put(f, n, kind)
	}
}

func (s sink) integrity(i *console.IntegrityStats) {
	put(s.counter("rsvp_signed_total", "RSVP messages that were signed."), i.Signed)
	put(s.counter("rsvp_authentic_total", "Signed RSVP messages that were accepted."), i.Accepted)
	refused := s.counter("rsvp_integrity_refused_total", "RSVP messages that authentication refused, by reason.", "reason")
	for reason, n := range i.Refused { // a fixed set
		put(refused, n, reason)
	}
	shake := s.counter("rsvp_integrity_handshakes_total", "Integrity handshakes: challenges and responses sent, completed, given up.", "event")
	put(shake, i.Challenges, "challenge")
	put(shake, i.Responses, "response")
	put(shake, i.Handshakes, "completed")
	put(shake, i.GivenUp, "given_up")
	stale := s.counter("rsvp_integrity_stale_total", "RSVP messages under a key that has ended, for want of a valid one.", "direction")
	put(stale, i.StaleSigned, "sent")
	put(stale, i.StaleAccepted, "received")
	put(s.gauge("rsvp_integrity_associations", "Neighbours and keys that are kept."), i.Associations)
}

func (s sink) cheat(c console.CheatStats) {
	put(s.gauge("cheat_flows", "Flows under TCP cheating."), c.Flows)
	put(s.counter("cheat_started_total", "Flows whose cheating began."), c.Started)
	put(s.counter("cheat_ended_total", "Flows whose cheating ended."), c.Ended)
	put(s.counter("cheat_fake_acks_total", "ACKs made for receivers."), c.FakeAcks)
	put(s.counter("cheat_absorbed_acks_total", "Receivers' ACKs that were kept from sources."), c.AbsorbedAcks)
	put(s.counter("cheat_thinned_acks_total", "Receivers' ACKs that were dropped because later ones say the same."), c.AcksThinned)
	put(s.counter("cheat_rewritten_total", "Packets that were rewritten."), c.Rewritten)
	put(s.counter("cheat_retransmits_total", "Segments that the box sent again."), c.Retransmits)
	put(s.counter("cheat_timeouts_total", "Retransmission timeouts of the box."), c.Timeouts)
	put(s.counter("cheat_tail_probes_total", "Tail loss probes of the box."), c.TailProbes)
	tooBig := s.counter("cheat_icmp_too_big_total", "ICMP errors about packets that were too big for the path to a receiver.", "result")
	put(tooBig, c.TooBig, "believed")
	put(tooBig, c.TooBigRefused, "refused")
	echoes := s.counter("cheat_echoes_total", "ICMP echoes of sources, by what became of them.", "result")
	put(echoes, c.Echoes.Sent, "sent")
	put(echoes, c.Echoes.Answered, "answered")
	put(echoes, c.Echoes.Unanswered, "unanswered")
	put(echoes, c.Echoes.Shared, "shared")
	put(echoes, c.Echoes.Limited, "limited")
	put(echoes, c.Echoes.Stray, "stray")
	put(echoes, c.Echoes.Errors, "error")
	put(s.counter("cheat_shed_total", "Connections let go because their queue was overloaded."), c.Shed)
	put(s.counter("cheat_shed_refused_total", "New connections that were not taken because their queue was overloaded."), c.ShedRefused)
	put(s.counter("cheat_predictions_withdrawn_total", "Times a receiver's window was not predicted any more."), c.Withdrawn)
	put(s.counter("cheat_filled_bytes_total", "Bytes with which holes were filled."), c.FilledBytes)
	put(s.counter("cheat_fills_again_total", "Segments made once more for a hole."), c.FillsAgain)
	put(s.counter("cheat_fills_given_up_total", "Holes that nothing would fill."), c.FillsGivenUp)
	put(s.gauge("cheat_buffered_bytes", "Bytes held for receivers."), c.BufferedBytes)
	p := &c.Promises
	put(s.gauge("cheat_promises_recorded", "Cheated connections whose promises are recorded."), p.Recorded)
	put(s.counter("cheat_promises_unrecorded_total", "Connections cheated without a record of what was promised."), p.Unrecorded)
	put(s.counter("cheat_promises_full_total", "Connections not cheated since the record is full."), p.Full)
	recalled := s.counter("cheat_recalled_total", "Connections that an earlier process has cheated, by what became of them.", "result")
	put(recalled, p.Whole, "whole")
	put(recalled, p.Open, "open")
	put(recalled, p.Healed, "healed")
	put(recalled, p.Reset, "reset")
	put(recalled, p.Lost, "lost")
	f := s.counter("left_alone_total", "Flows that were left alone, by reason.", "reason")
	reasons, rest := topReasons(c.LeftAlone)
	for _, r := range reasons {
		put(f, c.LeftAlone[r], r)
	}
	if len(c.LeftAlone) > maxReasons {
		put(f, rest, "all other")
	}
}

func (s sink) shaper(h console.ShaperStats) {
	ops := s.counter("shaper_operations_total", "Changes of the kernel's treatment of flows.", "operation")
	put(ops, h.Installs, "install")
	put(ops, h.Removes, "remove")
	put(ops, h.Failures, "failed")
	put(s.gauge("shaper_treatments", "Flows treated in the kernel."), h.Treatments)
	put(s.gauge("shaper_classes_used", "HTB classes of the pool that are in use."), h.ClassesUsed)
	put(s.gauge("shaper_classes_pool", "HTB classes of the pool."), h.ClassesPool)
	put(s.gauge("shaper_owed", "Treatments that the kernel would not change back: it is tried again."), h.Owed)
	packets := s.counter("policer_packets_total", "Packets by what the policers found.", "result")
	put(packets, h.ConformPackets, "conform")
	put(packets, h.ExceedPackets, "exceed")
	put(packets, h.DroppedPackets, "dropped")
	bytes := s.counter("policer_bytes_total", "Bytes by what the policers found.", "result")
	put(bytes, h.ConformBytes, "conform")
	put(bytes, h.ExceedBytes, "exceed")
	put(bytes, h.DroppedBytes, "dropped")
}

func (s sink) aggregation(a *console.AggregationStats) {
	g := s.gauge("rsvp_aggregates", "Aggregates (RFC 3175), by which of their ends is here.", "end")
	put(g, a.Begin, "first")
	put(g, a.End, "last")
	g = s.gauge("rsvp_aggregate_carried", "Reservations in aggregates, by which of their ends is here.", "end")
	put(g, a.Carried, "first")
	put(g, a.Riding, "last")
	put(s.counter("rsvp_aggregate_changes_total", "Changes of the size of aggregates that end here."), a.Changes)
	f := s.counter("rsvp_aggregate_reservations_total", "Reservations in aggregates, by what became of them.", "event")
	put(f, a.Held, "held")
	put(f, a.Granted, "granted")
	put(f, a.Refused, "refused")
	put(f, a.TimedOut, "timed_out")
	put(f, a.Withdrawn, "withdrawn")
	put(f, a.Failed, "failed")
	put(f, a.Full, "full")
	f = s.counter("rsvp_aggregate_needed_total", "NEW-AGGREGATE-NEEDED errors.", "event")
	put(f, a.Needed, "sent")
	put(f, a.Asked, "received")
	put(f, a.Strange, "strange")
	put(s.counter("rsvp_aggregate_unknown_total", "PATH messages that went on without the ADSPEC of the region."), a.Unknown)
}

func (s sink) tunnels(t *console.TunnelStats) {
	put(s.gauge("rsvp_tunnels", "Interfaces that are tunnels."), t.Tunnels)
	put(s.gauge("rsvp_tunnel_carried", "Reservations that tunnel sessions are made of."), t.Carried)
	f := s.counter("rsvp_tunnel_reservations_total", "Reservations over tunnels, by what became of them.", "event")
	put(f, t.Held, "held")
	put(f, t.Granted, "granted")
	put(f, t.Refused, "refused")
	put(f, t.TimedOut, "timed_out")
	put(f, t.Failed, "failed")
	put(f, t.Full, "full")
	put(s.counter("rsvp_tunnel_unbound_total", "PATH messages out of a tunnel without tunnel session."), t.Unbound)
}
