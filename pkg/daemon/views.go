package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// workerTimeout is how long a view waits for the cheat workers.
const workerTimeout = time.Second

// Flows lists one row for each direction of a flow.
func (d *Daemon) Flows() []console.FlowRow {
	cheats := map[packet.FlowKey]tcpcheat.Stats{}
	for _, worker := range d.cheat.snapshots(workerTimeout) {
		for i := range worker.list { // none where it is silent: the rows are then without the engine's figures
			cheats[worker.list[i].key] = worker.list[i].stats
		}
	}
	now, l := time.Now(), d.links.Load()
	var rows []console.FlowRow
	d.flows.each(func(c conn) {
		for i := range c.dirs {
			if f := &c.dirs[i]; f.present {
				row := flowRow(now, c.id, f, cheats)
				row.Interface = l.name(f.out)
				rows = append(rows, row)
			}
		}
	})
	slices.SortFunc(rows, func(a, b console.FlowRow) int {
		return cmp.Or(cmp.Compare(len(a.Conn), len(b.Conn)), cmp.Compare(a.Conn, b.Conn),
			cmp.Compare(a.Src, b.Src), cmp.Compare(a.Sport, b.Sport))
	})
	return rows
}

func flowRow(now time.Time, id uint64, f *flow, cheats map[packet.FlowKey]tcpcheat.Stats) console.FlowRow {
	row := console.FlowRow{
		Conn: fmt.Sprint(id), Protocol: packet.ProtoName(f.key.Proto),
		Src: f.key.SrcAddr().String(), Sport: f.key.SrcPort, Dst: f.key.DstAddr().String(), Dport: f.key.DstPort,
		FilledRanges: [][2]uint64{}, TCPMode: config.TCPNone.String(), DSCP: f.dscp, PHB: dscp.Name(f.dscp), Class: f.class.String(),
		State: string(f.state), Reason: f.text(),
		Packets: f.counts.packets, Bytes: f.counts.bytes, RateBPS: uint64(f.counts.bitsPerSecond),
		AgeS: seconds(now.Sub(f.asked)), ReservedBPS: uint64(f.rate * 8),
		ConformPackets: f.counts.conform, ExceedPackets: f.counts.exceed, DroppedPackets: f.counts.dropped,
	}
	row.FlowLabel = f.key.Label
	if row.SPI = f.key.SPI(); row.SPI != 0 {
		row.Sport, row.Dport = 0, 0
	}
	if f.policy != nil {
		row.Policy, row.PolicyLine = f.policy.Name, f.policy.Line
		if f.role == roleSender || f.policy.TCP == config.TCPPace && f.role == roleReceiver {
			row.TCPMode = f.policy.TCP.String()
		}
	}
	if !f.reserved.IsZero() {
		row.SetupUS = uint64(max(0, f.reserved.Sub(f.asked).Microseconds()))
	}
	s, ok := cheats[f.key]
	switch {
	case ok:
	case f.last != nil:
		s = *f.last
	default:
		return row
	}
	row.FakeAcks, row.AbsorbedAcks, row.Rewritten, row.Retransmits = s.FakeAcks, s.Absorbed, s.Rewritten, s.Retransmits
	row.AcksThinned = s.Thinned
	row.Timeouts, row.TailProbes, row.PathMTU, row.Withdrawn = s.Timeouts, s.TailProbes, uint64(s.PathMTU), s.Withdrawals
	row.FilledBytes, row.FilledMore = s.FilledBytes, s.FilledMore
	row.FillsAgain, row.FillsGivenUp = s.FillsAgain, s.FillsGivenUp
	row.FilledRanges = pairs(s.FilledRanges)
	row.BufferedBytes = uint64(s.Buffered)
	row.RTTSenderUS, row.RTTReceiverUS = uint64(s.RTTSender.Microseconds()), uint64(s.RTTReceiver.Microseconds())
	if s.Reason != "" && !strings.Contains(row.Reason, s.Reason) {
		row.Reason += "; " + s.Reason
	}
	return row
}

