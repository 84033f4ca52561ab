package config

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bounds of what a value may be; beyond them it is a typing error and not a
// wish.
const (
	minRate    = 1       // bytes/s: 8bit
	maxRate    = 125e9   // bytes/s: 1000gbit
	minLink    = 1000    // bytes/s: 8kbit, below it HTB's timing is meaningless
	maxBurst   = 1 << 30 // bytes
	maxPacket  = 65535   // bytes, the IPv4 total length field
	maxMemory  = 1 << 40 // bytes
	maxWindow  = 1 << 30 // bytes, the largest TCP window (RFC 7323 2.3)
	maxFill    = 10 * time.Second
	maxPattern = 64               // bytes
	maxSocket  = 107              // bytes of a unix socket's path (sun_path less its NUL)
	maxPath    = 4000             // bytes of a directory's path (PATH_MAX less a file's name)
	maxIfName  = 15               // bytes (IFNAMSIZ less its NUL)
	maxRows    = 2000             // policies
	maxLinks   = 256              // interfaces
	minThin    = 625              // bytes/s: an ACK of 52 bytes in 83 ms; it may wait for 100 ms
	maxThin    = 125e3            // bytes/s: 1mbit, as many ACKs as 60 Mbit/s of data has
	fastEnough = 1250e3           // bytes/s: 10mbit, above it one queue is enough for EF
	minDelay   = time.Millisecond // of queueing: below it the kernel's timers are coarser
	maxRefresh = 1 * time.Hour    // TIME_VALUES carries milliseconds in 32 bits; an hour is long enough
)

const (
	rateWords     = "a bit rate such as 8mbit (units bit, kbit, mbit, gbit; at most 1000gbit)"
	sizeWords     = "a size such as 64kB (units B, kB, MB, KiB, MiB)"
	thinWords     = "auto, or a bit rate from 5kbit to 1mbit, such as 8kbit"
	durationLimit = 7 * 24 * time.Hour
)

type rawConfig struct {
	block
	mode       opt[Mode]
	bridge     opt[rawBridge]
	onStop     opt[OnStop]
	watchdog   opt[bool]
	onCrash    opt[time.Duration]
	level      opt[string]
	format     opt[string]
	interfaces []rawInterface
	ifacesAt   opt[struct{}]
	refresh    opt[time.Duration]
	hop        opt[Hop]
	reliable   opt[bool]
	guaranteed opt[uint8]
	controlled opt[uint8]
	uneven     opt[Heterogeneous]
	demoteTo   opt[uint8]
	window     opt[Window]
	ecn        opt[ECN]
	drain      opt[time.Duration]
	thinRate   opt[uint64]
	paceFactor opt[float64]
	fillAfter  opt[time.Duration]
	fillWith   opt[[]byte]
	fillAll    opt[bool]
	limits     rawLimits
	socket     opt[string]
	stateDir   opt[string]
	admission  rawAdmission
	records    opt[string]
	keep       opt[int]
	dclass     opt[DClassOver]
	policies   []rawPolicy
}

type rawLimits struct {
	flows, sessions, rsvpRate, neighbors opt[int]
	buffered, perFlow, maxUnacked        opt[uint64]
}

type rawInterface struct {
	block
	name       opt[string]
	zone       opt[Zone]
	trust      opt[Trust]
	capacity   opt[uint64]
	reservable opt[uint64] // hundredths of a per cent
	shared     opt[string]
	discover   opt[bool]
	dclass     opt[DClass]
	efModel    opt[EFModel]
	pcp        opt[map[uint8]uint8]
	keys       []rawKey
	handshake  opt[Handshake]
	window     opt[int]
	tunnel     opt[rawTunnel]
	region     opt[rawRegion]
	aggregate  opt[rawAggregate]
	ceilings   [2]opt[uint64] // hundredths of a per cent, by Service
	overbooked [2]opt[uint64] // by Service
	sls        []rawLevel
	bestEffort opt[uint64] // hundredths of a per cent
	classify   opt[Classify]
	slsAt      pos
	slsBroken  bool // nothing can be said of its sums
}

