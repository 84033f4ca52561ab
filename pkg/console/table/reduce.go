package table

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Reduction prints what a reduction in place did.
func Reduction(w io.Writer, r console.Reduction) error {
	senders := make([]string, 0, len(r.Senders))
	for _, s := range r.Senders {
		senders = append(senders, endpoint(s.Src, s.Sport))
	}
	_, err := fmt.Fprintln(w, printable(fmt.Sprintf("%s %s -> %s on %s: %s left of %s; it may be asked for in full again in %v",
		r.Protocol, strings.Join(senders, ", "), endpoint(r.Dst, r.Dport), r.Interface, reserved(r.FlowSpec), reserved(r.Before),
		time.Duration(r.LastsS*float64(time.Second)).Round(time.Second))))
	return err
}

// reserved is what admission counts of a reservation.
func reserved(f *console.FlowSpec) string {
	if f == nil {
		return text("")
	}
	return scaled(max(f.R, f.Rate)*8, "bit/s")
}
