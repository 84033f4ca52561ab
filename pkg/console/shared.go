package console

// States of a LedgerStatus.
const (
	LedgerRegistering = "registering"  // the box is not known to etcd, or not any more
	LedgerConnected   = "connected"    // boxes decide together
	LedgerOutOfReach  = "out-of-reach" // nothing new is granted of what is shared, but for a quota
	LedgerNameTaken   = "name-taken"   // another process registered as this box
	LedgerClosed      = "closed"
)

// LedgerStatus says where admission keeps its accounts.
type LedgerStatus struct {
	Kind   string `json:"kind"`    // memory, etcd
	State  string `json:"state"`   // of etcd; "" in memory
	Reason string `json:"reason"`  // of a state that is not connected
	SinceS uint64 `json:"since_s"` // in this state
	Box    string `json:"box"`     // this box's name among those that share
}

// SharedRow is an account of a link, or of one of its service levels, that several
// boxes draw from. Its amounts are those of all boxes, where nothing else is said.
type SharedRow struct {
	Name       string      `json:"name"`
	Level      string      `json:"level"` // service level; "": the link itself
	LimitBPS   uint64      `json:"limit_bps"`
	HeldBPS    uint64      `json:"held_bps"`
	OwnBPS     uint64      `json:"own_bps"` // of these, by this box
	LimitBurst uint64      `json:"limit_burst_bytes"`
	HeldBurst  uint64      `json:"held_burst_bytes"`
	OwnBurst   uint64      `json:"own_burst_bytes"`
	Boxes      []SharedBox `json:"boxes"` // those that hold something
}

// SharedBox is what one box holds of a shared account.
type SharedBox struct {
	Box       string `json:"box"`
	HeldBPS   uint64 `json:"held_bps"`
	HeldBurst uint64 `json:"held_burst_bytes"`
}

// SharedStats counts what was decided together with other boxes.
type SharedStats struct {
	Granted     uint64 `json:"granted"` // increases that etcd counted
	Refused     uint64 `json:"refused"` // no room
	Failed      uint64 `json:"failed"`  // etcd did not answer
	ByQuota     uint64 `json:"by_quota"`
	Crowded     uint64 `json:"crowded"`   // asked for in vain, since others asked at the same time
	Conflicts   uint64 `json:"conflicts"` // writes that came after another one of this box, and were done again
	Registered  uint64 `json:"registered"`
	LeasesLost  uint64 `json:"leases_lost"`  // although the box lived
	Over        uint64 `json:"over"`         // times that an account held more than it has, by this box's doing
	WatchErrors uint64 `json:"watch_errors"` // times that the others' changes were lost sight of
}
