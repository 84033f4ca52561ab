package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// sold is a file whose network interface has 19 Mbit/s, of which 15.2 may be
// reserved, and an SLS table.
func soldBy(rows, rest string) string {
	return "interfaces:\n  - {name: a, zone: hosts}\n  - name: b\n    zone: network\n    capacity: 19mbit\n    sls: [" + rows + "]\n" + rest
}

func reserved(rest string) string {
	return "policies:\n  - {name: p, " + goodMatch + ", reserve: {" + rest + "}\n"
}

// RFC 3246 section 2.10: a priority queue has a limit, and what exceeds it MUST be
// discarded; so it is with VOICE-ADMIT, the second EF class of RFC 5865.
func TestExcessOfEFRFC3246Section2_10(t *testing.T) {
	c := mustParse(t, soldBy("{class: ef, rate: 1mbit, burst: 16kB}, {class: voice-admit, rate: 1mbit, burst: 16kB, excess: drop}, {class: af31, rate: 1mbit, burst: 16kB}", ""))
	for i, want := range []Excess{ExcessDrop, ExcessDrop, ExcessBestEffort} {
		if got := c.Interfaces[1].SLS[i].Excess; got != want {
			t.Errorf("row %d: excess %v, want %v", i+1, got, want)
		}
	}
	for _, excess := range []string{"best-effort", "le"} {
		_, err := Parse("f", []byte(soldBy("{class: telephony, rate: 1mbit, burst: 16kB, excess: "+excess+"}", "")))
		if err == nil || !strings.Contains(err.Error(), "what exceeds the rate of ef is discarded (RFC 3246 section 2.10): write drop") {
			t.Errorf("excess: %s: %v", excess, err)
		}
	}
}

func TestSLSAccepted(t *testing.T) {
	c := mustParse(t, soldBy("{class: voice-admit, rate: 2mbit, burst: 16kB}, {class: af31, rate: 8mbit, burst: 64kB, from: 06:00, until: '22:00'}, {class: 26, rate: 12mbit, burst: 128kB, from: 22:00, until: 06:00}", ""))
	want := []ServiceLevel{
		{Class: 44, Rate: 250_000, Burst: 16_000, Excess: ExcessDrop, Until: day},
		{Class: 26, Rate: 1_000_000, Burst: 64_000, From: 6 * time.Hour, Until: 22 * time.Hour},
		{Class: 26, Rate: 1_500_000, Burst: 128_000, From: 22 * time.Hour, Until: 6 * time.Hour},
	}
	if diff := cmp.Diff(want, c.Interfaces[1].SLS, cmpopts.IgnoreFields(ServiceLevel{}, "Line")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, times := range []string{"", "06:00-22:00", "22:00-06:00"} {
		if got := c.Interfaces[1].SLS[i].Times(); got != times {
			t.Errorf("row %d: %q, want %q", i, got, times)
		}
	}
	if c := mustParse(t, soldBy("", "")); c.Interfaces[1].SLS != nil {
		t.Errorf("an empty table is a table: %+v", c.Interfaces[1].SLS)
	}
	if c := mustParse(t, soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: 00:00, until: 24:00}", "")); c.Interfaces[1].SLS[0].Times() != "" {
		t.Errorf("from 00:00 until 24:00 is not all day: %+v", c.Interfaces[1].SLS)
	}
}

func TestCeilingsAndOverbookingAccepted(t *testing.T) {
	c := mustParse(t, "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, capacity: 16mbit, ceilings: {guaranteed: 50%}, overbooking: {controlled-load: 150%}}]\n"+
		reserved("tspec: {rate: 19mbit, burst: 10kB}}"))
	if i := c.Interfaces[1]; i.Ceilings != (Ceilings{Guaranteed: 1_000_000}) || i.Overbooking != 1.5 {
		t.Errorf("%+v, %v", i.Ceilings, i.Overbooking)
	}
	if i := c.Interfaces[0]; i.Ceilings != (Ceilings{}) || i.Overbooking != 0 {
		t.Errorf("%+v, %v", i.Ceilings, i.Overbooking)
	}
}

