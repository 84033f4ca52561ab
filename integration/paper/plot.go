package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// colours of the modes: distinct for colour-blind readers too.
var colours = map[string]color.RGBA{
	modeNone:     {R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	modePace:     {R: 0xcc, G: 0x79, B: 0xa7, A: 0xff},
	modeRealtime: {R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	modeReliable: {R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

// shapes of the modes, since two lines often lie upon each other.
var shapes = map[string]draw.GlyphDrawer{
	modeNone: draw.CrossGlyph{}, modePace: draw.TriangleGlyph{}, modeRealtime: draw.RingGlyph{}, modeReliable: draw.PlusGlyph{},
}

// draw writes one plot for each figure and congestion control.
func (r *report) draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("directory for plots: %w", err)
	}
	for _, figure := range []string{figureRate, figureLoss} {
		all := r.curves(figure)
		for len(all) > 0 {
			cc := all[0].cc
			end := slices.IndexFunc(all, func(c curve) bool { return c.cc != cc })
			if end < 0 {
				end = len(all)
			}
			file := filepath.Join(dir, fmt.Sprintf("tcp-%s-%s.svg", figure, cc))
			if err := drawOne(file, figure, cc, all[:end]); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			all = all[end:]
		}
	}
	return nil
}

func drawOne(file, figure, cc string, lines []curve) error {
	p := plot.New()
	p.Title.Text = "A " + cc + " source, 20 Mbit/s and 100 ms, 19 Mbit/s reserved"
	p.Y.Label.Text = "payload received, Mbit/s"
	p.Y.Min, p.Y.Max = 0, 22
	x := func(pt *point) float64 { return pt.Loss * 100 }
	p.X.Label.Text = "ACKs lost on the way back, %"
	if figure == figureRate {
		x = func(pt *point) float64 { return float64(pt.Back) }
		p.X.Label.Text = "bandwidth of the way back"
		p.X.Scale = plot.LogScale{}
		var ticks plot.ConstantTicks
		for i := range lines[0].points {
			at := &lines[0].points[i]
			ticks = append(ticks, plot.Tick{Value: x(at), Label: short(at.Back)})
		}
		p.X.Tick.Marker = ticks
	}
	p.Add(plotter.NewGrid())
	first, last := &lines[0].points[0], &lines[0].points[len(lines[0].points)-1]
	limit, err := plotter.NewLine(plotter.XYs{{X: x(first), Y: carries / 1e6}, {X: x(last), Y: carries / 1e6}})
	if err != nil {
		return err
	}
	limit.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(limit)
	p.Legend.Add("what the reservation carries", limit)
	for _, c := range lines {
		xys := make(plotter.XYs, len(c.points))
		for i := range c.points {
			xys[i].X, xys[i].Y = x(&c.points[i]), c.points[i].Goodput/1e6
		}
		line, marks, err := plotter.NewLinePoints(xys)
		if err != nil {
			return err
		}
		line.Color, marks.Color = colours[c.mode], colours[c.mode]
		line.Width, marks.Shape, marks.Radius = vg.Points(1.5), shapes[c.mode], vg.Points(4)
		if !c.thinned && c.mode != modeNone {
			line.Dashes = []vg.Length{vg.Points(6), vg.Points(3)}
		}
		p.Add(line, marks)
		p.Legend.Add(c.label(), line, marks)
	}
	p.Legend.YPosition, p.Legend.Padding = draw.PosCenter, vg.Points(2)
	p.Legend.Left = figure == figureLoss
	return p.Save(16*vg.Centimeter, 10*vg.Centimeter, file)
}

// label names a line in a plot, whose title says the rest.
func (c *curve) label() string {
	switch {
	case c.mode == modeNone:
		return "without cheating (tcp: none)"
	case c.thinned:
		return "tcp: " + c.mode + ", thin_acks"
	default:
		return "tcp: " + c.mode
	}
}

// short writes a rate under an axis.
func short(bps int64) string {
	if bps >= 1e6 {
		return fmt.Sprintf("%gM", float64(bps)/1e6)
	}
	return fmt.Sprintf("%gk", float64(bps)/1e3)
}
