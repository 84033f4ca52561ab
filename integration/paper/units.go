package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
)

// rate writes bit/s as the configuration does.
func rate(bps int64) string {
	switch {
	case bps >= 1e6 && bps%1e5 == 0:
		return strconv.FormatFloat(float64(bps)/1e6, 'f', -1, 64) + "mbit"
	case bps >= 1e3:
		return strconv.FormatInt(bps/1e3, 10) + "kbit"
	default:
		return strconv.FormatInt(bps, 10) + "bit"
	}
}

// unit writes bit/s for people.
func unit(bps int64) string {
	s := rate(bps)
	i := strings.IndexFunc(s, func(r rune) bool { return r >= 'a' })
	return s[:i] + " " + strings.Replace(strings.Replace(s[i:], "m", "M", 1), "bit", "bit/s", 1)
}

func parseRates(list string) ([]int64, error) {
	var rates []int64
	for _, s := range fields(list) {
		r, err := config.ParseRate(s)
		if err != nil {
			return nil, fmt.Errorf("-rates: %w", err)
		}
		if r < 1_000 {
			return nil, fmt.Errorf("-rates: %s is too narrow even for RSVP: 8kbit or more", s)
		}
		rates = append(rates, int64(r)*8)
	}
	return rates, nil
}

// parseLosses reads per cent and returns shares.
func parseLosses(list string) ([]float64, error) {
	var losses []float64
	for _, s := range fields(list) {
		v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil || !(v >= 0 && v <= 50) {
			return nil, fmt.Errorf("-losses: %q is not a percentage from 0 to 50", s)
		}
		losses = append(losses, v/100)
	}
	return losses, nil
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e4)/100, 'f', -1, 64) + "%"
}

func mbits(bps float64) string { return fmt.Sprintf("%.2f", bps/1e6) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }

// load is the machine's load average of the last minute, -1 if it cannot be read.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return v
}