// Each row is one error, with its place and what to do.
func TestSLSErrors(t *testing.T) {
	const af31 = "{class: af31, rate: 8mbit, burst: 64kB}"
	link := func(keys string) string {
		return "interfaces: [{name: a, zone: hosts}, {name: b, zone: network, " + keys + "}]\n"
	}
	for name, tt := range map[string]struct{ in, msg string }{
		"towards hosts":     {"interfaces: [{name: a, zone: hosts, sls: ^[" + af31 + "]}, {name: b, zone: network}]\n", "with zone: network, or what hosts may mark, with trust: policed"},
		"excess with a row": {soldBy(af31+", {class: af21, rate: 1mbit, burst: 9kB, excess: ^af31}", ""), "af31 has a row of its own in line"},
		"no list":           {strings.Replace(soldBy("", ""), "[]", "^af31", 1), "must be a list"},
		"no class":          {soldBy("^{rate: 8mbit, burst: 64kB}", ""), "this row has no class: write for example {class: af31"},
		"no rate":           {soldBy("^{class: af31, burst: 64kB}", ""), "has no rate"},
		"no burst":          {soldBy("^{class: af31, rate: 8mbit}", ""), "has no burst"},
		"class unknown":     {soldBy("{class: ^af51, rate: 8mbit, burst: 64kB}", ""), `unknown PHB "af51"`},
		"rate in bytes":     {soldBy("{class: af31, rate: ^8MB, burst: 64kB}", ""), "mbit"},
		"unknown key":       {soldBy("{class: af31, rate: 8mbit, burst: 64kB, ^unil: 08:00}", ""), "did you mean until?"},
		"from alone":        {soldBy("^{class: af31, rate: 8mbit, burst: 64kB, from: 08:00}", ""), "give both"},
		"no time":           {soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: ^8am, until: 20:00}", ""), "is not a time of day from 00:00 to 23:59"},
		"24:01":             {soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: 08:00, until: ^24:01}", ""), "from 00:00 to 24:00, such as 08:00"},
		"no time at all": {
			soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: 08:00, until: ^08:00}", ""), "the same as from: leave both out for all day",
		},
		"class twice": {soldBy(af31+", {class: ^af31, rate: 8mbit, burst: 64kB}", ""), "af31 has a row already, in line 6: remove one, or give both times"},
		"class twice at the same time": {
			soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: 20:00, until: 08:00}, {class: ^af31, rate: 9mbit, burst: 64kB, from: 07:59, until: 20:00}", ""),
			"af31 has another row at the same time, in line 6",
		},
		"level above capacity": {
			soldBy("{class: af31, rate: ^20mbit, burst: 64kB}", ""), "rate is more than the interface's capacity without best_effort and 2% for control traffic (17666kbit): lower it, or raise capacity",
		},
		"level above reservable": {
			soldBy("{class: af31, rate: ^16mbit, burst: 64kB}", ""), "rate is more than what may be reserved on the interface, capacity times reservable (15200kbit)",
		},
		"levels above reservable": {
			soldBy(af31+", {class: ef, rate: ^8mbit, burst: 9kB}", ""), "the levels at the same time have 16mbit, more than what may be reserved",
		},
		"levels above capacity, one without reservations": {
			soldBy(af31+", {class: af11, rate: ^12mbit, burst: 9kB}", "policies: [{name: p, "+goodMatch+", mark: af11}]\n"), "have 20mbit, more than the interface's capacity",
		},
		"levels by night": {
			soldBy("{class: af31, rate: 8mbit, burst: 64kB, from: 20:00, until: 08:00}, {class: ef, rate: ^8mbit, burst: 9kB, from: 07:00, until: 09:00}", ""), "levels at the same time",
		},
		"levels by night, the other way round": {
			soldBy("{class: ef, rate: 8mbit, burst: 9kB, from: 07:00, until: 09:00}, {class: af31, rate: ^8mbit, burst: 64kB, from: 06:00, until: 08:00}", ""), "levels at the same time",
		},
		"ceiling without capacity":     {link("ceilings: {guaranteed: ^50%}"), "add capacity"},
		"ceiling above reservable":     {link("capacity: 9mbit, ceilings: {guaranteed: ^81%}"), "the ceiling of guaranteed is above reservable (80%)"},
		"ceiling of what":              {link("capacity: 9mbit, ceilings: {^none: 1%}"), "keys: controlled-load, guaranteed"},
		"overbooking below":            {link("capacity: 9mbit, overbooking: {controlled-load: ^99%}"), "from 100% to 1000%"},
		"overbooking without capacity": {link("overbooking: {controlled-load: ^150%}"), "add capacity"},
		"overbooking guaranteed": {
			link("capacity: 9mbit, overbooking: {guaranteed: ^150%}"), "cannot be overbooked: its delay bound needs R of the link",
		},
		"mark not sold":        {soldBy(af31, reserved(goodTSpec+"}, mark: ^af21")), "mark: af21 has no row in the sls of any network interface, so that it would always be refused: add one, or use a mark that has (af31)"},
		"mapping not sold":     {soldBy("{class: ef, rate: 8mbit, burst: 64kB}", "policies:\n  - {name: p, "+goodMatch+", reserve: ^{"+goodTSpec+"}}\n"), "is marked af31 (mapping) and has no row"},
		"provisioned not sold": {soldBy(af31, "policies: [{name: p, "+goodMatch+", mark: ^af11}]\n"), "add one, or use a mark that has (af31), or default or le"},
		"rate above its level": {soldBy(af31, reserved("tspec: {rate: ^9mbit, burst: 10kB}}")), "at most 8mbit, the sls row of af31 in line 6"},
		"burst above its level": {
			soldBy(af31, reserved("tspec: {rate: 1mbit, burst: ^65kB}}")), "more than the 64000B that the sls row of af31 in line 6 has for all of its flows",
		},
		"burst above any queue": {
			link("capacity: 10mbit") + reserved("tspec: {rate: 1mbit, burst: ^60MiB}}"), "the queue of a reservation can hold (55009910B in packets of min_unit)",
		},
		"rate above its ceiling": {
			link("capacity: 10mbit, ceilings: {controlled-load: 5%}") + reserved("tspec: {rate: ^501kbit, burst: 10kB}}"), "at most 500kbit, the ceiling of controlled-load",
		},
		"rate above overbooking": {
			link("capacity: 10mbit, overbooking: {controlled-load: 200%}") + reserved("tspec: {rate: ^17mbit, burst: 10kB}}"), "at most 16mbit, capacity times reservable times overbooking",
		},
		"guaranteed rate, no overbooking": {
			link("capacity: 10mbit, overbooking: {controlled-load: 200%}") + reserved("service: guaranteed, delay: 50ms, tspec: {rate: ^9mbit, burst: 10kB}}"), "at most 8mbit",
		},
	} {
		t.Run(name, func(t *testing.T) { mistakeAt(t, tt.in, tt.msg).check(t) })
	}
}

