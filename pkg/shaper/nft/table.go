package nft

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// building guards google/nftables' numbering of sets, a plain global variable.
var building sync.Mutex

// QueueTable is the tables of one daemon, for both families. Its methods may be
// called by any goroutine.
type QueueTable struct {
	mu     sync.Mutex
	conn   *conn // nil after Close
	want   plan.Queue
	native bool
	tables []*builder
	// cheated is what the sets hold, which nobody else can change. It makes
	// additions and removals repeatable: the kernel refuses a whole transaction
	// for one element that is not there.
	cheated []map[packet.FlowKey]struct{}
	watched map[packet.FlowKey]struct{} // likewise
}

// Open makes the tables in the calling thread's network namespace. They work
// from the first Beat on, for one second after each.
func Open(want plan.Queue) (*QueueTable, error) {
	want = want.WithDefaults()
	if err := want.Validate(); err != nil {
		return nil, fmt.Errorf("queue table: %w", err)
	}
	c, err := dial(openTimeout)
	if err != nil {
		return nil, fmt.Errorf("queue table: %w", err)
	}
	q := &QueueTable{conn: c, want: want, watched: map[packet.FlowKey]struct{}{}}
	for range want.Cheat {
		q.cheated = append(q.cheated, map[packet.FlowKey]struct{}{})
	}
	if err := q.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("queue table: %w", err), c.CloseLasting())
	}
	c.timeout = callTimeout
	return q, nil
}

func (q *QueueTable) create() error {
	layouts := []*layout{layout4}
	if q.want.HasIPv6 {
		layouts = append(layouts, layout6)
	}
	for _, lay := range layouts {
		err := q.conn.createOwned(lay.family, plan.QueueTable, fmt.Sprintf("qosproxy, process %d", os.Getpid()))
		if err != nil {
			return q.whose(lay.family, err)
		}
	}
	// The native expression first: where the kernel lacks it, it refuses the
	// whole transaction and nothing has happened.
	err := q.fill(layouts, true)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		err = q.fill(layouts, false)
	}
	return err
}

func (q *QueueTable) fill(layouts []*layout, native bool) error {
	tables, err := q.build(layouts, native)
	if err != nil {
		return err
	}
	if err := q.conn.commit(); err != nil {
		return err
	}
	q.tables, q.native = tables, native
	return nil
}

func (q *QueueTable) build(layouts []*layout, native bool) (tables []*builder, err error) {
	building.Lock()
	defer building.Unlock()
	for _, lay := range layouts {
		b := &builder{
			conn: q.conn, want: q.want, lay: lay, native: native,
			table: &nftables.Table{Name: plan.QueueTable, Family: lay.family},
		}
		if err := b.build(); err != nil {
			return nil, err
		}
		tables = append(tables, b)
	}
	return tables, nil
}

// whose explains why the table could not be made.
func (q *QueueTable) whose(family nftables.TableFamily, err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("table %s: %w", plan.QueueTable, err)
	}
	who, ownerErr := q.conn.owner(family, plan.QueueTable)
	switch {
	case ownerErr != nil: // not even permitted to look
		return fmt.Errorf("table %s: %w", plan.QueueTable, err)
	case who == "":
		return fmt.Errorf("table %s: %w", plan.QueueTable, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("table %s: %w (owner: %s)", plan.QueueTable, ErrForeign, who)
	}
	return fmt.Errorf("table %s: %w (%s)", plan.QueueTable, ErrOwned, who)
}

// Native tells whether the kernel's own queue expression is used, else it is
// the xtables target.
func (q *QueueTable) Native() bool { return q.native }

// SetPrefilters replaces the policies' rules in one transaction: each packet
// meets either the old ones or the new ones. Flows that are settled stay so.
func (q *QueueTable) SetPrefilters(filters []plan.Prefilter) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return ErrClosed
	}
	want := q.want
	want.Prefilters = filters
	if err := want.Validate(); err != nil {
		return fmt.Errorf("queue table: %w", err)
	}
	if err := q.replacePrefilters(filters); err != nil {
		return fmt.Errorf("queue table: prefilters: %w", err)
	}
	q.want = want
	return nil
}

func (q *QueueTable) replacePrefilters(filters []plan.Prefilter) error {
	building.Lock()
	defer building.Unlock()
	for _, b := range q.tables {
		q.conn.FlushChain(b.policy)
		if err := b.prefilters(filters); err != nil {
			return err
		}
	}
	return q.conn.commit()
}

// Close removes the tables. The kernel does so itself when the connection that
// owns them goes; no other table can be meant.
func (q *QueueTable) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return nil
	}
	err := q.conn.CloseLasting()
	q.conn = nil
	return err
}

// RuleCount is what a rule that queues or drops packets has counted.
type RuleCount struct {
	IPv6           bool
	Chain, Rule    string // "forward", "cheated_0"
	Packets, Bytes uint64
}

// Counts reads the rules' counters.
func (q *QueueTable) Counts() ([]RuleCount, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.conn == nil {
		return nil, ErrClosed
	}
	var counts []RuleCount
	for _, b := range q.tables {
		for _, chain := range []string{"prerouting", "output", "forward", "toobig", "policy"} {
			var rules []*nftables.Rule
			err := q.conn.call(func() (err error) {
				rules, err = q.conn.GetRules(b.table, &nftables.Chain{Name: chain})
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("queue table: counters: %w", err)
			}
			for _, r := range rules {
				name, _ := userdata.GetString(r.UserData, userdata.TypeComment)
				for _, e := range r.Exprs {
					if c, ok := e.(*expr.Counter); ok {
						counts = append(counts, RuleCount{b.lay == layout6, chain, name, c.Packets, c.Bytes})
					}
				}
			}
		}
	}
	return counts, nil
}
