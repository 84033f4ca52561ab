package table

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Status prints the daemon at a glance.
func Status(w io.Writer, s console.Status) error {
	t := newTable(w, "qosproxy", fmt.Sprintf("%s, %s, process %d, up %s", s.Version, s.State, s.PID, age(s.UptimeS)))
	t.row("mode", fmt.Sprintf("%s, packets queued by %s, flows treated by %s", s.Mode, text(s.Capture), text(s.DataPlane)))
	t.row("config", fmt.Sprintf("%s, loaded %s ago, %d reloads, %d refused", s.ConfigFile, age(s.Reload.AgeS), s.Reload.Count, s.Reload.Failed))
	if s.Reload.Error != "" {
		t.row("", "last reload: "+s.Reload.Error)
	}
	t.row("flows", fmt.Sprintf("%d cheated, %d managed, %d watched, %d left alone", s.Flows.Cheated, s.Flows.Managed, s.Flows.Watched, s.Flows.LeftAlone))
	t.row("sessions", fmt.Sprintf("%d reserved, %d requested, %d path, %d rejected, %d blockaded, %d inactive",
		s.Sessions.Reserved, s.Sessions.Requested, s.Sessions.Path, s.Sessions.Rejected, s.Sessions.Blockaded, s.Sessions.Inactive))
	t.row("policies", strconv.Itoa(s.Policies))
	t.row("links", strconv.Itoa(s.Links))
	if l := s.Ledger; l.Kind == "etcd" {
		line := fmt.Sprintf("in etcd as box %s, %s for %s", l.Box, l.State, age(l.SinceS))
		if l.Reason != "" {
			line += ": " + l.Reason
		}
		t.row("ledger", line)
	} else {
		t.row("ledger", "in memory")
	}
	if len(s.Problems) == 0 {
		t.row("problems", "none")
	}
	for _, p := range s.Problems {
		t.row("problem", p)
	}
	return t.end()
}

// Stats prints every counter.
func Stats(w io.Writer, s console.Stats) error {
	t := newTable(w, "QUEUE", "ROLE", "PACKETS", "BYTES", "ACCEPT", "MODIFIED", "DROP", "REQUEUE", "WAITING", "KERNEL-DROPS", "USER-DROPS", "ENOBUFS", "ERRORS")
	for _, q := range s.Queues {
		t.row(strconv.Itoa(int(q.Queue)), q.Role, count(q.Packets), size(q.Bytes), count(q.Verdicts.Accept), count(q.Verdicts.Modified), count(q.Verdicts.Drop),
			count(q.Verdicts.Requeue), count(q.Waiting), count(q.DropsKernel), count(q.DropsUser), count(q.ENOBUFS), count(q.VerdictErrors+q.ParseErrors+q.Truncated))
	}
	if err := t.end(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := RSVPCounters(w, s.RSVP); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	h, c := s.Shaper, s.Cheat
	t = newTable(w, "admission", fmt.Sprintf("%d granted, %d refused, %d released (%d preempted), %d code points of DCLASS passed over",
		s.Admission.Granted, s.Admission.Refused, s.Admission.Released, s.Admission.Preempted, s.Admission.ForeignMarks))
	a := s.Accounting
	t.row("accounting", fmt.Sprintf("%d running, %d ended (%d kept, %d read, %d lost with %s), %s conform, %s exceed, %s dropped", a.Running, a.Ended, a.Kept, a.Read, a.Lost,
		size(a.LostBytes), size(a.ConformBytes), size(a.ExceedBytes), size(a.DroppedBytes)))
	t.row("", fmt.Sprintf("%d users, %d added to the others, %d lines not written, state_dir %d times not", a.Users, a.UsersFolded, a.LinesLost, a.SaveErrors))
	if n := s.Admission.Shared; n != nil {
		t.row("shared", fmt.Sprintf("%d granted, %d refused, %d without an answer, %d by quota, %d crowded, %d conflicts, %d registered, %d leases lost, %d times over the limit, %d times blind",
			n.Granted, n.Refused, n.Failed, n.ByQuota, n.Crowded, n.Conflicts, n.Registered, n.LeasesLost, n.Over, n.WatchErrors))
	}
	t.row("events", fmt.Sprintf("%d clients, %d sent, %d lost, %d clients refused", s.Events.Clients, s.Events.Sent, s.Events.Lost, s.Events.Refused))
	t.row("first packets", fmt.Sprintf("%d, %d matched, %d unwanted, %d with the table full", s.Classify.Packets, s.Classify.Matched, s.Classify.Unwanted, s.Classify.Full))
	t.row("treatments", fmt.Sprintf("%d in the kernel, %d installed, %d removed, %d failed, %d owed, %d of %d classes", h.Treatments, h.Installs, h.Removes, h.Failures, h.Owed, h.ClassesUsed, h.ClassesPool))
	t.row("policers", fmt.Sprintf("%d conform, %d exceed, %d dropped", h.ConformPackets, h.ExceedPackets, h.DroppedPackets))
	t.row("cheating", fmt.Sprintf("%d flows (%d begun, %d ended), %d fake ACKs, %d absorbed, %d thinned, %d rewritten, %d sent again, %d timeouts, %s held",
		c.Flows, c.Started, c.Ended, c.FakeAcks, c.AbsorbedAcks, c.AcksThinned, c.Rewritten, c.Retransmits, c.Timeouts, size(c.BufferedBytes)))
	over := 0
	for _, q := range s.Queues {
		if q.Overloaded {
			over++
		}
	}
	t.row("overload", fmt.Sprintf("%d queues now, %d connections let go, %d new ones not taken", over, c.Shed, c.ShedRefused))
	p := &c.Promises
	t.row("promises", fmt.Sprintf("%d recorded, %d not, %d without room; of an earlier process %d whole, %d open, %d healed, %d reset, %d lost",
		p.Recorded, p.Unrecorded, p.Full, p.Whole, p.Open, p.Healed, p.Reset, p.Lost))
	for _, reason := range slices.Sorted(maps.Keys(c.LeftAlone)) {
		t.row("left alone", fmt.Sprintf("%d: %s", c.LeftAlone[reason], reason))
	}
	t.row("injected", fmt.Sprintf("%d packets, %s, %d errors (%d too long, %d without room, %d to unknown stations, %d by unknown ports)",
		s.Inject.Packets, size(s.Inject.Bytes), s.Inject.Errors, s.Inject.TooLong, s.Inject.NoBuffers, s.Inject.NoFrame, s.Inject.NoPort))
	t.row("watchdog", fmt.Sprintf("running: %t, %d restarts, %d beats missed", s.Watchdog.Running, s.Watchdog.Restarts, s.Watchdog.Missed))
	return t.end()
}
