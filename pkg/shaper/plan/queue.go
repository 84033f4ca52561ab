package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// QueueTable is the name of the disposable nftables tables (families ip and
// ip6) that hand packets to user space.
const QueueTable = "qosproxy_queue"

// Defaults of Queue, for zero values.
const (
	DefaultSettledTimeout = 30 * time.Second
	DefaultMaxSettled     = 65536
	DefaultMaxCheated     = 16384
	DefaultMark           = 0x51000000
	DefaultMarkMask       = 0xff000000
)

// maxPrefilterParts bounds each list of a prefilter: a list becomes one
// interval set, and a configuration that needs more is a mistake.
const maxPrefilterParts = 4096

// Prefilter is what the kernel can tell of a policy's packets without the
// daemon. It only has to be coarse: what matches is classified in user space.
type Prefilter struct {
	Proto              uint8          // IP protocol; 0 is any
	From, To           []netip.Prefix // source and destination in the data's direction; empty is any
	FromPorts, ToPorts [][2]uint16    // first and last port, both included; empty is any
	// BothWays takes the packets of the other direction too: TCP needs both,
	// what is only marked and policed needs the data's direction alone.
	BothWays bool
}

// Queue is the wanted queue table.
type Queue struct {
	// Control gets RSVP, First the first packets of flows, Cheat[i] both
	// directions of the flows that cheat worker i owns: NFQUEUE numbers.
	Control, First uint16
	Cheat          []uint16
	// A packet with (mark & MarkMask) == Mark is our own and is left alone.
	// Both 0 are the defaults.
	Mark, MarkMask uint32
	Prefilters     []Prefilter
	// SettledTimeout is how long a flow that was classified stays out of First.
	SettledTimeout time.Duration
	// MaxSettled and MaxCheated bound the sets, in flow directions; MaxCheated
	// is for each cheat queue.
	MaxSettled, MaxCheated int
	// HasIPv6 wants the ip6 table too.
	HasIPv6 bool
	// Reassemble has the kernel put fragments together before they are looked
	// at, for all traffic of the network namespace: without it only the first
	// fragment of a packet has ports, and RSVP arrives in pieces.
	Reassemble bool
}

// WithDefaults fills in the defaults.
func (q Queue) WithDefaults() Queue {
	if q.Mark == 0 && q.MarkMask == 0 {
		q.Mark, q.MarkMask = DefaultMark, DefaultMarkMask
	}
	if q.SettledTimeout <= 0 {
		q.SettledTimeout = DefaultSettledTimeout
	}
	if q.MaxSettled <= 0 {
		q.MaxSettled = DefaultMaxSettled
	}
	if q.MaxCheated <= 0 {
		q.MaxCheated = DefaultMaxCheated
	}
	return q
}

// Validate tells what the kernel could not do, before anything is changed.
func (q Queue) Validate() error {
	seen := map[uint16]string{}
	add := func(num uint16, name string) error {
		if other, ok := seen[num]; ok {
			return fmt.Errorf("queue %d is both %s and %s", num, other, name)
		}
		seen[num] = name
		return nil
	}
	errs := []error{add(q.Control, "control"), add(q.First, "first")}
	for i, num := range q.Cheat {
		errs = append(errs, add(num, fmt.Sprintf("cheat %d", i)))
	}
	if q.MarkMask&q.Mark != q.Mark {
		errs = append(errs, fmt.Errorf("mark %#x has bits outside its mask %#x", q.Mark, q.MarkMask))
	}
	for i, f := range q.Prefilters {
		if err := f.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("prefilter %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// HasPorts tells whether the filter looks at ports.
func (f Prefilter) HasPorts() bool { return len(f.FromPorts)+len(f.ToPorts) > 0 }

// Validate tells what is wrong with the filter.
func (f Prefilter) Validate() error {
	if f.HasPorts() && f.Proto != 0 && f.Proto != packet.ProtoTCP && f.Proto != packet.ProtoUDP {
		return fmt.Errorf("protocol %s has no ports", packet.ProtoName(f.Proto))
	}
	if max(len(f.From), len(f.To), len(f.FromPorts), len(f.ToPorts)) > maxPrefilterParts {
		return fmt.Errorf("more than %d parts in one list", maxPrefilterParts)
	}
	for _, p := range append(append([]netip.Prefix(nil), f.From...), f.To...) {
		if !p.IsValid() {
			return errors.New("invalid prefix")
		}
	}
	for _, r := range append(append([][2]uint16(nil), f.FromPorts...), f.ToPorts...) {
		if r[0] > r[1] {
			return fmt.Errorf("port range %d-%d is reversed", r[0], r[1])
		}
	}
	return nil
}

// Reversed is the filter for the other direction.
func (f Prefilter) Reversed() Prefilter {
	f.From, f.To = f.To, f.From
	f.FromPorts, f.ToPorts = f.ToPorts, f.FromPorts
	return f
}
