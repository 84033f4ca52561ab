package daemon

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// calls is what a firstHandler has asked the others for, in its order.
type calls []string

func (c *calls) watch(int, packet.FlowKey, bool, bool)         { *c = append(*c, "watch") }
func (c *calls) queue(int) uint16                              { return 7 }
func (c *calls) restart(packet.FlowKey)                        { *c = append(*c, "restart") }
func (c *calls) count(context.Context, plan.Treatment) error   { return nil }
func (c *calls) AddCheated(int, ...packet.FlowKey) error       { *c = append(*c, "steer"); return nil }
func (c *calls) RemoveCheated(int, ...packet.FlowKey) error    { return nil }
func (c *calls) Settle(...packet.FlowKey) error                { return nil }
func (c *calls) AddSender(softstate.Sender, func(error)) error { *c = append(*c, "ask"); return nil }
func (c *calls) RemoveSender(wire.Session, wire.Filter) error  { return nil }

// A connection that shall be cheated is watched, and then its reservation is asked
// for what it wants of the worker: it may have been in place before, and then it
// was faster than the watching.
func TestFirstPacketWatchesThenRestarts(t *testing.T) {
	var c calls
	h := &firstHandler{
		flows: testTable(t), tc: &c, rsvp: &c, cheat: &c, log: zap.NewNop(), ended: func(packet.FlowKey) {},
		steer: func() steering { return &c }, links: func() *links { return &links{} },
	}
	v := tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN)
	p := &nfq.Packet{Data: v.Bytes(), InIndex: lan, OutIndex: wan}
	if got := h.Handle(time.Now(), p); got != nfq.Requeue || p.RequeueTo != 7 {
		t.Errorf("verdict %v to queue %d", got, p.RequeueTo)
	}
	if want := (calls{"watch", "restart", "steer", "ask"}); !slices.Equal(c, want) {
		t.Errorf("%v, want %v", c, want)
	}
}
