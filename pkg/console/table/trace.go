package table

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Trace prints one line for each box on a session's way.
func Trace(w io.Writer, t console.Trace) error {
	if _, err := fmt.Fprintln(w, printable(fmt.Sprintf("%s %s -> %s, from the last hop %s: %d hops, %s, %s, attempts %d",
		t.Protocol, endpoint(t.Src, t.Sport), endpoint(t.Dst, t.Dport), t.LastHop, len(t.Hops), micros(t.TookUS), text(t.Reply), t.Attempts))); err != nil {
		return err
	}
	if len(t.Hops) > 0 {
		if err := traceHops(w, t.Hops); err != nil {
			return err
		}
	}
	if t.Complete {
		return nil
	}
	_, err := fmt.Fprintln(w, printable("not complete: "+t.Message))
	return err
}

func traceHops(w io.Writer, hops []console.TraceHop) error {
	tab := newTable(w, "HOP", "OUT", "IN", "PREVIOUS", "GAP", "AT", "STYLE", "SERVICE", "TSPEC", "RESERVED", "SENDERS", "R", "K", "NOTE")
	for _, h := range hops {
		var notes, filters []string
		if h.Merged {
			notes = append(notes, "merged")
		}
		notes = append(notes, h.Errors...)
		for _, f := range h.Filters {
			filters = append(filters, endpoint(f.Src, f.Sport))
		}
		tspec, reserved := "-", "-"
		if h.TSpec != nil {
			tspec = bucket(*h.TSpec)
		}
		if h.FlowSpec != nil {
			if reserved = bucket(h.FlowSpec.TSpec); h.FlowSpec.Rate > 0 {
				reserved += " R " + scaled(h.FlowSpec.Rate*8, "bit/s")
			}
		}
		tab.row(fmt.Sprint(h.Hop), text(h.Out), text(h.In), text(h.PrevHop), count(uint64(h.DTTL)), offset(h.OffsetUS), text(h.Style), text(h.Service),
			tspec, reserved, text(strings.Join(filters, ",")), age(uint64(h.RefreshS)), count(uint64(h.K)), strings.Join(notes, ", "))
	}
	return tab.end()
}

func bucket(t console.TSpec) string {
	return scaled(t.R*8, "bit/s") + " / " + scaled(t.B, "B")
}

// offset writes the time since the request was sent, by clocks that need not agree.
func offset(us int64) string {
	sign := "+"
	if us < 0 {
		sign, us = "-", -us
	}
	if d := time.Duration(us) * time.Microsecond; d >= time.Minute {
		return sign + d.Round(time.Second).String()
	}
	return sign + digits(float64(us)/1000) + " ms"
}
