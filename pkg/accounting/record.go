package accounting

import (
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Row names a row of the kernel's table: one flow where it leaves.
type Row struct {
	Interface string
	Key       packet.FlowKey
}

// UserKind says how a user is known.
type UserKind string

// The kinds of users, the best known first.
const (
	ByName     UserKind = "user"     // of the configuration, by whatever of these
	ByIdentity UserKind = "identity" // RFC 3182
	ByOwner    UserKind = "owner"    // of a reservation by hand
	ByAddress  UserKind = "address"  // of the data's source
	Others     UserKind = "others"   // all that there was no room for
)

// User is whom the traffic of a row is put down to.
type User struct {
	Kind UserKind `json:"kind"`
	Name string   `json:"name"`
}

// Info is what a reservation is, as it was told last.
type Info struct {
	Dst      netip.Addr `json:"dst"`
	Protocol uint8      `json:"protocol"`
	Dport    uint16     `json:"dport"`
	Format   string     `json:"format,omitempty"` // "": by ports
	// Src and the others are the sender's; invalid where senders share it.
	Src   netip.Addr `json:"src"`
	Sport uint16     `json:"sport,omitempty"`
	SPI   uint32     `json:"spi,omitempty"`
	Label uint32     `json:"flow_label,omitempty"`

	Style   string  `json:"style"`
	Service string  `json:"service"`
	Policy  string  `json:"policy,omitempty"`
	DSCP    uint8   `json:"dscp"`
	Rate    float64 `json:"rate"` // reserved, bytes/s
}

// Record is the account of one reservation. To a group it has a part for each
// branch, and what leaves by two of them is there twice, since it was sent twice.
type Record struct {
	// Serial tells ended records apart and grows; 0: it is not at its end.
	Serial uint64
	Info
	Begin, End time.Time // End is zero while it runs
	Why        string    // it has ended
	Usage      Usage
	Peak       float64 // bytes/s carried, the most of any second
	Parts      []Part
	More       int // parts that there was no room for: they are in Usage alone
}

// Duration is how long it was, or has been until now.
func (r *Record) Duration(now time.Time) time.Duration {
	if !r.End.IsZero() {
		now = r.End
	}
	return max(0, now.Sub(r.Begin))
}

// Part is what one sender's packets took on one interface.
type Part struct {
	Row
	User       User
	Begin, End time.Time // End is zero while it lasts
	Usage      Usage
	Peak       float64
}

// Sum is the account of one user: of all its reservations, those that run too.
type Sum struct {
	User
	Running int     // flows that are reserved now
	Flows   uint64  // that ever were
	Seconds float64 // of all of them together
	Usage   Usage
	Peak    float64 // of all of them together
	Seen    time.Time
}

// Totals count all there ever was.
type Totals struct {
	Usage   Usage  `json:"usage"`
	Running int    `json:"-"`
	Ended   uint64 `json:"ended"`
	Read    uint64 `json:"read"` // ended, and struck out since somebody has them
	Kept    int    `json:"-"`
	// Lost are ended records that nobody has read in time, and what was in them.
	Lost      uint64 `json:"lost"`
	LostUsage Usage  `json:"lost_usage"`
	Users     int    `json:"-"`
	Folded    uint64 `json:"folded"` // users that have been added to the others
}
