package config

import (
	"errors"
	"testing"
	"unicode/utf8"
)

// Whatever the bytes are: no panic, either a config or at least one error,
// each with a place in the file, sorted; and a config keeps what the rooms
// behind it rely on.
func FuzzParse(f *testing.F) {
	for _, data := range examples(f) {
		f.Add(data)
	}
	f.Add([]byte(withTSpec("{rate: 1.5mbit, burst: 10kB, peak: 1bit}")))
	f.Add([]byte("a: &x [*x]\n<<: *x\n? - b\n: !!int c\n"))
	f.Add([]byte("interfaces: [2001:db8::1, {name: |\n  x\n}]\n"))
	f.Add([]byte("- - - - {a: [{"))
	f.Add([]byte(prioritized("{ef: 5, 26: 4, default: 0}")))
	f.Add([]byte(bridged + "bridge: {name: br0}\nrsvp: {hop: transparent, reliable: false}\n"))
	f.Add([]byte(secured("integrity: [{" + goodKey + ", from: 2027-01-01T00:00:00Z, neighbor: ::1}]")))
	f.Add([]byte(soldBy("{class: ef, rate: 1mbit, burst: 9kB, from: 22:00, until: '06:00'}, {class: ef, rate: 8mbit, burst: 9kB, from: 06:00, until: 24:00}", reserved(goodTSpec+"}, mark: ef"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err == nil {
			checkInvariants(t, c)
			return
		}
		list, ok := errors.AsType[Errors](err)
		if !ok || len(list) == 0 || c != nil {
			t.Fatalf("got config %v and error %T of %d", c, err, len(list))
		}
		last := pos{}
		for _, e := range list {
			if e.Line < 1 || e.Col < 1 || e.Msg == "" || !utf8.ValidString(e.Msg) {
				t.Errorf("bad error %+v", e)
			}
			if p := (pos{e.Line, e.Col}); p.line < last.line || p.line == last.line && p.col < last.col {
				t.Errorf("%v comes after %v", p, last)
			} else {
				last = p
			}
		}
	})
}

func checkInvariants(t *testing.T, c *Config) {
	t.Helper()
	zones := map[Zone]bool{}
	for _, i := range c.Interfaces {
		zones[i.Zone] = true
		if c.RSVP.Hop == HopTransparent && (len(i.Integrity) > 0 || i.Tunnel != nil || i.Aggregate != nil) || i.Name == c.Bridge.Name {
			t.Errorf("interface %+v of a bridge or a transparent hop", i)
		}
		if i.Reservable > i.Capacity || !validIfName(i.Name) {
			t.Errorf("interface %+v", i)
		}
		if o := i.Overbooking; o != 0 && (o < 1 || o > 10) || i.Ceilings.Guaranteed > i.Reservable || i.Ceilings.ControlledLoad > i.Reservable {
			t.Errorf("interface %+v", i)
		}
		for _, s := range i.SLS {
			if s.Class > 63 || s.Rate == 0 || s.Burst == 0 || s.From == s.Until || s.From >= day || s.Until > day || i.Capacity > 0 && s.Rate > i.Capacity {
				t.Errorf("service level %+v of %+v", s, i)
			}
		}
		for code, to := range i.PCP {
			if code > 63 || to > maxPCP {
				t.Errorf("DSCP %d has priority %d", code, to)
			}
		}
		for _, k := range i.Integrity {
			if k.ID > maxKeyID || k.Algorithm == "" || k.KeyFile == "" || !k.Until.IsZero() && !k.Until.After(k.From) {
				t.Errorf("key %+v", k)
			}
		}
	}
	if bridge := c.Mode == ModeBridge; bridge && (len(c.Interfaces) < minPorts || c.RSVP.Hop != HopTransparent) || bridge != (c.Bridge.Name != "") || c.RSVP.Reliable && c.RSVP.Hop == HopTransparent {
		t.Errorf("mode %v, bridge %+v, rsvp %+v", c.Mode, c.Bridge, c.RSVP)
	}
	if !zones[ZoneNetwork] || c.Console.Socket == "" || c.Limits.BufferedPerFlow > c.Limits.Buffered {
		t.Errorf("config %+v", c)
	}
	for _, p := range c.Policies {
		if p.DSCP > 63 || p.Line < 1 || p.Name == "" || p.TCP != TCPNone && (p.Reserve == nil || p.Match.Protocol != protoTCP) {
			t.Errorf("policy %+v", p)
		}
		if r := p.Reserve; r != nil {
			s := r.TSpec
			if s.Rate == 0 || s.Burst < uint64(s.MaxPacket) || s.MinUnit == 0 || s.MinUnit > s.MaxPacket ||
				s.Peak != 0 && s.Peak < s.Rate {
				t.Errorf("tspec %+v", s)
			}
		}
	}
}

// The unit parsers against each other: what is accepted is monotonic in the
// number and never wraps.
func FuzzUnits(f *testing.F) {
	for _, s := range []string{
		"8mbit", "1.5gbit", "64kB", "256MiB", "30s", "10m", "80%", "12.5%", "18446744073709551615B",
		"18446744073709551616B", "9999999999999999999MiB", "1.B", ".5s", "1.5B", "10.1.0.0/16", "::1", "5004-5020", "1..2s",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (uint64, error){ParseRate, ParseSize, ParseShare} {
			v, err := parse(s)
			if err != nil {
				continue
			}
			if bigger, err := parse("1" + s); err == nil && bigger <= v {
				t.Errorf("1%s is %d, %s is %d", s, bigger, s, v)
			}
		}
		if v, err := ParseDuration(s); err == nil && v < 0 {
			t.Errorf("ParseDuration(%q) = %v", s, v)
		}
		if p, err := ParsePrefix(s); err == nil && (!p.IsValid() || p != p.Masked() || p.Addr().Is4In6()) {
			t.Errorf("ParsePrefix(%q) = %v", s, p)
		}
		if p, err := ParsePorts(s); err == nil && (p[0] < 1 || p[0] > p[1]) {
			t.Errorf("ParsePorts(%q) = %v", s, p)
		}
	})
}
