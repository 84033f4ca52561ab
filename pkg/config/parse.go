package config

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Defaults of the keys that a file leaves out.
const (
	defaultOnCrash    = 10 * time.Minute
	defaultRefresh    = 30 * time.Second // RFC 2205 3.7
	defaultDrain      = 30 * time.Second
	defaultFillAfter  = 20 * time.Millisecond
	defaultReservable = 8000 // hundredths of a per cent
	defaultBestEffort = 500  // hundredths of a per cent
	controlShare      = 200  // the same, of what every shaped interface keeps for RSVP, ARP and ND
	defaultFlows      = 100_000
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
	af31              = 26
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
		Log:       Log{Level: r.level.or("info"), Format: r.format.or("auto")},
		RSVP:      RSVP{Refresh: r.refresh.or(defaultRefresh), Reliable: r.reliable.or(true)},
		Mapping:   Mapping{Guaranteed: r.guaranteed.or(dscp.EF), ControlledLoad: r.controlled.or(af31), DClass: r.dclass.v},
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
	d.socket(r.socket)
	d.stateDir(r.stateDir)
	d.records(r.records)
	c.Interfaces = d.interfaces(r)
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

func (d *decoder) socket(s opt[string]) {
	switch {
	case !s.set:
	case s.v == "" || s.v[0] != '/':
		d.errorf(s.at, "socket: %s is not an absolute path: write for example %s", quote(s.v), defaultSocket)
	case s.v[len(s.v)-1] == '/':
		d.errorf(s.at, "socket: %s is a directory: write for example %s", quote(s.v), defaultSocket)
	case len(s.v) > maxSocket:
		d.errorf(s.at, "socket: the path has %d bytes, a unix socket's has at most %d: use a shorter one", len(s.v), maxSocket)
	}
}

func (d *decoder) records(s opt[string]) {
	const example = "/var/log/qosproxy-accounting.json"
	switch {
	case !s.set:
	case s.v == "" || s.v[0] != '/':
		d.errorf(s.at, "file: %s is not an absolute path: write for example %s", quote(s.v), example)
	case s.v[len(s.v)-1] == '/':
		d.errorf(s.at, "file: %s is a directory: write for example %s", quote(s.v), example)
	case len(s.v) > maxPath:
		d.errorf(s.at, "file: the path has %d bytes, at most %d are possible: use a shorter one", len(s.v), maxPath)
	}
}

func (d *decoder) stateDir(s opt[string]) {
	switch {
	case !s.set:
	case s.v == "" || s.v[0] != '/':
		d.errorf(s.at, "state_dir: %s is not an absolute path: write for example %s", quote(s.v), defaultStateDir)
	case len(s.v) > maxPath:
		d.errorf(s.at, "state_dir: the path has %d bytes, at most %d are possible: use a shorter one", len(s.v), maxPath)
	}
}
