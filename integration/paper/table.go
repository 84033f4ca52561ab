package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// markdown writes tables whose columns also stand in line as they are.
type markdown struct {
	rows [][]string
}

func (m *markdown) line(cells ...string) { m.rows = append(m.rows, cells) }

func (m *markdown) String() string {
	if len(m.rows) == 0 {
		return ""
	}
	widths := make([]int, len(m.rows[0]))
	for _, row := range m.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}
	var b strings.Builder
	for n, row := range m.rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// curve is the points of one line of a figure.
type curve struct {
	cc, mode string
	thinned  bool
	points   []point
}

func (c *curve) name() string {
	name := c.cc + ", " + c.mode
	if c.thinned {
		name += ", thin_acks"
	}
	return name
}

// merge makes one point of those that several runs have measured at the same
// place: the median of their goodputs, and the faults of any of them.
func merge(same []point) point {
	slices.SortFunc(same, func(a, b point) int {
		return cmp.Or(cmp.Compare(b2i(a.good()), b2i(b.good())), cmp.Compare(a.Goodput, b.Goodput))
	})
	one := same[0] // a bad one, if there is any
	rates := make([]float64, len(same))
	for i := range same {
		rates[i] = same[i].Goodput
	}
	slices.Sort(rates)
	one.Goodput = (rates[(len(rates)-1)/2] + rates[len(rates)/2]) / 2
	return one
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// curves sorts the points of a figure into its lines.
func (r *report) curves(figure string) []curve {
	var list []curve
	for _, p := range r.Points {
		if p.Figure != figure {
			continue
		}
		i := slices.IndexFunc(list, func(c curve) bool { return c.cc == p.CC && c.mode == p.Mode && c.thinned == p.Thinned })
		if i < 0 {
			i = len(list)
			list = append(list, curve{cc: p.CC, mode: p.Mode, thinned: p.Thinned})
		}
		list[i].points = append(list[i].points, p)
	}
	for i := range list {
		c := &list[i]
		slices.SortStableFunc(c.points, func(a, b point) int { return cmp.Or(cmp.Compare(b.Back, a.Back), cmp.Compare(a.Loss, b.Loss)) })
		var merged []point
		for len(c.points) > 0 {
			n := 1
			for n < len(c.points) && c.points[n].Back == c.points[0].Back && c.points[n].Loss == c.points[0].Loss {
				n++
			}
			merged = append(merged, merge(c.points[:n]))
			c.points = c.points[n:]
		}
		c.points = merged
	}
	slices.SortStableFunc(list, func(a, b curve) int { return cmp.Compare(a.cc, b.cc) })
	return list
}

func (r *report) table(w io.Writer) error {
	var b strings.Builder
	for _, f := range []struct{ figure, head string }{{figureRate, "way back"}, {figureLoss, "lost on the way back"}} {
		lines := r.curves(f.figure)
		if len(lines) == 0 {
			continue
		}
		var m markdown
		head := []string{f.head}
		for _, c := range lines {
			head = append(head, c.name())
		}
		m.line(head...)
		for i := range lines[0].points {
			at := &lines[0].points[i]
			cells := []string{at.at()}
			for _, c := range lines {
				j := slices.IndexFunc(c.points, func(p point) bool { return p.Back == at.Back && p.Loss == at.Loss })
				if j < 0 {
					cells = append(cells, "")
					continue
				}
				cells = append(cells, strings.TrimSpace(mbits(c.points[j].Goodput)+" "+c.points[j].remark()))
			}
			m.line(cells...)
		}
		fmt.Fprintf(&b, "%s\n", &m)
	}
	if len(r.Points) > 0 {
		fmt.Fprintf(&b, "Mbit/s of payload; the reservation carries %s. %s\n", mbits(carries), r.circumstances())
	}
	r.latencyTable(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// at is where the point stands in its figure.
func (p *point) at() string {
	if p.Figure == figureLoss {
		return percent(p.Loss)
	}
	return unit(p.Back)
}

// remark says what a reader has to know about a point, "" for nothing.
func (p *point) remark() string {
	switch {
	case !p.Intact:
		return "(WRONG BYTES)"
	case p.Whole != nil && !*p.Whole:
		return "(BYTES ARE MISSING)"
	case p.Reserved != reserved:
		return fmt.Sprintf("(NOT RESERVED: %s %s)", p.State, p.Reason)
	case !p.good():
		return fmt.Sprintf("(%s %s)", p.State, p.Reason)
	default:
		return ""
	}
}

func (r *report) circumstances() string {
	text := fmt.Sprintf("load %.1f at the start and %.1f at the end", r.LoadBefore, r.LoadAfter)
	if r.Runs > 1 {
		text = fmt.Sprintf("medians of %d runs, load %.1f at most", r.Runs, max(r.LoadBefore, r.LoadAfter))
	}
	return fmt.Sprintf("%d processors, %s, %.0f s; the first %.3g s of each transfer are not counted, the next %.3g s are.",
		r.Processors, text, r.TookS, r.WarmupS, r.WindowS)
}
