package console

// ReservationRequest asks for a reservation by hand: the five-tuple of the data
// and what it shall have. What is left out has the defaults of docs/api.md.
type ReservationRequest struct {
	Protocol  Value     `json:"protocol"` // tcp, udp or the number
	Src       string    `json:"src"`
	Sport     uint16    `json:"sport,omitempty"`
	Dst       string    `json:"dst"`
	Dport     uint16    `json:"dport,omitempty"`
	Side      string    `json:"side,omitempty"`      // sender, receiver, both
	Service   string    `json:"service,omitempty"`   // controlled-load, guaranteed
	Rate      Value     `json:"rate"`                // "8mbit", or bytes/s
	Burst     Value     `json:"burst,omitzero"`      // "64kB", or bytes
	Peak      Value     `json:"peak,omitzero"`       // as rate
	MinUnit   Value     `json:"min_unit,omitzero"`   // as burst
	MaxPacket Value     `json:"max_packet,omitzero"` // as burst
	Delay     Value     `json:"delay,omitzero"`      // "50ms", or seconds
	Style     string    `json:"style,omitempty"`     // auto, ff, se, wf
	Mark      Value     `json:"mark,omitzero"`       // PHB name or number
	TCP       string    `json:"tcp,omitempty"`       // none, realtime, reliable
	Excess    string    `json:"excess,omitempty"`    // best-effort, drop, or a PHB
	Priority  *Priority `json:"priority,omitempty"`  // RFC 3181
	Owner     string    `json:"owner,omitempty"`     // who asks
	Comment   string    `json:"comment,omitempty"`   // what for
	Duration  Value     `json:"duration,omitzero"`   // "2h", or seconds
	Expires   string    `json:"expires,omitempty"`   // RFC 3339
}

// Priority are the preemption priorities of RFC 3181.
type Priority struct {
	Setup uint16 `json:"setup"`
	Hold  uint16 `json:"hold"`
}

// Branch is how far a reservation is on one of the interfaces that its data
// leave by.
type Branch struct {
	Interface string `json:"interface"`
	State     string `json:"state"` // path, requested, reserved
	Class     string `json:"class"`
}

// ReservationRow is one reservation by hand.
type ReservationRow struct {
	ID         string    `json:"id"`
	Owner      string    `json:"owner"`
	Comment    string    `json:"comment"`
	Protocol   string    `json:"protocol"`
	Src        string    `json:"src"`
	Sport      uint16    `json:"sport"`
	Dst        string    `json:"dst"`
	Dport      uint16    `json:"dport"`
	Side       string    `json:"side"` // as asked for
	Role       string    `json:"role"` // of the session, "" without one
	Service    string    `json:"service"`
	Style      string    `json:"style"` // as asked for
	TSpec      *TSpec    `json:"tspec"` // as asked for
	DelayUS    uint64    `json:"delay_us"`
	Priority   *Priority `json:"priority"` // as asked for, null: not
	DSCP       uint8     `json:"dscp"`
	PHB        string    `json:"phb"`
	TCPMode    string    `json:"tcp_mode"`
	Excess     string    `json:"excess"`
	State      string    `json:"state"`    // as of a session
	Reason     string    `json:"reason"`   // what is waited for
	FlowSpec   *FlowSpec `json:"flowspec"` // in place or asked for; null: nothing
	Class      string    `json:"class"`
	Branches   []Branch  `json:"branches"` // the interfaces that the data leave by
	Error      string    `json:"error"`
	ErrorCode  uint8     `json:"error_code"` // RFC 2205 Appendix B, 0: none
	ErrorValue uint16    `json:"error_value"`
	ErrorNode  string    `json:"error_node"` // that found it, "" this box
	ErrorFlags
	Since   string `json:"since"`   // RFC 3339
	Expires string `json:"expires"` // RFC 3339, "" never
	AgeS    uint64 `json:"age_s"`
}

// Places says on how many of how many interfaces it is reserved.
func (r *ReservationRow) Places() (reserved, of int) {
	for _, b := range r.Branches {
		if b.State == SessionReserved {
			reserved++
		}
	}
	return reserved, len(r.Branches)
}
