package config

import (
	"maps"
	"testing"
)

func prioritized(pcp string) string {
	return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, pcp: " + pcp + "}]\n"
}

func TestPCP(t *testing.T) {
	for in, want := range map[string]map[uint8]uint8{
		"keep":                                      nil,
		"{ef: 5, af31: 4, default: 0}":              {46: 5, 26: 4, 0: 0},
		"{voice-admit: 5, 8: 1, \"10\": 2}":         {44: 5, 8: 1, 10: 2},
		"{network-control: 7, low-latency-data: 3}": {48: 7, 18: 3},
	} {
		c, err := Parse("f", []byte(prioritized(in)))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := c.Interfaces[1].PCP; !maps.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
		if c.Interfaces[0].PCP != nil {
			t.Error("priorities are set by default")
		}
	}
}

func TestPCPMistakes(t *testing.T) {
	for in, msg := range map[string]string{
		"^5":                              "pcp must be keep or a mapping of PHBs to priorities from 0 to 7, such as {ef: 5, af31: 4}, not \"5\"",
		"^set":                            "pcp must be keep or a mapping of PHBs",
		"^[ef]":                           "pcp must be keep or a mapping of PHBs",
		"^{}":                             "pcp is an empty mapping: write keep",
		"{ef: ^8}":                        "is not a whole number from 0 to 7",
		"{ef: ^high}":                     "must be a whole number without a unit or quotes, from 0 to 7",
		"{^af5: 3}":                       "unknown PHB \"af5\": use ef",
		"{^64: 3}":                        "unknown PHB \"64\"",
		"{46: 6, ^telephony: 6}":          "pcp: ef is given twice",
		"{46: 5, ^ef: 5}":                 "pcp: ef is given twice, first in line 1: remove one",
		"{telephony: 5, af31: 3, ^46: 6}": "pcp: ef is given twice",
	} {
		mistakeAt(t, prioritized(in), msg).check(t)
	}
}
