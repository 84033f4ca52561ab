package table

import (
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
		t.row(r.ID, text(r.Owner), r.Protocol, endpoint(r.Src, r.Sport), endpoint(r.Dst, r.Dport), r.Side, r.State, r.Service, r.Style, tr, tb,
			r.PHB, r.TCPMode, text(r.Class), age(r.AgeS), text(r.Expires), text(r.Comment), why)
	}
	return t.end()
}
