package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Region is a DiffServ region behind an interface whose routers do not speak RSVP:
// what the edges on both sides of it tell of it in ADSPEC.
type Region struct {
	Hops      int           // routers in it, as the IntServ hop count has them
	Latency   time.Duration // the least that a packet takes; negative: not known
	Bandwidth uint64        // bytes/s; 0: no less than the interface's
	MTU       int           // bytes; 0: no less than the interface's
	// Guaranteed: the terms of guaranteed service are known. C is in bytes.
	Guaranteed bool
	C          uint64
	D          time.Duration
}

type rawRegion struct {
	block
	hops, mtu    opt[int]
	latency, d   opt[time.Duration]
	bandwidth, c opt[uint64]
}

const (
	maxHopCount   = 255               // no packet crosses more
	maxRegionTime = 100 * time.Second // a latency or D that nobody waits for
)

func (i *rawInterface) regionOf(d *decoder, n ast.Node, key string) {
	var g rawRegion
	g.block = d.mapping(n, key, map[string]field{
		"hops":      number(&g.hops, 0, maxHopCount),
		"latency":   duration(&g.latency, 0, maxRegionTime, "a duration up to 100s, such as 20ms"),
		"c":         size(&g.c, 0, 1<<32-1, "bytes, such as 1500B"),
		"d":         duration(&g.d, 0, maxRegionTime, "a duration up to 100s, such as 1ms"),
		"bandwidth": quantityOf(&g.bandwidth, ParseRate, minLink, maxRate, "a bit rate from 8kbit to 1000gbit, such as 20mbit"),
		"mtu":       number(&g.mtu, 576, 65535),
	})
	i.region.put(g, n)
}

// region checks what is said of the region behind an interface; nil: nothing.
func (d *decoder) region(i *rawInterface) *Region {
	if !i.region.set {
		return nil
	}
	g := i.region.v
	if i.zone.set && i.zone.v != ZoneNetwork {
		d.errorf(i.region.at, "region is for interfaces with zone: network: it lies between two boxes")
	}
	if i.tunnel.set {
		d.errorf(i.region.at, "a tunnel tells what it adds itself: remove region, or tunnel")
	}
	if g.missing("hops") {
		d.errorf(i.region.at, "region has no hops: add hops: with how many routers are in it, 0 for any number")
	}
	if g.c.set != g.d.set && g.missing("c") != g.missing("d") {
		d.errorf(i.region.at, "region needs both c and d for guaranteed service, or none of them")
	}
	return &Region{
		Hops: g.hops.v, Latency: g.latency.or(-1), Bandwidth: g.bandwidth.v, MTU: g.mtu.v,
		Guaranteed: g.c.set && g.d.set, C: g.c.v, D: g.d.v,
	}
}
