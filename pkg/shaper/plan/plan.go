package plan

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultFlows is how many treatments the kernel's table can hold when a Plan
// does not say.
const DefaultFlows = 100_000

// DefaultPool is how many HTB classes an interface may use for reserved flows
// when a Plan does not say. Adding and deleting classes becomes slow near ten
// thousand of them, so the pool ends there. Further flows share: see shared.go.
const DefaultPool = 8192

// maxPool keeps pooled minors inside the 16 bits of a class handle.
const maxPool = uint32(FirstShared - FirstPooled)

// Interface is one interface of the configuration.
type Interface struct {
	Name string
	// Capacity is what the interface sends at most, in bytes/s of IP packets
	// of the interface's MTU; 0 leaves its queueing alone. Set it to about
	// 95 % of the link behind: the queue has to stand here, not there.
	Capacity uint64
	// Overbooking is how many times more reserved flows without a service rate of
	// their own (Share) are given classes than there is room for: their classes have
	// that part of their rate for certain, and borrow the rest before best effort
	// does. 0 and 1: all of it.
	Overbooking float64
	// EF is how admitted and unadmitted telephony are queued.
	EF EFModel
	// ResetDSCP takes the DSCP off arriving packets, where the hosts behind
	// the interface are not trusted.
	ResetDSCP bool
	// Levels are its service levels, and what may leave by them.
	Levels []Level
	// Policed lets packets that arrive keep a DSCP of Arriving within its rate and
	// burst. Any other is taken off.
	Policed  bool
	Arriving []Level
	// BestEffort is the share of Capacity that is kept for best effort; 0 is 5 %.
	BestEffort float64
	// ByDSCP has packets classified by their DSCP alone: reserved flows have no
	// class and no policer of their own there, but their levels what all of them
	// need (RFC 2998 section 4.2, an aggregate data plane).
	ByDSCP bool
	// PCP are the priorities that VLAN tags leave with.
	PCP PCP
}

// Plan is what the configuration asks of the kernel.
type Plan struct {
	Interfaces []Interface
	Queue      Queue
	Flows      int // treatments the table holds, 0 is DefaultFlows
	Pool       int // classes for reserved flows per interface, 0 is DefaultPool
	// Frames is how many connections and pairs of addresses (each direction is one)
	// are remembered with what their frames look like, as a bridge has to; 0: none.
	Frames int
}

// WithDefaults fills in what is zero.
func (p Plan) WithDefaults() Plan {
	if p.Flows == 0 {
		p.Flows = DefaultFlows
	}
	if p.Pool == 0 {
		p.Pool = DefaultPool
	}
	return p
}

// Validate refuses what the kernel could not hold.
func (p Plan) Validate() error {
	seen := map[string]bool{}
	for i, itf := range p.Interfaces {
		switch {
		case itf.Name == "" || len(itf.Name) > 15:
			return fmt.Errorf("interface %d: name %q: must have 1 to 15 bytes", i, itf.Name)
		case seen[itf.Name]:
			return fmt.Errorf("interface %d: %q is there twice", i, itf.Name)
		case itf.Capacity != 0 && itf.Capacity < minCapacity:
			return fmt.Errorf("interface %s: capacity %s is below the %s that can be shared",
				itf.Name, bits(itf.Capacity), bits(minCapacity))
		}
		if err := itf.validateLevels(); err != nil {
			return err
		}
		seen[itf.Name] = true
	}
	if p.Flows < 0 || p.Flows > 1<<24 {
		return fmt.Errorf("%d flows: not in 1 to %d", p.Flows, 1<<24)
	}
	if p.Frames < 0 || p.Frames > 1<<24 {
		return fmt.Errorf("%d frames: not in 0 to %d", p.Frames, 1<<24)
	}
	if p.Pool < 0 || uint32(p.Pool) > maxPool {
		return fmt.Errorf("a pool of %d classes: not in 1 to %d", p.Pool, maxPool)
	}
	return nil
}

// Interface returns the interface of a name.
func (p Plan) Interface(name string) (Interface, bool) {
	i := slices.IndexFunc(p.Interfaces, func(itf Interface) bool { return itf.Name == name })
	if i < 0 {
		return Interface{}, false
	}
	return p.Interfaces[i], true
}

// String is the whole plan as tc and nft would write it, on Ethernet
// interfaces with an MTU of 1500.
func (p Plan) String() string {
	var b strings.Builder
	for _, itf := range p.Interfaces {
		if s := itf.efText(); s != "" {
			fmt.Fprintln(&b, s)
		}
	}
	for _, op := range Diff(State{}, Want(p, nil, nil)) {
		fmt.Fprintln(&b, op)
	}
	if len(p.Queue.Cheat) > 0 || p.Queue.First != 0 || p.Queue.Control != 0 {
		fmt.Fprintf(&b, "\n%s", queueText(p.Queue))
	}
	return b.String()
}
