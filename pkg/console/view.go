package console

// Units, unless a name says otherwise: _bps is bit/s, _bytes bytes, _us
// microseconds, _s seconds; rates and buckets inside a TSpec are bytes/s and
// bytes, as RSVP has them.

// States of a FlowRow.
const (
	FlowWatched   = "watched"    // a policy claims it, no reservation yet
	FlowManaged   = "managed"    // treated in the kernel
	FlowCheated   = "cheated"    // under TCP cheating
	FlowLeftAlone = "left-alone" // Reason says why
)

// FlowRow is one direction of a flow: a TCP connection has two rows with the
// same Conn.
type FlowRow struct {
	Conn           string `json:"conn"`
	Protocol       string `json:"protocol"` // name or number
	Src            string `json:"src"`
	Sport          uint16 `json:"sport"`
	Dst            string `json:"dst"`
	Dport          uint16 `json:"dport"`
	FlowLabel      uint32 `json:"flow_label"` // IPv6, of a flow that is reserved by it
	SPI            uint32 `json:"spi"`        // of a flow that is reserved by it (RFC 2207), which has no ports
	Policy         string `json:"policy"`
	PolicyLine     int    `json:"policy_line"` // in the config file
	TCPMode        string `json:"tcp_mode"`
	DSCP           uint8  `json:"dscp"`
	PHB            string `json:"phb"`
	Class          string `json:"class"`     // "1:10" or ""
	Interface      string `json:"interface"` // that it leaves by, "" if that is none of ours
	State          string `json:"state"`
	Reason         string `json:"reason"`
	Packets        uint64 `json:"packets"`
	Bytes          uint64 `json:"bytes"`
	RateBPS        uint64 `json:"rate_bps"`
	AgeS           uint64 `json:"age_s"`
	FakeAcks       uint64 `json:"fake_acks"`
	AbsorbedAcks   uint64 `json:"absorbed_acks"`
	AcksThinned    uint64 `json:"acks_thinned"`
	Rewritten      uint64 `json:"rewritten"`
	Retransmits    uint64 `json:"retransmits"`
	Timeouts       uint64 `json:"timeouts"`              // of the box's retransmission timer
	TailProbes     uint64 `json:"tail_probes"`           // RFC 8985 section 7
	PathMTU        uint64 `json:"path_mtu"`              // bytes, found towards the receiver; 0: no less than the source takes it to be
	Withdrawn      uint64 `json:"predictions_withdrawn"` // times the window was not predicted any more
	FilledBytes    uint64 `json:"filled_bytes"`
	FillsAgain     uint64 `json:"fills_again"`    // segments made once more for a hole
	FillsGivenUp   uint64 `json:"fills_given_up"` // holes that stayed
	BufferedBytes  uint64 `json:"buffered_bytes"`
	RTTSenderUS    uint64 `json:"rtt_sender_us"`   // box to the data's source and back
	RTTReceiverUS  uint64 `json:"rtt_receiver_us"` // box to the data's receiver and back
	ReservedBPS    uint64 `json:"reserved_bps"`    // 0: no reservation
	SetupUS        uint64 `json:"setup_us"`        // first packet to reservation in place
	ConformPackets uint64 `json:"conform_packets"` // within the TSpec
	ExceedPackets  uint64 `json:"exceed_packets"`  // above it, sent as best effort
	DroppedPackets uint64 `json:"dropped_packets"` // above it, dropped

	// FilledRanges are the filled bytes: from the first of each up to but not
	// including the second, counted from the start of the stream. The list is
	// bounded; FilledMore ranges are not in it.
	FilledRanges [][2]uint64 `json:"filled_ranges"`
	FilledMore   uint64      `json:"filled_more"`
}

// TSpec is the sender's traffic specification (RFC 2210 3.1).
type TSpec struct {
	R   float64  `json:"r"` // bytes/s
	B   float64  `json:"b"` // bytes
	P   *float64 `json:"p"` // bytes/s; null: unlimited, which JSON has no number for
	Min uint32   `json:"m"` // bytes
	Max uint32   `json:"M"` // bytes
}

// FlowSpec is what was reserved (RFC 2210 3.2).
type FlowSpec struct {
	TSpec
	Rate  float64 `json:"R"` // bytes/s; 0 for controlled load
	Slack uint32  `json:"S"` // microseconds; 0 for controlled load
}

// States of a SessionRow.
const (
	SessionInactive  = "inactive"
	SessionPath      = "path"
	SessionRequested = "requested"
	SessionReserved  = "reserved"
	SessionRejected  = "rejected"
	SessionBlockaded = "blockaded"
)

// ErrorFlags are the Error_flags of an error message (RFC 2205 section 3.11.1).
type ErrorFlags struct {
	InPlace   bool `json:"error_in_place"`   // an earlier reservation stays where it failed
	NotGuilty bool `json:"error_not_guilty"` // what failed was larger than what any receiver here asks for
}