// pairs are byte ranges as the API writes them.
func pairs(list []tcpcheat.ByteRange) [][2]uint64 {
	out := make([][2]uint64, 0, len(list))
	for _, r := range list {
		out = append(out, [2]uint64{r.From, r.To})
	}
	return out
}

func seconds(d time.Duration) uint64 { return uint64(max(0, d/time.Second)) }

// Sessions lists one row for each session and sender.
func (d *Daemon) Sessions() []console.SessionRow {
	v, err := d.rsvp.View()
	if err != nil {
		return nil
	}
	rows := make([]console.SessionRow, 0, len(v.Sessions))
	for i := range v.Sessions {
		rows = append(rows, d.sessionRow(&v.Sessions[i]))
	}
	return d.withAggregates(rows, &v)
}

func (d *Daemon) sessionRow(s *softstate.SessionView) console.SessionRow {
	row := console.SessionRow{
		Dst: s.Session.Dst.String(), Protocol: packet.ProtoName(s.Session.Protocol), Dport: s.Session.DstPort,
		Src: s.Sender.Src.String(), Sport: s.Sender.SrcPort, Role: s.Role.String(), Interface: d.links.Load().name(int(s.Out)),
		State: s.State.String(), Error: s.Error(), ErrorFlags: errorFlags(s.Failure), AgeS: seconds(s.Age), TSpec: consoleTSpec(s.TSpec),
	}
	if p := s.Priority; p != nil {
		row.Priority = &console.Priority{Setup: p.Preempting, Hold: p.Defending}
	}
	row.Identities, row.User = s.Identities, d.tc.userOf(s.Reservation)
	for _, c := range s.DSCPs {
		row.DClass = append(row.DClass, int(c))
	}
	if s.PrevHop.IsValid() {
		row.PrevHop = s.PrevHop.String()
	}
	if s.NextHop.IsValid() {
		row.NextHop = s.NextHop.String()
	}
	if s.Style != 0 {
		row.Style = strings.ToLower(s.Style.String())
	}
	if s.FlowSpec != nil {
		row.Service = s.FlowSpec.Service.String()
		row.FlowSpec = consoleFlowSpec(s.FlowSpec)
	}
	row.FlowLabel = s.Sender.Label
	if s.Session.Format != wire.FormatPorts {
		row.Format, row.SPI = s.Session.Format.String(), s.Sender.SPI
	}
	if isAggregate(s.Session) {
		row.DSCP, row.PHB = s.Session.DSCP, dscp.Name(s.Session.DSCP)
		if s.Session.Format == wire.FormatGenericAggregate {
			row.DSCP, row.PHB = 0, fmt.Sprintf("%#04x", s.Session.PHB)
		} else if s.State == softstate.Reserved && d.tc.byDSCP(row.Interface) {
			row.Class = plan.LevelClass(s.Session.DSCP).String()
		}
		return row
	}
	if p := d.flows.policyOf(matchKey(s.Session, s.Sender)); p != nil {
		row.Policy = p.Name
	}
	if m, ok := d.tc.view(s.Reservation, flowKey(s.Session, s.Sender)); ok {
		row.DSCP, row.Class = m.put.DSCP, m.class.String()
		row.PHB = dscp.Name(m.put.DSCP)
	}
	return row
}

// Links lists one row for each interface of the configuration.
func (d *Daemon) Links() []console.LinkRow {
	classes, codes := d.classRows(), d.dscpRows()
	l := d.links.Load()
	rows := make([]console.LinkRow, 0, len(l.list))
	for i := range l.list {
		k := &l.list[i]
		row := console.LinkRow{
			Name: k.Name, Zone: k.cfg.Zone.String(), Trust: k.cfg.Trust.String(), Up: k.Up, MTU: k.MTU,
			CapacityBPS: k.cfg.Capacity * 8, ReservableBPS: k.cfg.Reservable * 8, Classes: classes[k.Name],
			Classify: k.cfg.Classify.String(), BestEffortBPS: k.cfg.BestEffort * 8, DSCPs: codes[k.Name],
		}
		row.Shared = d.sharedRows(k)
		if u, ok, err := d.admit.Usage(k.Name); err == nil && ok {
			row.ReservedBPS, row.FreeBPS, row.Reservations = uint64(u.Bandwidth)*8, bits(u.Free), u.Reservations
		}
		row.Services, row.Levels = d.serviceRows(k), d.levelRows(k)
		rows = append(rows, row)
	}
	return rows
}