type rawPolicy struct {
	block
	name    opt[string]
	match   opt[rawMatch]
	reserve opt[rawReserve]
	mark    opt[uint8]
	tcp     opt[TCPMode]
	thin    opt[bool]
	excess  opt[Excess]
	police  opt[rawPolice]
	fill    opt[bool]
	broken  bool // its match has errors: nothing can be said about reach
}

type rawMatch struct {
	block
	protocol         opt[uint8]
	from, to         opt[[]netip.Prefix]
	fromPort, toPort opt[[][2]uint16]
}

type rawReserve struct {
	block
	role    opt[Role]
	service opt[Service]
	style   opt[Style]
	tspec   opt[rawTSpec]
	delay   opt[time.Duration]

	priority opt[rawPriority]
}

type rawPriority struct {
	block
	setup, hold opt[int]
}

type rawTSpec struct {
	block
	rate, burst, peak, minUnit, maxPacket opt[uint64]
}

func (d *decoder) config(n ast.Node) *rawConfig {
	r := &rawConfig{}
	r.block = d.mapping(n, "config", map[string]field{
		"mode":       oneOf(&r.mode, modeWords),
		"bridge":     r.bridgeOf,
		"on_stop":    oneOf(&r.onStop, onStopWords),
		"on_crash":   duration(&r.onCrash, 0, durationLimit, "a duration from 0s to 168h, such as 10m"),
		"watchdog":   oneOf(&r.watchdog, boolWords),
		"state_dir":  text(&r.stateDir, "the path of a directory"),
		"log":        r.log,
		"interfaces": r.interfaceList,
		"rsvp":       r.rsvp,
		"mapping":    r.phbs,
		"admission":  r.admit,
		"accounting": r.accounting,
		"multicast":  r.multicast,
		"tcp":        r.tcp,
		"limits":     r.limit,
		"console":    r.console,
		"policies": rows(maxRows, func(d *decoder, n ast.Node, what string) {
			r.policies = append(r.policies, d.policy(n, what))
		}),
	})
	return r
}

func duration(o *opt[time.Duration], low, high time.Duration, want string) field {
	return quantityOf(o, ParseDuration, low, high, want)
}

func size(o *opt[uint64], low, high uint64, want string) field {
	return quantityOf(o, ParseSize, low, high, want)
}

func (r *rawConfig) log(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"level":  oneOf(&r.level, levelWords),
		"format": oneOf(&r.format, formatWords),
	})
}

func (r *rawConfig) interfaceList(d *decoder, n ast.Node, key string) {
	if _, ok := n.(*ast.SequenceNode); ok {
		r.ifacesAt.put(struct{}{}, n)
	}
	rows(maxLinks, func(d *decoder, n ast.Node, what string) {
		var i rawInterface
		i.block = d.mapping(n, what, map[string]field{
			"name":        text(&i.name, "an interface name"),
			"zone":        oneOf(&i.zone, zoneWords),
			"trust":       oneOf(&i.trust, trustWords),
			"capacity":    quantityOf(&i.capacity, ParseRate, minLink, maxRate, "a bit rate from 8kbit to 1000gbit, such as 19mbit"),
			"shared":      text(&i.shared, "a name"),
			"reservable":  quantityOf(&i.reservable, ParseShare, 1, 10000, "a share of capacity up to 100%, such as 80%"),
			"discover":    oneOf(&i.discover, boolWords),
			"dclass":      oneOf(&i.dclass, dclassWords),
			"classify":    oneOf(&i.classify, classifyWords),
			"best_effort": quantityOf(&i.bestEffort, ParseShare, 100, 9000, "a share of capacity from 1% to 90%, such as 5%"),
			"ef_model":    oneOf(&i.efModel, efModelWords),
			"pcp":         pcpOf(&i.pcp),
			"region":      i.regionOf,
			"sls": func(d *decoder, n ast.Node, key string) {
				i.slsAt = at(n)
				rows(maxLevels, i.slsRow)(d, n, key)
			},
			"ceilings":    byService(&i.ceilings, ParseShare, 1, 10000, "a share of capacity up to 100%, such as 50%"),
			"overbooking": byService(&i.overbooked, ParseFactor, 10000, 100000, "a factor from 100% to 1000%, such as 150%"),
			"integrity": rows(maxKeys, func(d *decoder, n ast.Node, what string) {
				i.keys = append(i.keys, d.integrityKey(n, what))
			}),
			"integrity_handshake": oneOf(&i.handshake, handshakeWords),
			"integrity_window":    number(&i.window, 1, 1024),
			"tunnel":              i.tunnelOf,
			"aggregate":           i.aggregateOf,
		})
		r.interfaces = append(r.interfaces, i)
	})(d, n, key)
}

