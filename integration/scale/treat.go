package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// treatments is traffic control: it grants everything at once, or, where the
// row is about that, has the kernel treat each flow first.
type treatments struct {
	shape *shaper.Shaper // nil: the kernel is not asked
	iface string

	mu   sync.Mutex
	took []time.Duration
	held map[uint64]packet.FlowKey
}

// capacity of the interface at X, in bytes/s: room for every session.
const capacity = 12_500_000_000

func newTreatments(n nodeSetup) (*treatments, error) {
	t := &treatments{held: map[uint64]packet.FlowKey{}}
	if !n.Treat {
		return t, nil
	}
	var err error
	if t.shape, err = shaper.New(shaper.Options{}); err != nil {
		return nil, err
	}
	t.iface = n.Network[len(n.Network)-1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return t, t.shape.Set(ctx, plan.Plan{
		Interfaces: []plan.Interface{{Name: t.iface, Capacity: capacity}}, Flows: 2 * n.Sessions,
	})
}

func (t *treatments) close() error {
	if t.shape == nil {
		return nil
	}
	return t.shape.Close(false)
}

// Reserve grants.
func (t *treatments) Reserve(r softstate.Reserve) *softstate.Refusal {
	if t.shape == nil {
		return nil
	}
	f := r.Filters[0]
	key := packet.FlowKey{
		Src: f.Src.As16(), Dst: r.Session.Dst.As16(), SrcPort: f.SrcPort, DstPort: r.Session.DstPort, Proto: r.Session.Protocol,
	}
	begin := time.Now()
	_, err := t.shape.Install(context.Background(), plan.Treatment{
		Key: key, Interface: t.iface, Rate: r.FlowSpec.TSpec.Rate, Bucket: r.FlowSpec.TSpec.Bucket, Peak: r.FlowSpec.TSpec.Peak,
		MinUnit: r.FlowSpec.TSpec.MinUnit, MaxPacket: r.FlowSpec.TSpec.MaxPacket, DSCP: 46,
		Mark: true, Police: true, Reserve: true, RealTime: true,
	})
	if err != nil {
		return &softstate.Refusal{Code: wire.ErrTCSystem, Text: err.Error()}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, time.Since(begin))
	t.held[r.ID] = key
	return nil
}

// Release takes the treatment away.
func (t *treatments) Release(id uint64) {
	t.mu.Lock()
	key, there := t.held[id]
	delete(t.held, id)
	t.mu.Unlock()
	if there {
		// At the end of the run everything goes with the namespace.
		_ = t.shape.Remove(context.Background(), t.iface, key)
	}
}

// Torn takes it away, too.
func (t *treatments) Torn(id uint64) { t.Release(id) }

func (t *treatments) times() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.took)
	slices.Sort(out)
	return out
}
