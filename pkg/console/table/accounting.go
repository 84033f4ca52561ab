package table

import (
	"io"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Accounting prints one line per reservation, and one for each of its branches where
// there are several.
func Accounting(w io.Writer, rows []console.AccountingRow) error {
	if len(rows) == 0 {
		return empty(w, "records")
	}
	t := newTable(w, "SERIAL", "PROTO", "SOURCE", "DESTINATION", "INTERFACE", "USER", "PHB", "RESERVED", "BEGIN", "TIME", "PACKETS", "BYTES", "CONFORM", "EXCEED", "DROPPED", "PEAK", "REASON")
	for i := range rows {
		r := &rows[i]
		serial, protocol, from := "-", r.Protocol, "-"
		if r.Serial != 0 {
			serial = count(r.Serial)
		}
		if r.Format != "" {
			protocol = r.Format
		}
		if r.Src != "" {
			from = source(r.Src, r.Sport, r.SPI, r.FlowLabel)
		}
		var users, out []string
		for _, u := range r.Users {
			users = append(users, u.User)
		}
		for _, b := range r.Branches {
			out = append(out, b.Interface)
		}
		if len(out) > 1 {
			out = []string{count(uint64(len(out) + r.More))}
		}
		t.row(serial, protocol, from, endpoint(r.Dst, r.Dport), text(strings.Join(out, "")), text(strings.Join(users, ",")), r.PHB, rate(r.ReservedBPS),
			r.Begin, lasted(r.DurationS), count(r.Packets), size(r.Bytes), size(r.ConformBytes), size(r.ExceedBytes), size(r.DroppedBytes), rate(r.PeakBPS), text(r.Reason))
		if len(r.Branches) < 2 {
			continue
		}
		for _, b := range r.Branches {
			t.row("", "", endpoint(b.Src, b.Sport), "", b.Interface, b.User, "", "", b.Begin, "", count(b.Packets), size(b.Bytes),
				size(b.ConformBytes), size(b.ExceedBytes), size(b.DroppedBytes), rate(b.PeakBPS), "")
		}
	}
	return t.end()
}

// AccountingUsers prints one line per user.
func AccountingUsers(w io.Writer, rows []console.AccountingSum) error {
	if len(rows) == 0 {
		return empty(w, "users")
	}
	t := newTable(w, "USER", "KNOWN BY", "RUNNING", "RESERVATIONS", "TIME", "PACKETS", "BYTES", "CONFORM", "EXCEED", "DROPPED", "PEAK", "SEEN")
	for _, r := range rows {
		t.row(text(r.User), r.Kind, count(r.Running), count(r.Reservations), lasted(r.DurationS), count(r.Packets), size(r.Bytes),
			size(r.ConformBytes), size(r.ExceedBytes), size(r.DroppedBytes), rate(r.PeakBPS), r.Seen)
	}
	return t.end()
}

func lasted(s float64) string { return (time.Duration(s*1000) * time.Millisecond).String() }
