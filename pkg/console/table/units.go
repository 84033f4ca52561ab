package table

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// scaled writes v with three significant digits and the prefix that fits.
func scaled(v float64, unit string) string {
	for _, p := range []struct {
		prefix string
		size   float64
	}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		// From 999.5 on three digits would be written as 1000.
		if v >= p.size*0.9995 {
			return digits(v/p.size) + " " + p.prefix + unit
		}
	}
	return digits(v) + " " + unit
}

func digits(v float64) string {
	s := strconv.FormatFloat(v, 'f', max(0, 2-magnitude(v)), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func magnitude(v float64) int {
	switch {
	case v >= 99.95:
		return 2
	case v >= 9.995:
		return 1
	default:
		return 0
	}
}

// rate writes bit/s.
func rate(bps uint64) string {
	if bps == 0 {
		return "-"
	}
	return scaled(float64(bps), "bit/s")
}

// size writes bytes.
func size(b uint64) string {
	if b == 0 {
		return "-"
	}
	return scaled(float64(b), "B")
}

func count[T int | uint64](v T) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

// micros writes microseconds as milliseconds.
func micros(us uint64) string {
	if us == 0 {
		return "-"
	}
	return digits(float64(us)/1000) + " ms"
}

// age writes seconds as the two largest units.
func age(s uint64) string {
	const day = 24 * 60 * 60
	switch {
	case s >= day:
		return fmt.Sprintf("%dd%dh", s/day, s%day/3600)
	case s >= 3600:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	default:
		return (time.Duration(s) * time.Second).String()
	}
}

func text(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
