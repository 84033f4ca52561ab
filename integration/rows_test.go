package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// waitSession waits until a box has a session to a port in a state, and returns
// its row.
func (b *box) waitSession(t *testing.T, dport uint16, state string) console.SessionRow {
	t.Helper()
	var found console.SessionRow
	eventually(t, 8*time.Second, fmt.Sprintf("%s: session to port %d %s", b.name, dport, state), func() error {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Dport == dport && row.State == state {
				found = row
				return nil
			}
		}
		return fmt.Errorf("sessions: %+v", rows)
	})
	return found
}

// waitNoSession waits until a box has no session to a port.
func (b *box) waitNoSession(t *testing.T, dport uint16) {
	t.Helper()
	eventually(t, 8*time.Second, fmt.Sprintf("%s: no session to port %d", b.name, dport), func() error {
		rows, err := b.Sessions(t.Context())
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Dport == dport {
				return fmt.Errorf("still there: %+v", row)
			}
		}
		return nil
	})
}

// flow returns the row of the data's direction of a flow, by its source or
// destination port.
func (b *box) flow(t *testing.T, port uint16) (console.FlowRow, error) {
	t.Helper()
	return b.flowFrom(t, addrA, port)
}

// flowFrom is flow for a source address.
func (b *box) flowFrom(t *testing.T, src netip.Addr, port uint16) (console.FlowRow, error) {
	t.Helper()
	rows, err := b.Flows(t.Context())
	if err != nil {
		return console.FlowRow{}, err
	}
	for _, row := range rows {
		if row.Src == src.String() && (row.Dport == port || row.Sport == port) {
			return row, nil
		}
	}
	return console.FlowRow{}, fmt.Errorf("no flow with port %d among %+v", port, rows)
}

// waitFlow waits until a flow's row is as wanted, and returns it.
func (b *box) waitFlow(t *testing.T, port uint16, what string, want func(console.FlowRow) bool) console.FlowRow {
	t.Helper()
	return b.waitFlowFrom(t, addrA, port, what, want)
}

// waitFlowFrom is waitFlow for a source address.
func (b *box) waitFlowFrom(t *testing.T, src netip.Addr, port uint16, what string, want func(console.FlowRow) bool) console.FlowRow {
	t.Helper()
	var row console.FlowRow
	eventually(t, 8*time.Second, fmt.Sprintf("%s: flow with port %d %s", b.name, port, what), func() (err error) {
		if row, err = b.flowFrom(t, src, port); err == nil && !want(row) {
			err = fmt.Errorf("it is %+v", row)
		}
		return err
	})
	return row
}

func isState(state string) func(console.FlowRow) bool {
	return func(r console.FlowRow) bool { return r.State == state }
}

// queued sums the packets that went to user space, by role.
func (b *box) queued(t *testing.T) map[string]uint64 {
	t.Helper()
	st, err := b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := map[string]uint64{}
	for _, q := range st.Queues {
		sum[q.Role] += q.Packets
	}
	return sum
}