func (r *rawConfig) rsvp(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"refresh":  duration(&r.refresh, time.Second, maxRefresh, "a duration from 1s to 1h, such as 30s"),
		"hop":      oneOf(&r.hop, hopWords),
		"reliable": oneOf(&r.reliable, boolWords),
	})
}

func (r *rawConfig) phbs(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"guaranteed":      phb(&r.guaranteed),
		"controlled-load": phb(&r.controlled),
		"dclass":          oneOf(&r.dclass, dclassOverWords),
	})
}

func (r *rawConfig) multicast(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"heterogeneous": oneOf(&r.uneven, heterogeneousWords),
		"demote_to":     phb(&r.demoteTo),
	})
}

func (r *rawConfig) tcp(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"window":         oneOf(&r.window, windowWords),
		"ecn":            oneOf(&r.ecn, ecnWords),
		"drain_timeout":  duration(&r.drain, 0, maxRefresh, "a duration from 0s to 1h, such as 30s"),
		"fill_after":     duration(&r.fillAfter, 0, maxFill, "a duration from 0s to 10s, such as 20ms"),
		"fill_pattern":   pattern(&r.fillWith),
		"fill_encrypted": oneOf(&r.fillAll, boolWords),
		"pace_factor":    factor(&r.paceFactor, minFactor, maxFactor),
		"thin_rate":      orAuto(&r.thinRate, quantityOf(&r.thinRate, ParseRate, minThin, maxThin, thinWords)),
	})
}

func (r *rawConfig) limit(d *decoder, n ast.Node, key string) {
	l := &r.limits
	d.mapping(n, key, map[string]field{
		"flows":             number(&l.flows, 1, maxFlows),
		"sessions":          number(&l.sessions, 1, 10_000_000),
		"buffered":          size(&l.buffered, 64<<10, maxMemory, "a size from 64KiB, such as 256MiB"),
		"buffered_per_flow": size(&l.perFlow, 64<<10, maxMemory, "a size from 64KiB, such as 16MiB"),
		"max_unacked":       size(&l.maxUnacked, 64<<10, maxWindow, "a size from 64KiB to 1024MiB, such as 16MiB"),
		"rsvp_rate":         number(&l.rsvpRate, 1, 1_000_000),
		"neighbors":         number(&l.neighbors, 1, 1_000_000),
	})
}

func (r *rawConfig) accounting(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"file": text(&r.records, "the path of a file"),
		"keep": number(&r.keep, 1, 1_000_000),
	})
}

func (r *rawConfig) console(d *decoder, n ast.Node, key string) {
	d.mapping(n, key, map[string]field{
		"socket":     text(&r.socket, "the path of a socket"),
		"listen":     later,
		"token_file": later,
	})
}

// byService is a field with a quantity for each service.
func byService(o *[2]opt[uint64], parse func(string) (uint64, error), low, high uint64, want string) field {
	return func(d *decoder, n ast.Node, key string) {
		fields := map[string]field{}
		for _, s := range serviceWords {
			fields[s.word] = quantityOf(&o[s.value], parse, low, high, want)
		}
		d.mapping(n, key, fields)
	}
}

// pattern is a field that takes bytes that are repeated.
func pattern(o *opt[[]byte]) field {
	const want = "zeros, or hex: and up to 64 bytes, such as hex:deadbeef"
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		if s == "zeros" {
			o.put(nil, n)
			return
		}
		digits, isHex := strings.CutPrefix(s, "hex:")
		b, err := hex.DecodeString(digits)
		if !isHex || err != nil || len(b) == 0 || len(b) > maxPattern {
			d.errorf(at(n), "%s: unknown pattern %s: write %s", key, quote(s), want)
			return
		}
		o.put(b, n)
	}
}
