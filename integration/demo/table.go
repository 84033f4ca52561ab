package demo

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable writes the report for people, in lines of less than 100 columns.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	if r.Scenario == voiceAdmit {
		r.writeEF(&b)
	} else {
		r.writeAsymmetric(&b)
	}
	r.writeWAN(&b)
	r.writeReservations(&b)
	r.writeTargets(&b)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	verdict := "every target is met"
	if !r.Pass {
		verdict = "a target is MISSED"
	}
	fmt.Fprintf(&b, "\n%s (%.0f s)\n", verdict, r.DurationS)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeAsymmetric(b *strings.Builder) {
	fmt.Fprintf(b, `Scenario %s: host A - box 1 - WAN - box 2 - host B. WAN: 20 Mbit/s towards B, 256 kbit/s
back with a queue of 64 kB, 100 ms round trip. A UDP flood of 30 Mbit/s towards B, and bulk traffic
in the way of the ACKs. The first %g s of each transfer and call under load are not counted.
`, r.Scenario, r.WarmupS)
	if r.Scenario == bridge {
		b.WriteString("The boxes are bridges without addresses, and all hosts are in one network: BEFORE they are there too.\n")
	}
	for _, cc := range []string{"cubic", "bbr"} {
		r.writeTransfers(b, cc)
	}
	r.writeVoice(b)
}

// find returns the flow of a column, nil if there is none.
func (r *Report) find(name, phase, cc, mode string) *Flow {
	for i := range r.Flows {
		f := &r.Flows[i]
		if f.Name == name && f.Phase == phase && f.CongestionControl == cc && f.TCPMode == mode {
			return f
		}
	}
	return nil
}

// writeTransfers writes one congestion control's figures: a line for each
// figure, a column for each phase.
func (r *Report) writeTransfers(b *strings.Builder, cc string) {
	t := newColumns(b)
	t.line("TCP, "+cc, "BEFORE", "AFTER: REALTIME", "AFTER: RELIABLE")
	flows := []*Flow{
		r.find("imaging", PhaseBefore, cc, ""),
		r.find("imaging", PhaseAfter, cc, modeRealtime), r.find("imaging", PhaseAfter, cc, modeReliable),
	}
	t.figure("goodput", flows, func(f *Flow) string { return mbits(f.GoodputBPS) })
	t.figure("segments resent by the source", flows, func(f *Flow) string { return number(f.Retransmits) })
	t.figure("segments resent by box 1", flows, func(f *Flow) string { return number(f.BoxRetransmits) })
	t.figure("first packet to reservation", flows, func(f *Flow) string { return setup(f.SetupUS) })
	t.figure("SHA-256 of what B received", flows, content)
	t.end()
}

func (r *Report) writeVoice(b *strings.Builder) {
	t := newColumns(b)
	t.line("VOICE, 64 kbit/s", "UNLOADED", "BEFORE", "AFTER")
	flows := []*Flow{r.find("voice", PhaseUnloaded, "", ""), r.find("voice", PhaseBefore, "", ""), r.find("voice", PhaseAfter, "", "")}
	t.figure("packets lost", flows, loss)
	t.figure("one-way delay p50", flows, func(f *Flow) string { return microsText(f.DelayP50US) })
	t.figure("one-way delay p99", flows, func(f *Flow) string { return microsText(f.DelayP99US) })
	t.figure("one-way delay, most", flows, func(f *Flow) string { return microsText(f.DelayMaxUS) })
	t.figure("jitter, most", flows, func(f *Flow) string { return microsText(f.JitterUS) })
	t.figure("first packet to reservation", flows, func(f *Flow) string { return setup(f.SetupUS) })
	t.end()
}

func (r *Report) writeWAN(b *strings.Builder) {
	t := newColumns(b)
	t.line("WAN", "FRAMES", "DROPPED", "LONGEST WAIT IN ITS QUEUE")
	for _, d := range r.WAN {
		t.line("towards "+d.Towards, fmt.Sprint(d.Frames), fmt.Sprint(d.QueueDrops), microsText(&d.MaxQueueDelayUS))
	}
	t.end()
}

