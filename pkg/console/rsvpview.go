package console

// RSVPNeighborRow is a previous or next hop that state depends on.
type RSVPNeighborRow struct {
	Address   string       `json:"address"`
	Interface string       `json:"interface"`
	Senders   int          `json:"senders"`   // path states that came from it
	Requests  int          `json:"requests"`  // reservation requests of its
	HeardS    *uint64      `json:"heard_s"`   // since its latest message; null: none was counted
	Reduction string       `json:"reduction"` // RFC 2961: off, unknown, no, yes
	RTTUS     uint64       `json:"rtt_us"`    // 0: not measured
	Unacked   int          `json:"unacked"`   // messages that it has not acknowledged
	Summary   int          `json:"summary"`   // messages of its that a summary refreshes
	Secured   bool         `json:"secured"`   // INTEGRITY is required on the interface
	Received  RSVPMessages `json:"received"`
	Sent      RSVPMessages `json:"sent"` // those that were addressed to it
}

// Answers of RSVPNeighborRow.Reduction.
const (
	ReductionOff     = "off"
	ReductionUnknown = "unknown" // it has not spoken yet
	ReductionNo      = "no"
	ReductionYes     = "yes"
)

// RSVPSenderRow is the path state of one sender.
type RSVPSenderRow struct {
	Dst          string   `json:"dst"`
	Protocol     string   `json:"protocol"`
	Dport        uint16   `json:"dport"`
	Src          string   `json:"src"`
	Sport        uint16   `json:"sport"`
	Role         string   `json:"role"`
	State        string   `json:"state"`
	PrevHop      string   `json:"prev_hop"` // "" the sender is spoken for here
	InterfaceIn  string   `json:"interface_in"`
	Interfaces   []string `json:"interfaces"` // the data leave by them
	TSpec        *TSpec   `json:"tspec"`
	Hops         uint32   `json:"hops"`          // IntServ hops so far
	BandwidthBPS uint64   `json:"bandwidth_bps"` // of the path so far, 0: not known
	LatencyUS    *uint64  `json:"latency_us"`    // null: not known
	MTU          uint32   `json:"mtu"`           // 0: not known
	Break        bool     `json:"break"`         // a hop without RSVP was crossed
	RefreshS     float64  `json:"refresh_s"`     // until the next PATH goes out, 0: none does
	ExpiresS     float64  `json:"expires_s"`     // without a refresh, 0: never
	AgeS         uint64   `json:"age_s"`
	Error        string   `json:"error"`
}

// RSVPFilter is a sender that a reservation is for.
type RSVPFilter struct {
	Src   string `json:"src"`
	Sport uint16 `json:"sport"`
}

// RSVPReservationRow is what one next hop asks for.
type RSVPReservationRow struct {
	Dst       string       `json:"dst"`
	Protocol  string       `json:"protocol"`
	Dport     uint16       `json:"dport"`
	Style     string       `json:"style"`
	Filters   []RSVPFilter `json:"filters"`  // empty in wildcard style
	NextHop   string       `json:"next_hop"` // "" the receiver is spoken for here
	Interface string       `json:"interface"`
	Service   string       `json:"service"`
	FlowSpec  *FlowSpec    `json:"flowspec"`
	Installed bool         `json:"installed"` // something is in place for it
	Pending   bool         `json:"pending"`   // this is not in place
	Confirm   bool         `json:"confirm"`   // a confirmation is wanted
	Class     string       `json:"class"`
	ExpiresS  float64      `json:"expires_s"` // without a refresh, 0: never
}

// RSVPInterfaceRow is what RSVP does on an interface.
type RSVPInterfaceRow struct {
	Name          string       `json:"name"`
	Zone          string       `json:"zone"`
	Address       string       `json:"address"`  // "" none
	Address6      string       `json:"address6"` // "" none
	MTU           int          `json:"mtu"`
	ReservableBPS uint64       `json:"reservable_bps"`
	ReservedBPS   uint64       `json:"reserved_bps"`
	Reservations  int          `json:"reservations"` // in place for what leaves by it
	Requests      int          `json:"requests"`     // of next hops behind it
	SendersIn     int          `json:"senders_in"`   // path states that came in by it
	SendersOut    int          `json:"senders_out"`  // whose data leave by it
	Neighbors     int          `json:"neighbors"`
	RefreshS      float64      `json:"refresh_s"` // R
	Reduction     bool         `json:"reduction"` // RFC 2961 is on
	Secured       bool         `json:"secured"`   // INTEGRITY is required
	HeardS        *uint64      `json:"heard_s"`   // since the latest message; null: there was none
	Received      RSVPMessages `json:"received"`
	Sent          RSVPMessages `json:"sent"`
}
