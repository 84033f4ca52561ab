package config

import (
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for _, tt := range []struct {
		in    string
		parse func(string) (uint64, error)
		want  uint64 // 0: an error
	}{
		{"8bit", ParseRate, 1},
		{"12bit", ParseRate, 1}, // rounded down to whole bytes/s
		{"1kbit", ParseRate, 125},
		{"8mbit", ParseRate, 1e6},
		{"1gbit", ParseRate, 125e6},
		{"2.5gbit", ParseRate, 312500000},
		{"1B", ParseSize, 1},
		{"64kB", ParseSize, 64000},
		{"2MB", ParseSize, 2e6},
		{"1KiB", ParseSize, 1024},
		{"256MiB", ParseSize, 256 << 20},
		{"1.5KiB", ParseSize, 1536},
		{"18446744073709551615B", ParseSize, 1<<64 - 1},
		{"18446744073709551616B", ParseSize, 0},
		{"18446744073709551615kB", ParseSize, 0},
		{"18446744073709552.999999999kB", ParseSize, 0},
		{"1.5B", ParseSize, 0},
		{"1.0000000001MB", ParseSize, 0},
		{"1GB", ParseSize, 0},
		{"1KB", ParseSize, 0},
		{"64", ParseSize, 0},
		{"64 kB", ParseSize, 0},
		{"kB", ParseSize, 0},
		{"", ParseSize, 0},
		{".5kB", ParseSize, 0},
		{"1.kB", ParseSize, 0},
		{"1.2.3kB", ParseSize, 0},
		{"-1kB", ParseSize, 0},
		{"1e3B", ParseSize, 0},
		{"80%", ParseShare, 8000},
		{"12.5%", ParseShare, 1250},
		{"0.01%", ParseShare, 1},
		{"100%", ParseShare, 10000},
		{"100.01%", ParseShare, 0},
		{"0.001%", ParseShare, 0},
		{"80", ParseShare, 0},
	} {
		got, err := tt.parse(tt.in)
		if (err != nil) != (tt.want == 0) || err == nil && got != tt.want {
			t.Errorf("%q = %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
	for in, want := range map[string]time.Duration{
		"20ms": 20 * time.Millisecond, "30s": 30 * time.Second, "10m": 10 * time.Minute, "2h": 2 * time.Hour, "1.5s": 1500 * time.Millisecond, "0s": 0,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%q = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"1d", "1us", "9999999999h", "1m30s"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q = %v, want an error", in, got)
		}
	}
}

func TestFormatRate(t *testing.T) {
	for in, want := range map[uint64]string{1: "8bit", 125: "1kbit", 1e6: "8mbit", 1_900_000: "15200kbit", 125e6: "1gbit", 0: "0bit"} {
		if got := formatRate(in); got != want {
			t.Errorf("formatRate(%d) = %s, want %s", in, got, want)
		}
	}
}