// SessionRow is one RSVP session and sender.
type SessionRow struct {
	Dst       string    `json:"dst"`
	Protocol  string    `json:"protocol"`
	Dport     uint16    `json:"dport"`
	Src       string    `json:"src"`
	Sport     uint16    `json:"sport"`
	Format    string    `json:"format"`     // "": addresses and ports; gpi, aggregate, generic-aggregate
	SPI       uint32    `json:"spi"`        // of the format gpi
	FlowLabel uint32    `json:"flow_label"` // IPv6, of a sender that is named by it
	Policy    string    `json:"policy"`
	Role      string    `json:"role"`     // sender-proxy, receiver-proxy, transit
	PrevHop   string    `json:"prev_hop"` // "" where there is none
	NextHop   string    `json:"next_hop"`
	Interface string    `json:"interface"` // the data leaves by it
	Style     string    `json:"style"`     // wf, ff, se
	Service   string    `json:"service"`   // controlled-load, guaranteed
	TSpec     *TSpec    `json:"tspec"`     // null before a PATH
	FlowSpec  *FlowSpec `json:"flowspec"`  // null before a RESV
	State     string    `json:"state"`
	DSCP      uint8     `json:"dscp"`
	PHB       string    `json:"phb"`
	Class     string    `json:"class"`
	Error     string    `json:"error"`
	ErrorFlags
	Priority *Priority `json:"priority"` // null: nobody has said anything
	// Identities are whom PATH and RESV name; they are not proved.
	Identities []string `json:"identities"`
	User       string   `json:"user"`   // of admission.users in whose account the reservation is, "" none
	DClass     []int    `json:"dclass"` // code points that RESV names
	AgeS       uint64   `json:"age_s"`
	// Aggregate is what carries the reservation across a region (RFC 3175); null: none.
	Aggregate *AggregateRef `json:"aggregate"`
	// Carries is what is in an aggregate that begins or ends here, else null.
	Carries *Carries `json:"carries"`
}

// AggregateRef names an aggregate.
type AggregateRef struct {
	Src  string `json:"src"` // the aggregator
	Dst  string `json:"dst"` // the deaggregator
	DSCP uint8  `json:"dscp"`
	PHB  string `json:"phb"`
}

// Carries is what is in an aggregate.
type Carries struct {
	Reservations int    `json:"reservations"`
	Waiting      int    `json:"waiting"`      // for room in it
	UsedBPS      uint64 `json:"used_bps"`     // by the reservations in it
	ReservedBPS  uint64 `json:"reserved_bps"` // of the aggregate
	AskedBPS     uint64 `json:"asked_bps"`    // ... as it shall be
}

// LinkRow is one managed interface.
type LinkRow struct {
	Name          string       `json:"name"`
	Zone          string       `json:"zone"`
	Trust         string       `json:"trust"`
	Up            bool         `json:"up"`
	MTU           int          `json:"mtu"`            // bytes
	CapacityBPS   uint64       `json:"capacity_bps"`   // 0: not shaped
	ReservableBPS uint64       `json:"reservable_bps"` // at most this is granted
	ReservedBPS   uint64       `json:"reserved_bps"`
	FreeBPS       uint64       `json:"free_bps"`
	Reservations  int          `json:"reservations"`
	Services      []ServiceRow `json:"services"`
	Levels        []LevelRow   `json:"levels"`
	Shared        []SharedRow  `json:"shared"`          // with other boxes
	Classify      string       `json:"classify"`        // flow, dscp
	BestEffortBPS uint64       `json:"best_effort_bps"` // what best effort has for certain
	DSCPs         []DSCPRow    `json:"dscps"`
	Classes       []ClassRow   `json:"classes"`
}

// DSCPRow is what is done to the packets with a DSCP that leave by a link, or arrive
// on it, and that no reservation covers; and what it was done to.
type DSCPRow struct {
	Direction string `json:"direction"` // leaving, arriving
	DSCP      uint8  `json:"dscp"`
	PHB       string `json:"phb"`
	Class     string `json:"class"`    // of what conforms; "": as the packet was
	Policed   bool   `json:"policed"`  // else all of it conforms
	RateBPS   uint64 `json:"rate_bps"` // of IP packets; policed and 0: nothing conforms
	Burst     uint64 `json:"burst"`    // bytes
	Excess    string `json:"excess"`   // best-effort, drop, or the PHB that it is remarked to
	DSCPCounts
}

// DSCPCounts are packets as on the wire, and their IP bytes. What is dropped
// exceeds, too.
type DSCPCounts struct {
	ConformPackets uint64 `json:"conform_packets"`
	ConformBytes   uint64 `json:"conform_bytes"`
	ExceedPackets  uint64 `json:"exceed_packets"`
	ExceedBytes    uint64 `json:"exceed_bytes"`
	DroppedPackets uint64 `json:"dropped_packets"`
	DroppedBytes   uint64 `json:"dropped_bytes"`
}

