package table

import (
	"fmt"
	"io"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Reservations prints one line per reservation made by hand.
func Reservations(w io.Writer, rows []console.ReservationRow) error {
	if len(rows) == 0 {
		return empty(w, "reservations")
	}
	t := newTable(w, "ID", "OWNER", "PROTO", "SOURCE", "DESTINATION", "SIDE", "STATE", "SERVICE", "STYLE", "R", "B", "PHB", "TCP", "CLASS", "AGE", "EXPIRES", "COMMENT", "REASON")
	for _, r := range rows {
		tr, tb := "-", "-"
		if r.TSpec != nil {
			tr, tb = scaled(r.TSpec.R*8, "bit/s"), scaled(r.TSpec.B, "B")
		}
		why := r.Error
		if why == "" {
			why = r.Reason
		}
		state := r.State
		if n, of := r.Places(); of > 1 {
			state += fmt.Sprintf(" %d/%d", n, of) // interfaces
		}
		t.row(r.ID, text(r.Owner), r.Protocol, endpoint(r.Src, r.Sport), endpoint(r.Dst, r.Dport), r.Side, state, r.Service, r.Style, tr, tb,
			r.PHB, r.TCPMode, text(r.Class), age(r.AgeS), text(r.Expires), text(r.Comment), why)
	}
	return t.end()
}