// writeReservations writes one line for each box and policy, as first seen.
func (r *Report) writeReservations(b *strings.Builder) {
	t := newColumns(b)
	t.line("BOX", "POLICY", "ROLE", "STATE", "DSCP", "CLASS", "TSPEC r b p m M", "FLOWSPEC")
	seen := map[string]bool{}
	for i := range r.Reservations {
		row := &r.Reservations[i]
		if key := row.Box + row.Policy; seen[key] {
			continue
		} else {
			seen[key] = true
		}
		flow := "-"
		if row.FlowSpec != nil {
			flow = spec(&row.FlowSpec.TSpec)
		}
		if tspec := spec(row.TSpec); flow == tspec {
			flow = "the same"
		}
		t.line(strings.TrimPrefix(row.Box, "box"), row.Policy, strings.TrimSuffix(row.Role, "-proxy"), row.State,
			fmt.Sprintf("%d %s", row.DSCP, row.PHB), cmp.Or(row.Class, "-"), spec(row.TSpec), flow)
	}
	if len(r.Reservations) == 0 {
		t.line("none")
	}
	t.end()
	fmt.Fprintln(b, "(r and p in kbit/s, b, m and M in bytes)")
}

func (r *Report) writeTargets(b *strings.Builder) {
	t := newColumns(b)
	t.line("TARGET", "VALUE", "WANTED", "")
	for _, x := range r.Targets {
		verdict := "ok"
		if !x.Pass {
			verdict = "MISSED"
		}
		t.line(x.Name, figure(x.Value, x.Unit)+" "+x.Unit, x.Relation+" "+figure(x.Target, x.Unit), verdict)
	}
	t.end()
}

// columns aligns lines.
type columns struct {
	out *strings.Builder
	tw  *tabwriter.Writer
	buf strings.Builder
}

func newColumns(out *strings.Builder) *columns {
	c := &columns{out: out}
	c.tw = tabwriter.NewWriter(&c.buf, 0, 0, 2, ' ', 0)
	return c
}

func (c *columns) line(cells ...string) {
	fmt.Fprintln(c.tw, strings.Join(cells, "\t")) // into memory
}

// figure writes a line with a cell for each flow.
func (c *columns) figure(name string, flows []*Flow, cell func(*Flow) string) {
	cells := []string{name}
	for _, f := range flows {
		text := "-"
		if f != nil {
			text = cell(f)
		}
		cells = append(cells, text)
	}
	c.line(cells...)
}

// end writes what was collected, after an empty line.
func (c *columns) end() {
	_ = c.tw.Flush() // into memory
	c.out.WriteByte('\n')
	for line := range strings.Lines(c.buf.String()) {
		c.out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func content(f *Flow) string {
	switch {
	case f.Complete == nil:
		return "-"
	case *f.Complete:
		return "equal " + f.SHA256Received[:min(8, len(f.SHA256Received))]
	case f.Phase == PhaseBefore:
		return "cut off"
	default:
		return "not equal"
	}
}

func loss(f *Flow) string {
	if f.Lost == nil || f.Sent == nil || f.Loss == nil {
		return "-"
	}
	return fmt.Sprintf("%d of %d (%.3g%%)", *f.Lost, *f.Sent, *f.Loss*100)
}

func number[T uint32 | uint64](n *T) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func setup(us *uint64) string {
	if us == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f s", float64(*us)/1e6)
}

func microsText(us *float64) string {
	if us == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", *us/1e3)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

func mbits(bps float64) string { return fmt.Sprintf("%.2f Mbit/s", bps/1e6) }

// figure writes a rate with two decimals, a time with one, and a number with
// none.
func figure(v float64, unit string) string {
	switch unit {
	case unitRate:
		return fmt.Sprintf("%.2f", v)
	case unitTime:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