// Policies lists the policies in the order in which they are tried.
func (d *Daemon) Policies() []console.PolicyRow {
	p := d.flows.current()
	index := map[string]int{}
	rows := make([]console.PolicyRow, 0, len(p.list))
	for i := range p.list {
		index[p.list[i].Name] = i
		rows = append(rows, policyRow(&p.list[i]))
	}
	d.flows.each(func(c conn) {
		for i := range c.dirs {
			if f := &c.dirs[i]; f.present && f.policy != nil {
				if n, ok := index[f.policy.Name]; ok {
					rows[n].Flows++
					if !f.reserved.IsZero() {
						rows[n].Reservations++
					}
				}
			}
		}
	})
	for name, n := range d.flows.matches() {
		if i, ok := index[name]; ok {
			rows[i].Matched = n
		}
	}
	return rows
}

// Users lists those whose reservations are counted together.
func (d *Daemon) Users() []console.UserRow {
	list, held := d.cfg.Load().Admission.Users, d.tc.perUser()
	rows := make([]console.UserRow, 0, len(list))
	for i := range list {
		u := &list[i]
		row := console.UserRow{
			Name: u.Name, Line: u.Line, Identities: u.Identities, From: texts(u.From), LimitBPS: u.Rate * 8, Reservations: held[u.Name],
		}
		if sum, err := d.admit.Sum(admission.UserAccount(u.Name)); err == nil {
			row.ReservedBPS = uint64(sum) * 8
		}
		rows = append(rows, row)
	}
	return rows
}

