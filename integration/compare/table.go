package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeTable writes one line for each way back, congestion control and variant.
func writeTable(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way back\tcc\tvariant\tMbit/s\tused back, kbit/s\tACKs thinned\tsent again by source\tby box 1\tintact\t")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%d kbit/s\t%s\t%s\t%.2f\t%.1f\t%d\t%d\t%d\t%t\t\n",
			r.Back/1000, r.CC, r.Variant, r.Goodput/1e6, r.Used/1e3, r.Thinned, r.Retransmits, r.Resent, r.Intact)
	}
	return t.Flush()
}