// ServiceRow is what a link granted to one IntServ service. Where the link is not
// shaped nothing is limited, and the limits are 0.
type ServiceRow struct {
	Service     string  `json:"service"`
	GrantedBPS  uint64  `json:"granted_bps"`
	LimitBPS    uint64  `json:"limit_bps"` // ceiling times overbooking
	FreeBPS     uint64  `json:"free_bps"`
	Overbooking float64 `json:"overbooking"` // 1: none
}

// States of a service level.
const (
	LevelOpen     = "open"      // sold, at this time
	LevelClosed   = "closed"    // sold, and not at this time of day
	LevelUnsold   = "unsold"    // the contract does not have it: only what was granted before it came
	LevelNoBounds = "unbounded" // no contract
)

// LevelRow is what a link granted of one service level, of what the network behind
// it has sold.
type LevelRow struct {
	DSCP         uint8    `json:"dscp"`
	PHB          string   `json:"phb"`
	State        string   `json:"state"`
	Times        []string `json:"times"` // of the contract's rows; empty: all day
	GrantedBPS   uint64   `json:"granted_bps"`
	LimitBPS     uint64   `json:"limit_bps"`
	FreeBPS      uint64   `json:"free_bps"`
	GrantedBurst uint64   `json:"granted_burst"` // bytes
	LimitBurst   uint64   `json:"limit_burst"`
	FreeBurst    uint64   `json:"free_burst"`
}

// ClassRow is one HTB class of a link.
type ClassRow struct {
	Class       string `json:"class"` // "1:10"
	Kind        string `json:"kind"`  // root, control, reserved, pool, phb, best-effort
	RateBPS     uint64 `json:"rate_bps"`
	CeilBPS     uint64 `json:"ceil_bps"`
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
	Drops       uint64 `json:"drops"`      // packets
	Overlimits  uint64 `json:"overlimits"` // times it had to wait
	BacklogPkts uint64 `json:"backlog_packets"`
	Backlog     uint64 `json:"backlog_bytes"`
}

// PolicyRow is one policy, in the order in which they are tried.
type PolicyRow struct {
	Name         string    `json:"name"`
	Line         int       `json:"line"`     // in the config file
	Protocol     string    `json:"protocol"` // "" any
	From         []string  `json:"from"`     // empty: any
	To           []string  `json:"to"`
	FromPort     []string  `json:"from_port"`
	ToPort       []string  `json:"to_port"`
	Role         string    `json:"role"` // "" no reservation
	Service      string    `json:"service"`
	TSpec        *TSpec    `json:"tspec"`
	DelayUS      uint64    `json:"delay_us"` // that guaranteed service keeps; 0: none
	Priority     *Priority `json:"priority"` // null: none given
	DSCP         int       `json:"dscp"`     // -1: not marked
	PHB          string    `json:"phb"`
	TCPMode      string    `json:"tcp_mode"`
	ThinAcks     bool      `json:"thin_acks"`
	Fill         bool      `json:"fill"`
	Excess       string    `json:"excess"`
	Police       *Police   `json:"police"` // null: none
	Flows        int       `json:"flows"`
	Reservations int       `json:"reservations"`
	Matched      uint64    `json:"matched"` // flows since start
}

// Police is what the traffic of a policy without a reservation may be.
type Police struct {
	RateBPS uint64 `json:"rate_bps"`
	Burst   uint64 `json:"burst"` // bytes
	Per     string `json:"per"`   // all, flow
}

// Status is the daemon at a glance.
type Status struct {
	Version    string       `json:"version"`
	State      string       `json:"state"` // starting, running, draining
	PID        int          `json:"pid"`
	Mode       string       `json:"mode"`
	ConfigFile string       `json:"config_file"`
	UptimeS    uint64       `json:"uptime_s"`
	Reload     ReloadStatus `json:"reload"`
	Capture    string       `json:"capture"`    // how packets are queued: native or xt
	DataPlane  string       `json:"data_plane"` // how flows are treated: ebpf or nft
	Flows      FlowCount    `json:"flows"`
	Sessions   SessionCount `json:"sessions"`
	Policies   int          `json:"policies"`
	Links      int          `json:"links"`
	Ledger     LedgerStatus `json:"ledger"`
	Problems   []string     `json:"problems"` // what is not as it should be, one sentence each
}

// ReloadStatus says how the last reload ended.
type ReloadStatus struct {
	Count  uint64 `json:"count"`
	Failed uint64 `json:"failed"`
	OK     bool   `json:"ok"`    // of the last one; true where there was none
	Error  string `json:"error"` // of the last one
	AgeS   uint64 `json:"age_s"` // since the config in use was loaded
}

// FlowCount counts flow rows by state.
type FlowCount struct {
	Watched   int `json:"watched"`
	Managed   int `json:"managed"`
	Cheated   int `json:"cheated"`
	LeftAlone int `json:"left_alone"`
}

// SessionCount counts session rows by state.
type SessionCount struct {
	Inactive  int `json:"inactive"`
	Path      int `json:"path"`
	Requested int `json:"requested"`
	Reserved  int `json:"reserved"`
	Rejected  int `json:"rejected"`
	Blockaded int `json:"blockaded"`
}
