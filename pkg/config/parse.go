package config

import (
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Defaults of the keys that a file leaves out.
const (
	defaultBridge     = "qosproxy0"
	defaultOnCrash    = 10 * time.Minute
	defaultRefresh    = 30 * time.Second // RFC 2205 3.7
	defaultDrain      = 30 * time.Second
	defaultFillAfter  = 20 * time.Millisecond
	defaultReservable = 8000 // hundredths of a per cent
	defaultBestEffort = 500  // hundredths of a per cent
	controlShare      = 200  // the same, of what every shaped interface keeps for RSVP, ARP and ND
	defaultFlows      = 100_000
	maxFlows          = 1 << 23 // the kernel's tables have two rows for each, and 1<<24 at most
	defaultSessions   = 100_000
	defaultBuffered   = 256 << 20
	defaultPerFlow    = 16 << 20
	defaultUnacked    = 16 << 20
	defaultRSVPRate   = 1000
	defaultNeighbors  = 1000
	defaultWindow     = 32
	defaultFactor     = 2
	minFactor         = 1
	maxFactor         = 100
	defaultSocket     = "/run/qosproxy.sock"
	defaultStateDir   = "/var/lib/qosproxy"
	defaultMinUnit    = 64
	defaultKeep       = 10_000
	defaultMaxPacket  = 1500
)

// Parse reads a config file's content; name is only used in messages. The
// error, where there is one, is of type Errors and holds everything that is
// wrong with the file, sorted by position.
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{file: name}
	var c *Config
	if n := d.syntax(data); n != nil {
		c = d.build(d.config(n))
	}
	if len(d.errs) > 0 {
		d.errs.sort()
		return nil, d.errs
	}
	return c, nil
}

// build fills in the defaults and checks what concerns more than one key.
func (d *decoder) build(r *rawConfig) *Config {
	l := r.limits
	c := &Config{
		File:      d.file,
		Mode:      r.mode.v,
		OnStop:    r.onStop.v,
		OnCrash:   r.onCrash.or(defaultOnCrash),
		Watchdog:  r.watchdog.or(true),
		Log:       Log{Level: r.level.or("info"), Format: r.format.or("auto")},
		RSVP:      d.signalling(r),
		Mapping:   Mapping{Guaranteed: r.guaranteed.or(dscp.EF), ControlledLoad: r.controlled.or(dscp.AF31), DClass: r.dclass.v},
		Multicast: Multicast{Heterogeneous: r.uneven.v, DemoteTo: r.demoteTo.v},
		TCP: TCP{
			Window: r.window.or(WindowAuto), ECN: r.ecn.or(ECNEcho), ThinRate: r.thinRate.v,
			PaceFactor:   r.paceFactor.or(defaultFactor),
			DrainTimeout: r.drain.or(defaultDrain),
			FillAfter:    r.fillAfter.or(defaultFillAfter), FillPattern: r.fillWith.v, FillEncrypted: r.fillAll.v,
		},
		Limits: Limits{
			Flows:           l.flows.or(defaultFlows),
			Sessions:        l.sessions.or(defaultSessions),
			Buffered:        l.buffered.or(defaultBuffered),
			BufferedPerFlow: l.perFlow.or(defaultPerFlow),
			MaxUnacked:      l.maxUnacked.or(defaultUnacked),
			RSVPRate:        l.rsvpRate.or(defaultRSVPRate),
			Neighbors:       l.neighbors.or(defaultNeighbors),
		},
		Console:    Console{Socket: r.socket.or(defaultSocket)},
		StateDir:   r.stateDir.or(defaultStateDir),
		Accounting: Accounting{File: r.records.v, Keep: r.keep.or(defaultKeep)},
	}
	d.limits(&c.Limits, l)
	d.path("socket", r.socket, defaultSocket, maxSocket)
	d.path("state_dir", r.stateDir, defaultStateDir+"/", maxPath)
	d.path("file", r.records, "/var/log/qosproxy-accounting.json", maxPath)
	c.Interfaces = d.interfaces(r)
	c.Bridge = d.bridge(r, c)
	c.Admission = d.admission(r, c)
	c.Policies = d.policies(r, c)
	d.admitted(r, c)
	d.marks(r, c)
	d.demotion(r, c)
	for i := range c.Interfaces {
		d.levelsFit(&r.interfaces[i], &c.Interfaces[i], c.forReservations)
	}
	return c
}

// limits checks the limits against each other. A limit that was left out
// follows the one that was given, so that lowering one key is enough.
func (d *decoder) limits(c *Limits, l rawLimits) {
	if c.BufferedPerFlow > c.Buffered {
		if l.perFlow.set && l.buffered.set {
			d.errorf(l.perFlow.at, "buffered_per_flow is more than buffered, the limit for all flows together: lower it or raise buffered")
		} else if l.perFlow.set {
			c.Buffered = c.BufferedPerFlow
		} else {
			c.BufferedPerFlow = c.Buffered
		}
	}
}

// path checks the absolute path of a file, or of a directory if the example ends in a
// slash.
func (d *decoder) path(key string, o opt[string], example string, most int) {
	example, dir := strings.CutSuffix(example, "/")
	switch {
	case !o.set:
	case o.v == "" || o.v[0] != '/':
		d.errorf(o.at, "%s: %s is not an absolute path: write for example %s", key, quote(o.v), example)
	case !dir && strings.HasSuffix(o.v, "/"):
		d.errorf(o.at, "%s: %s is a directory: name a file in it, for example %s", key, quote(o.v), example)
	case len(o.v) > most:
		d.errorf(o.at, "%s: the path has %d bytes, at most %d are possible: use a shorter one", key, len(o.v), most)
	}
}
