package daemon

import (
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Accounting lists the records: those that have ended and were not read, in the
// order of their ends, then those that run.
func (d *Daemon) Accounting() []console.AccountingRow {
	d.accounts.look()
	var list []accounting.Record
	var at time.Time
	d.accounts.read(func(b *accounting.Book, now time.Time) { list, at = append(b.Ended(), b.Running(now)...), now })
	d.accounts.settle() // what is shown will not be shown otherwise by the next process
	rows := make([]console.AccountingRow, 0, len(list))
	for i := range list {
		rows = append(rows, accountRow(at, &list[i]))
	}
	return rows
}

// AccountingUsers lists the users' sums.
func (d *Daemon) AccountingUsers() []console.AccountingSum {
	d.accounts.look()
	var list []accounting.Sum
	d.accounts.read(func(b *accounting.Book, now time.Time) { list = b.Users(now) })
	rows := make([]console.AccountingSum, 0, len(list))
	for i := range list {
		s := &list[i]
		rows = append(rows, console.AccountingSum{
			AccountingUser: accountUser(s.User), Running: s.Running, Reservations: s.Flows, DurationS: milliseconds(s.Seconds),
			AccountingUsage: accountUsage(s.Usage), PeakBPS: uint64(s.Peak * 8), Seen: rfc3339(s.Seen),
		})
	}
	return rows
}

// AccountingRead strikes out the records that a reader has.
func (d *Daemon) AccountingRead(through uint64) console.AccountingStruck {
	var out console.AccountingStruck
	d.accounts.do(func(b *accounting.Book, _ time.Time) {
		out.Struck = b.Strike(through)
		out.Left = b.Totals().Kept
	})
	return out
}

func (d *Daemon) accountingStats() (s console.AccountingStats) {
	k := d.accounts
	k.read(func(b *accounting.Book, _ time.Time) {
		t := b.Totals()
		s = console.AccountingStats{
			Running: t.Running, Kept: t.Kept, Ended: t.Ended, Read: t.Read, Lost: t.Lost, LostBytes: t.LostUsage.Seen().Bytes,
			Users: t.Users, UsersFolded: t.Folded, AccountingUsage: accountUsage(t.Usage),
			LinesLost: k.missed + k.lines.lost.get(), SaveErrors: k.errors.get(),
		}
	})
	return s
}

func accountUsage(u accounting.Usage) console.AccountingUsage {
	sum := u.Carried()
	return console.AccountingUsage{
		Packets: sum.Packets, Bytes: sum.Bytes, ConformPackets: u.Conform.Packets, ConformBytes: u.Conform.Bytes,
		ExceedPackets: u.Exceed.Packets, ExceedBytes: u.Exceed.Bytes, DroppedPackets: u.Dropped.Packets, DroppedBytes: u.Dropped.Bytes,
	}
}

func accountUser(u accounting.User) console.AccountingUser {
	return console.AccountingUser{User: u.Name, Kind: string(u.Kind)}
}

// accountRow is a record as the API, the log and the file have it.
func accountRow(now time.Time, r *accounting.Record) console.AccountingRow {
	row := console.AccountingRow{
		Serial: r.Serial, State: console.AccountRunning, Dst: r.Dst.String(), Protocol: packet.ProtoName(r.Protocol), Dport: r.Dport,
		Format: r.Format, Sport: r.Sport, SPI: r.SPI, FlowLabel: r.Label, Style: r.Style, Service: r.Service, Policy: r.Policy,
		DSCP: r.DSCP, PHB: dscp.Name(r.DSCP), ReservedBPS: uint64(r.Rate * 8), Begin: rfc3339(r.Begin), End: rfc3339(r.End),
		DurationS: milliseconds(r.Duration(now).Seconds()), Reason: r.Why, AccountingUsage: accountUsage(r.Usage), PeakBPS: uint64(r.Peak * 8),
		Users: []console.AccountingUser{}, Branches: []console.AccountingBranch{}, More: r.More,
	}
	if !r.End.IsZero() {
		row.State = console.AccountEnded
	}
	if r.Src.IsValid() {
		row.Src = r.Src.String()
	}
	for i := range r.Parts {
		p := &r.Parts[i]
		u := accountUser(p.User)
		if !slices.Contains(row.Users, u) {
			row.Users = append(row.Users, u)
		}
		b := console.AccountingBranch{
			Interface: p.Interface, Src: p.Key.SrcAddr().String(), AccountingUser: u, Begin: rfc3339(p.Begin), End: rfc3339(p.End),
			AccountingUsage: accountUsage(p.Usage), PeakBPS: uint64(p.Peak * 8),
		}
		if p.Key.SPI() == 0 {
			b.Sport = p.Key.SrcPort
		}
		row.Branches = append(row.Branches, b)
	}
	return row
}

// rfc3339 writes a time to the millisecond; "" for none.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// milliseconds rounds seconds to them.
func milliseconds(s float64) float64 { return float64(int64(s*1000+0.5)) / 1000 }
