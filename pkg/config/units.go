package config

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

type unit struct {
	name string
	mult uint64
}

var (
	rateUnits     = []unit{{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}}
	sizeUnits     = []unit{{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"KiB", 1 << 10}, {"MiB", 1 << 20}}
	durationUnits = []unit{
		{"ms", uint64(time.Millisecond)},
		{"s", uint64(time.Second)},
		{"m", uint64(time.Minute)},
		{"h", uint64(time.Hour)},
	}
	// A share is kept in hundredths of a per cent.
	shareUnits = []unit{{"%", 100}}
)

// ParseRate reads a bit rate ("8mbit") and returns bytes/s, rounded down.
func ParseRate(s string) (uint64, error) {
	v, err := quantity(s, rateUnits, "8mbit")
	return v / 8, err
}

// ParseSize reads a size ("64kB", "256MiB") and returns bytes.
func ParseSize(s string) (uint64, error) { return quantity(s, sizeUnits, "64kB") }

// ParseDuration reads a duration ("30s", "10m").
func ParseDuration(s string) (time.Duration, error) {
	v, err := quantity(s, durationUnits, "30s")
	if err == nil && v > uint64(1<<63-1) {
		return 0, errors.New("duration is too long")
	}
	return time.Duration(v), err
}

// ParseShare reads a percentage ("80%", "12.5%") and returns hundredths of a
// per cent, at most 10000.
func ParseShare(s string) (uint64, error) {
	v, err := quantity(s, shareUnits, "80%")
	if err == nil && v > 100*100 {
		return 0, fmt.Errorf("%s is more than 100%%", s)
	}
	return v, err
}

// ParseFactor reads a percentage that may be more than 100%, and returns hundredths
// of a per cent.
func ParseFactor(s string) (uint64, error) { return quantity(s, shareUnits, "150%") }

// quantity reads NUMBER UNIT, where the number may have decimals as long as
// the result is whole: "1.5kB" is 1500, "1.5B" is an error.
func quantity(s string, units []unit, example string) (uint64, error) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	number, name := s[:i], s[i:]
	if number == "" {
		return 0, fmt.Errorf("%q is not a number with a unit: write for example %s", s, example)
	}
	mult := uint64(0)
	for _, u := range units {
		if u.name == name {
			mult = u.mult
		}
	}
	if mult == 0 {
		return 0, badUnit(s, number, name, units)
	}
	whole, frac, dotted := strings.Cut(number, ".")
	if whole == "" || dotted && frac == "" || len(whole) > 20 || len(frac) > 9 {
		return 0, fmt.Errorf("bad number %q: write for example %s", number, example)
	}
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bad number %q: write for example %s", number, example)
	}
	hi, v := bits.Mul64(w, mult)
	if hi != 0 {
		return 0, fmt.Errorf("%s is too large", s)
	}
	if frac == "" {
		return v, nil
	}
	f, err := strconv.ParseUint(frac, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bad number %q: write for example %s", number, example)
	}
	scale := uint64(1)
	for range frac {
		scale *= 10
	}
	hi, part := bits.Mul64(f, mult)
	if hi != 0 { // cannot be with the units above; an overflow must never wrap
		return 0, fmt.Errorf("%s has too many decimals", s)
	}
	if part%scale != 0 {
		return 0, fmt.Errorf("%s has too many decimals: the smallest step is 1%s", s, smallest(units))
	}
	sum, carry := bits.Add64(v, part/scale, 0)
	if carry != 0 {
		return 0, fmt.Errorf("%s is too large", s)
	}
	return sum, nil
}

func smallest(units []unit) string {
	if units[0].name == "%" {
		return "/100%"
	}
	return units[0].name
}

func badUnit(s, number, name string, units []unit) error {
	list := make([]string, len(units))
	for i, u := range units {
		list[i] = u.name
	}
	all := strings.Join(list, ", ")
	if name == "" {
		return fmt.Errorf("%q has no unit: write %s%s, for example (units: %s)", s, number, list[len(list)/2], all)
	}
	if trimmed := strings.TrimSpace(name); trimmed != name {
		return fmt.Errorf("%q has a space before its unit: write %s%s", s, number, trimmed)
	}
	for _, u := range units {
		if strings.EqualFold(u.name, name) {
			return fmt.Errorf("unknown unit %q in %q: did you mean %s? (units: %s)", name, s, u.name, all)
		}
	}
	return fmt.Errorf("unknown unit %q in %q: use one of %s", name, s, all)
}

// formatRate writes bytes/s the way the file does, in the largest unit that
// is exact.
func formatRate(bytesPerSecond uint64) string {
	v := bytesPerSecond * 8
	for _, u := range slices.Backward(rateUnits) {
		if v >= u.mult && v%u.mult == 0 {
			return strconv.FormatUint(v/u.mult, 10) + u.name
		}
	}
	return strconv.FormatUint(v, 10) + "bit"
}

// formatShare writes hundredths of a per cent the way the file does.
func formatShare(v uint64) string {
	return strconv.FormatFloat(float64(v)/100, 'f', -1, 64) + "%"
}
