package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// AccountingUsage is what was carried: packets and IP bytes, headers included. What
// conforms, what exceeds and was sent as best effort, and what was dropped are
// apart; the first two keys are their sum.
type AccountingUsage struct {
	Packets        uint64 `json:"packets"`
	Bytes          uint64 `json:"bytes"`
	ConformPackets uint64 `json:"conform_packets"`
	ConformBytes   uint64 `json:"conform_bytes"`
	ExceedPackets  uint64 `json:"exceed_packets"`
	ExceedBytes    uint64 `json:"exceed_bytes"`
	DroppedPackets uint64 `json:"dropped_packets"`
	DroppedBytes   uint64 `json:"dropped_bytes"`
}

// The states of an accounting record.
const (
	AccountRunning = "running"
	AccountEnded   = "ended"
)

// AccountingRow is the account of one reservation.
type AccountingRow struct {
	Serial      uint64  `json:"serial"` // of an ended record; 0: running
	State       string  `json:"state"`
	Dst         string  `json:"dst"`
	Protocol    string  `json:"protocol"`
	Dport       uint16  `json:"dport"`
	Format      string  `json:"format"`
	Src         string  `json:"src"` // "": senders share it
	Sport       uint16  `json:"sport"`
	SPI         uint32  `json:"spi"`
	FlowLabel   uint32  `json:"flow_label"`
	Style       string  `json:"style"`
	Service     string  `json:"service"`
	Policy      string  `json:"policy"`
	DSCP        uint8   `json:"dscp"`
	PHB         string  `json:"phb"`
	ReservedBPS uint64  `json:"reserved_bps"` // at last
	Begin       string  `json:"begin"`        // RFC 3339
	End         string  `json:"end"`          // "" while it runs
	DurationS   float64 `json:"duration_s"`
	Reason      string  `json:"reason"` // why it has ended
	AccountingUsage
	PeakBPS  uint64             `json:"peak_bps"` // carried in the worst second
	Users    []AccountingUser   `json:"users"`
	Branches []AccountingBranch `json:"branches"`
	More     int                `json:"branches_more"` // that are in the sums alone
}

// AccountingUser names whom traffic is put down to.
type AccountingUser struct {
	User string `json:"user"`
	Kind string `json:"kind"` // user, identity, owner, address, others
}

// AccountingBranch is what one sender's packets took on one interface.
type AccountingBranch struct {
	Interface string `json:"interface"`
	Src       string `json:"src"`
	Sport     uint16 `json:"sport"`
	AccountingUser
	Begin string `json:"begin"`
	End   string `json:"end"`
	AccountingUsage
	PeakBPS uint64 `json:"peak_bps"`
}

// AccountingSum is the account of one user.
type AccountingSum struct {
	AccountingUser
	Running      int     `json:"running"`      // flows that are reserved now
	Reservations uint64  `json:"reservations"` // that ever were
	DurationS    float64 `json:"duration_s"`   // of all of them together
	AccountingUsage
	PeakBPS uint64 `json:"peak_bps"` // of all of them together
	Seen    string `json:"seen"`     // when something was reserved last
}

// AccountingStruck answers who has read the records.
type AccountingStruck struct {
	Struck int `json:"struck"` // this time
	Left   int `json:"left"`   // ended records that are kept
}

// AccountingStats counts records.
type AccountingStats struct {
	Running int    `json:"running"` // now
	Kept    int    `json:"kept"`    // ended, and not read
	Ended   uint64 `json:"ended"`
	Read    uint64 `json:"read"`
	// Lost are records that nobody has read in time, with the bytes that were in
	// them.
	Lost      uint64 `json:"lost"`
	LostBytes uint64 `json:"lost_bytes"`
	Users     int    `json:"users"`
	// UsersFolded counts users that have been added to the others for want of room.
	UsersFolded uint64 `json:"users_folded"`
	AccountingUsage
	// Lines of the log and the file that were not written, and times that state_dir
	// could not be.
	LinesLost  uint64 `json:"lines_lost"`
	SaveErrors uint64 `json:"save_errors"`
}

// accounting lists records: all, or those of one state.
func (s *Server) accounting(w http.ResponseWriter, r *http.Request) {
	state := r.URL.Query().Get("state")
	if state != "" && state != AccountRunning && state != AccountEnded {
		s.fail(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("state: %q is not %s or %s", state, AccountRunning, AccountEnded), nil)
		return
	}
	rows := slices.DeleteFunc(list(s.backend.Accounting()), func(r AccountingRow) bool { return state != "" && r.State != state })
	for i := range rows {
		rows[i].Users, rows[i].Branches = list(rows[i].Users), list(rows[i].Branches)
	}
	s.writeJSON(w, http.StatusOK, rows)
}

// accountingRead strikes out what the client has. It says up to where, so that what
// has ended since it asked stays, and a client that dies before finds all of it
// again.
func (s *Server) accountingRead(w http.ResponseWriter, r *http.Request) {
	discardBody(r)
	q := r.URL.Query().Get("through")
	through, err := strconv.ParseUint(q, 10, 64)
	if err != nil {
		s.fail(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("through: %q is not the serial of a record: DELETE strikes out the ended records up to it, which you have read", q), nil)
		return
	}
	s.writeJSON(w, http.StatusOK, s.backend.AccountingRead(through))
}

// Accounting returns the records of reservations, of one state or ("") all.
func (c *Client) Accounting(ctx context.Context, state string) ([]AccountingRow, error) {
	if state != "" {
		state = "?state=" + state
	}
	return get[[]AccountingRow](ctx, c, "accounting"+state)
}

// AccountingUsers returns what each user has used.
func (c *Client) AccountingUsers(ctx context.Context) ([]AccountingSum, error) {
	return get[[]AccountingSum](ctx, c, "accounting/users")
}

// AccountingRead has the daemon strike out the ended records up to a serial number.
func (c *Client) AccountingRead(ctx context.Context, through uint64) (AccountingStruck, error) {
	return call[AccountingStruck](ctx, c, http.MethodDelete, "accounting?through="+strconv.FormatUint(through, 10), nil)
}