func policyRow(p *config.Policy) console.PolicyRow {
	row := console.PolicyRow{
		Name: p.Name, Line: p.Line, From: texts(p.Match.From), To: texts(p.Match.To),
		FromPort: ranges(p.Match.FromPort), ToPort: ranges(p.Match.ToPort),
		DSCP: -1, TCPMode: p.TCP.String(), ThinAcks: p.ThinAcks, Fill: p.Fill, Excess: p.Excess.String(),
	}
	if p.Match.Protocol != 0 {
		row.Protocol = packet.ProtoName(p.Match.Protocol)
	}
	if p.Marked {
		row.DSCP, row.PHB = int(p.DSCP), dscp.Name(p.DSCP)
	}
	if q := p.Police; q != nil {
		row.Police = &console.Police{RateBPS: q.Rate * 8, Burst: q.Burst, Per: "all"}
		if q.PerFlow {
			row.Police.Per = "flow"
		}
	}
	if r := p.Reserve; r != nil && r.Priority.Given {
		row.Priority = &console.Priority{Setup: r.Priority.Setup, Hold: r.Priority.Hold}
	}
	if r := p.Reserve; r != nil {
		row.Role, row.Service, row.TSpec = r.Role.String(), r.Service.String(), consoleTSpec(tspecOf(r.TSpec))
		row.DelayUS = uint64(r.Delay.Microseconds())
	}
	return row
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func ranges(list [][2]uint16) []string {
	out := make([]string, 0, len(list))
	for _, r := range list {
		if r[0] == r[1] {
			out = append(out, fmt.Sprint(r[0]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", r[0], r[1]))
		}
	}
	return out
}

// Status is the daemon at a glance.
func (d *Daemon) Status() console.Status {
	c := d.cfg.Load()
	s := console.Status{
		Version: d.opts.Version, State: d.state.Load().(string), PID: os.Getpid(), Mode: c.Mode.String(),
		ConfigFile: d.opts.ConfigFile, UptimeS: seconds(time.Since(d.started)), Capture: "xt", DataPlane: "ebpf",
		Policies: len(c.Policies), Links: len(c.Interfaces), Ledger: d.ledgerStatus(), Problems: d.problems(),
	}
	if t := d.table.Load(); t != nil && t.Native() {
		s.Capture = "native"
	}
	r := d.reload.get()
	s.Reload = console.ReloadStatus{Count: r.count, Failed: r.failed, OK: r.err == nil, AgeS: seconds(time.Since(d.started))}
	if r.err != nil {
		s.Reload.Error = r.err.Error()
	}
	if !r.at.IsZero() {
		s.Reload.AgeS = seconds(time.Since(r.at))
	}
	d.flows.each(func(c conn) {
		for i := range c.dirs {
			if !c.dirs[i].present {
				continue
			}
			switch c.dirs[i].state {
			case stateWatched:
				s.Flows.Watched++
			case stateManaged:
				s.Flows.Managed++
			case stateCheated:
				s.Flows.Cheated++
			case stateLeftAlone:
				s.Flows.LeftAlone++
			}
		}
	})
	if v, err := d.rsvp.View(); err == nil {
		for i := range v.Sessions {
			countSession(&s.Sessions, v.Sessions[i].State)
		}
		s.Problems = append(s.Problems, stale(v.Security)...)
	}
	return s
}

func countSession(c *console.SessionCount, s softstate.State) {
	switch s {
	case softstate.Inactive:
		c.Inactive++
	case softstate.PathOnly:
		c.Path++
	case softstate.Requested:
		c.Requested++
	case softstate.Reserved:
		c.Reserved++
	case softstate.Rejected:
		c.Rejected++
	case softstate.Blockaded:
		c.Blockaded++
	default:
	}
}

// problems says what is not as it should be, a sentence each.
func (d *Daemon) problems() []string {
	out := []string{}
	if n := d.beats.failed.get(); n > 0 {
		out = append(out, fmt.Sprintf("the guard of the queue rules could not be renewed %d times: packets passed untouched meanwhile", n))
	}
	if p := d.promises.problem(); p != "" {
		out = append(out, p)
	}
	for _, q := range d.queues {
		if c := q.q.Counters(); c.KernelKnown && c.Kernel.QueueDropped+c.Kernel.UserDropped > 0 {
			out = append(out, fmt.Sprintf("queue %d (%s) lost %d packets: the box is too slow for this traffic",
				q.num, q.role, c.Kernel.QueueDropped+c.Kernel.UserDropped))
		}
	}
	if wrong := d.amiss.Load(); wrong != nil {
		out = append(out, *wrong...)
	}
	if err := d.unwatched.Load(); err != nil && *err != nil {
		out = append(out, fmt.Sprintf("the kernel does not tell changes of interfaces (%v): they are looked for each minute, and it is asked again each second", *err))
	}
	out = append(out, d.sharedProblems()...)
	out = append(out, d.cfg.Load().Problems()...)
	out = append(out, d.hands.wrongMarks()...)
	if err := d.hands.problem; err != nil {
		out = append(out, err.Error())
	}
	if _, full := d.flows.size(); full > 0 {
		out = append(out, fmt.Sprintf("%d flows found no room (limits.flows) and passed untouched", full))
	}
	return append(out, d.oversold()...)
}

// stale says which keys are used on although they have ended (RFC 2747 section 5.3).
func stale(v *rsvpproxy.SecurityView) (out []string) {
	if v == nil {
		return nil
	}
	for _, s := range v.Stale {
		out = append(out, fmt.Sprintf("the last key of %s has ended (id %s) and is used on: give a new one, its lifetime overlapping",
			s.Interface, strings.Trim(fmt.Sprint(s.Keys), "[]")))
	}
	return out
}

// Healthy returns nil while packets are handled as they should be.
func (d *Daemon) Healthy() error {
	if s := d.state.Load().(string); s != "running" {
		return errors.New("the daemon is " + s)
	}
	if _, err := d.rsvp.View(); err != nil {
		return err
	}
	for _, worker := range d.cheat.snapshots(workerTimeout) {
		if worker.err != nil {
			return worker.err
		}
	}
	return nil
}
