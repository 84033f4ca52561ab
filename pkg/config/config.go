package config

import (
	"net/netip"
	"time"
)

// Config is a validated configuration. It is never changed after Parse
// returned it; a reload makes a new one.
type Config struct {
	File       string // as given to Parse
	Mode       Mode
	Bridge     Bridge // with ModeBridge
	OnStop     OnStop
	OnCrash    time.Duration // how long kernel state may outlive a dead daemon
	Watchdog   bool          // a process ends the daemon if it hangs
	Log        Log
	Interfaces []Interface
	RSVP       RSVP
	Mapping    Mapping
	Multicast  Multicast
	TCP        TCP
	Limits     Limits
	Console    Console
	StateDir   string // directory of the reservations made by hand
	Admission  Admission
	Accounting Accounting
	Policies   []Policy // first match wins
}

// Bridge is what a box with ModeBridge makes of its interfaces.
type Bridge struct {
	Name string // of the bridge that it makes, unless they are in one already
}

// Log says what is logged and how.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // auto, text, json
}

// Interface is one managed interface.
type Interface struct {
	Name       string
	Zone       Zone
	Trust      Trust
	Capacity   uint64 // bytes/s of the HTB root; 0: the interface is not shaped
	Reservable uint64 // bytes/s that admission may grant; 0 where Capacity is 0
	// Shared is the name under which other boxes draw from the link too, so that
	// Reservable is for all of them together; empty: none do.
	Shared string
	// Ceilings are what each service may have of Capacity.
	Ceilings Ceilings
	// Overbooking is how many times as much of controlled load is granted as there
	// is room for; 0: no more than that.
	Overbooking float64
	SLS         []ServiceLevel // nil: no contract, any DSCP is carried
	// Arriving is the contract of what arrives, where Trust is TrustPoliced.
	Arriving []ServiceLevel
	// BestEffort is what best effort always has, in bytes/s; 0 where Capacity is 0.
	BestEffort uint64
	Classify   Classify
	// Discover: PATH is sent to hosts of whom it is not known that they speak
	// RSVP; false towards the network, where it always is.
	Discover bool
	// DClass is what becomes upstream of DCLASS for packets that leave here.
	DClass  DClass
	EFModel EFModel // of an interface with Capacity
	// PCP is the priority in the VLAN tags of what leaves, by DSCP; what is not in it
	// keeps the one that it has.
	PCP  map[uint8]uint8
	Line int // in the config file
	// Integrity are the keys of RFC 2747; none: messages are not signed.
	Integrity []IntegrityKey
	Handshake Handshake
	Window    int // of sequence numbers (RFC 2747 section 4.2)
	// Tunnel is nil where nothing is said: the kernel may know.
	Tunnel *Tunnel
	// Region is nil where nothing is said of what lies behind the interface.
	Region *Region
	// Aggregate is nil where the interface does not lead into an aggregation region.
	Aggregate *Aggregate
}

// Ceilings bounds the services of an interface, in bytes/s; 0: not by itself.
type Ceilings struct{ Guaranteed, ControlledLoad uint64 }

// IntegrityKey is one authentication key of an interface. The secret is not in
// the config file.
type IntegrityKey struct {
	ID          uint64     // 48 bits
	Algorithm   string     // hmac-md5, hmac-sha1, hmac-sha256
	KeyFile     string     // an absolute path
	From, Until time.Time  // zero: no limit
	Neighbor    netip.Addr // invalid: all
	Line        int
}

// RSVP holds the parameters of the signalling.
type RSVP struct {
	Refresh  time.Duration // the refresh period R of RFC 2205 3.7
	Hop      Hop
	Reliable bool // RFC 2961 towards neighbours that speak it; never with HopTransparent
}

// Mapping gives the DSCP of a reservation whose policy has no mark.
type Mapping struct {
	Guaranteed     uint8 // DSCP, six bits
	ControlledLoad uint8 // DSCP, six bits
	DClass         DClassOver
}

// Multicast is what becomes of groups.
type Multicast struct {
	Heterogeneous Heterogeneous
	DemoteTo      uint8 // DSCP of what is demoted
}

