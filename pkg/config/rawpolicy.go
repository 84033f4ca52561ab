package config

import (
	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) policy(n ast.Node, what string) rawPolicy {
	var p rawPolicy
	p.block = d.mapping(n, what, map[string]field{
		"name": text(&p.name, "a name"),
		"match": func(d *decoder, n ast.Node, _ string) {
			before := len(d.errs)
			p.match.put(d.match(n, what+".match"), n)
			p.broken = len(d.errs) > before
		},
		"reserve": func(d *decoder, n ast.Node, _ string) {
			p.reserve.put(d.reserve(n, what+".reserve"), n)
		},
		"mark":      phb(&p.mark),
		"tcp":       oneOf(&p.tcp, tcpWords),
		"excess":    excess(&p.excess),
		"police":    p.policeOf,
		"thin_acks": oneOf(&p.thin, boolWords),
		"fill":      oneOf(&p.fill, boolWords),
	})
	return p
}

func (d *decoder) match(n ast.Node, what string) rawMatch {
	const (
		addresses = "an address, a block such as 10.1.0.0/16, or a list of these"
		ports     = "a port, a range such as 5004-5020, or a list of these"
	)
	var m rawMatch
	m.block = d.mapping(n, what, map[string]field{
		"protocol":  protocol(&m.protocol),
		"from":      listOf(&m.from, ParsePrefix, addresses),
		"to":        listOf(&m.to, ParsePrefix, addresses),
		"from_port": listOf(&m.fromPort, ParsePorts, ports),
		"to_port":   listOf(&m.toPort, ParsePorts, ports),
	})
	return m
}

// Protocols that a policy can or cannot name.
const (
	protoTCP     = 6
	protoUDP     = 17
	protoRSVP    = 46
	protoRSVPE2E = 134
)

func protocol(o *opt[uint8]) field {
	const want = "tcp, udp or a protocol number from 1 to 255"
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		switch s {
		case "tcp":
			o.put(protoTCP, n)
			return
		case "udp":
			o.put(protoUDP, n)
			return
		}
		v, err := decimal(s)
		if err != nil || v < 1 || v > 255 {
			d.errorf(at(n), "%s: unknown protocol %s: write %s", key, quote(s), want)
			return
		}
		if v == protoRSVP || v == protoRSVPE2E {
			d.errorf(at(n), "%s: %d is RSVP itself, which the box always handles: match the data instead", key, v)
			return
		}
		o.put(uint8(v), n)
	}
}

func (d *decoder) reserve(n ast.Node, what string) rawReserve {
	var r rawReserve
	r.block = d.mapping(n, what, map[string]field{
		"role":    oneOf(&r.role, roleWords),
		"service": oneOf(&r.service, serviceWords),
		"style":   oneOf(&r.style, styleWords),
		"tspec": func(d *decoder, n ast.Node, _ string) {
			if s, ok := n.(*ast.StringNode); ok && s.Value == "measured" {
				d.errorf(at(n), "tspec: measured needs the meter, which is not in this version: write the numbers, for example {rate: 8mbit, burst: 64kB}")
				return
			}
			r.tspec.put(d.tspec(n, what+".tspec"), n)
		},
		"delay": duration(&r.delay, minDelay, maxRefresh, "a duration from 1ms to 1h, such as 50ms"),
		"priority": func(d *decoder, n ast.Node, _ string) {
			r.priority.put(d.priority(n, what+".priority"), n)
		},
	})
	return r
}

// priority are the two of RFC 3181.
func (d *decoder) priority(n ast.Node, what string) rawPriority {
	var p rawPriority
	p.block = d.mapping(n, what, map[string]field{
		"setup": number(&p.setup, 0, 65535),
		"hold":  number(&p.hold, 0, 65535),
	})
	return p
}

func (d *decoder) tspec(n ast.Node, what string) rawTSpec {
	var t rawTSpec
	t.block = d.mapping(n, what, map[string]field{
		"rate":       quantityOf(&t.rate, ParseRate, minRate, maxRate, rateWords),
		"burst":      size(&t.burst, 1, maxBurst, sizeWords+" up to 1024MiB"),
		"peak":       quantityOf(&t.peak, ParseRate, minRate, maxRate, rateWords),
		"min_unit":   size(&t.minUnit, 1, maxPacket, "a packet size from 1B to 65535B"),
		"max_packet": size(&t.maxPacket, 1, maxPacket, "a packet size from 1B to 65535B"),
	})
	return t
}