// RFC 2998 section 5.2: code points of reserved traffic are
// not those of provisioned traffic and of best effort.
func TestMarksDoNotOverlapRFC2998Section5_2(t *testing.T) {
	two := func(first, second string) string {
		return goodIfaces + "policies:\n  - {name: one, match: {protocol: udp}, " + first + "}\n  - {name: two, match: {protocol: tcp}, " + second + "}\n"
	}
	const reserve = "reserve: {" + goodTSpec + "}"
	for name, tt := range map[string]struct{ in, msg string }{
		"provisioned after":  {two(reserve+", mark: af21", "mark: ^af21"), "mark: af21 is what reserved traffic has (policy one, line 3)"},
		"provisioned before": {two("mark: ^af21", reserve+", mark: af21"), "(policy two, line 4)"},
		"by mapping":         {two(reserve, "mark: ^af31"), "(policy one, line 3)"},
		"a mapping given":    {"mapping: {guaranteed: af21}\n" + two("mark: af11", "mark: ^af21"), "(the mapping of guaranteed, line 1)"},
		"best effort":        {two(reserve+", mark: ^default", "mark: af11"), "default is for best effort"},
		"lower effort":       {two(reserve+", mark: ^le", "mark: af11"), "le is for best effort"},
		"mapping":            {"mapping: {controlled-load: ^le}\n" + goodIfaces, "use another PHB"},
	} {
		t.Run(name, func(t *testing.T) { mistakeAt(t, tt.in, tt.msg).check(t) })
	}
	for _, in := range []string{
		two(reserve+", mark: af21", "mark: af22"),
		two(reserve+", mark: af21", reserve+", mark: af21"),
		two("mark: ef", "mark: af31"), // the default mapping, which no policy uses
	} {
		mustParse(t, in)
	}
}

// A network interface without a contract carries any mark.
func TestOneInterfaceWithoutContractIsEnough(t *testing.T) {
	mustParse(t, "interfaces:\n  - {name: a, zone: hosts}\n  - {name: b, zone: network, capacity: 19mbit, sls: [{class: ef, rate: 1mbit, burst: 9kB}]}\n"+
		"  - {name: c, zone: network, capacity: 19mbit}\n"+reserved("tspec: {rate: 15mbit, burst: 900kB}}, mark: af21"))
}

// Two rows of a class are refused if and only if there is a minute of the day that
// both have.
func TestLevelTimesAgainstListing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minute := rapid.IntRange(0, 6) // of a short day: the times are multiples of 4 hours
		draw := func(name string) (string, ServiceLevel) {
			from := time.Duration(minute.Draw(t, name+" from")%6) * 4 * time.Hour
			until := time.Duration(minute.Draw(t, name+" until")) * 4 * time.Hour
			if from == until {
				until = day
			}
			return fmt.Sprintf("{class: af31, rate: 1mbit, burst: 9kB, from: %s, until: %s}", clock(from), clock(until)), ServiceLevel{From: from, Until: until}
		}
		one, a := draw("one")
		two, b := draw("two")
		both := false
		for m := time.Duration(0); m < day; m += time.Hour {
			both = both || a.At(m) && b.At(m)
		}
		_, err := Parse("f", []byte(soldBy(one+", "+two, "")))
		if (err != nil) != both {
			t.Errorf("%s and %s: %v, want an error: %v", one, two, err, both)
		}
	})
}