// TCP holds the parameters of TCP cheating.
type TCP struct {
	Window       Window
	ECN          ECN
	DrainTimeout time.Duration // how long SIGTERM waits for cheated flows
	ThinRate     uint64        // of one connection's ACKs, bytes/s; 0: auto
	PaceFactor   float64       // window of a paced source, in round trips at the reserved rate
	// FillAfter is how long a hole must stay before it is filled, FillPattern
	// with what, over and over (nil: zeros). FillEncrypted has streams filled
	// that a filled byte ends.
	FillAfter     time.Duration
	FillPattern   []byte
	FillEncrypted bool
}

// Limits bounds everything that grows.
type Limits struct {
	Flows           int    // rows in the flow table
	Sessions        int    // RSVP sessions
	Buffered        uint64 // bytes held for all reliable flows together
	BufferedPerFlow uint64 // bytes held for one reliable flow
	MaxUnacked      uint64 // bytes of one flow that the box acknowledged and the receiver did not
	RSVPRate        int    // RSVP messages/s accepted
	Neighbors       int    // RSVP neighbours
}

// Accounting says what becomes of the records of reservations that have ended.
type Accounting struct {
	File string // that they are appended to; "": none
	Keep int    // so many wait to be read
}

// Console says where the control API listens.
type Console struct {
	Socket string // path of the unix socket
}

// Policy is one row of the policy list.
type Policy struct {
	Name    string
	Line    int // in the config file
	Match   Match
	Reserve *Reserve // nil: static treatment only
	Marked  bool     // DSCP is to be written: mark is given, or it comes from the mapping
	Named   bool     // mark is given
	DSCP    uint8    // six bits, valid when Marked
	TCP     TCPMode
	// ThinAcks and Fill are done by the receiver's box.
	ThinAcks, Fill bool
	Excess         Excess
	Police         *Police // nil, or without Reserve: what may have DSCP
}

// Police bounds what a policy without a reservation matches, on each interface
// that it leaves by.
type Police struct {
	Rate    uint64 // bytes/s
	Burst   uint64 // bytes
	PerFlow bool   // each flow by itself; else all that the policy matches together
}

// Match selects flows by the direction of their data, whoever opened the
// connection. An empty list matches everything.
type Match struct {
	Protocol uint8 // IP protocol; 0: any
	From     []netip.Prefix
	To       []netip.Prefix
	FromPort [][2]uint16 // inclusive ranges; only with TCP or UDP
	ToPort   [][2]uint16
}

// Reserve says which reservation the box makes for a flow.
type Reserve struct {
	Role    Role
	Service Service
	Style   Style
	TSpec   TSpec
	// Delay bounds what queueing may add between the ends (RFC 2212); only with
	// guaranteed service. The latency of the path comes on top.
	Delay    time.Duration
	Priority Priority
}

// Priority is the preemption priority of RFC 3181; higher is more important.
type Priority struct {
	Given bool   // else nothing is said of it
	Setup uint16 // of a flow that asks to be admitted
	Hold  uint16 // of an admitted one; not below Setup
}

// TSpec is the traffic specification of RFC 2215 3.5 (RFC 2210's Sender_TSpec). It
// counts IP bytes, header included.
type TSpec struct {
	Rate      uint64 // r, bytes/s
	Burst     uint64 // b, bytes
	Peak      uint64 // p, bytes/s; 0: unlimited (infinity on the wire)
	MinUnit   uint32 // m, bytes
	MaxPacket uint32 // M, bytes
}

// HasSender reports whether the box speaks for the source of the data.
func (r *Reserve) HasSender() bool { return r.Role != RoleReceiver }

// HasReceiver reports whether the box speaks for the destination of the data.
func (r *Reserve) HasReceiver() bool { return r.Role != RoleSender }

// Interface returns the interface of that name, or nil.
func (c *Config) Interface(name string) *Interface {
	for i := range c.Interfaces {
		if c.Interfaces[i].Name == name {
			return &c.Interfaces[i]
		}
	}
	return nil
}
