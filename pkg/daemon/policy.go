package daemon

import (
	"fmt"
	"math"

	"github.com/qosproxy/qosproxy/pkg/classify"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// policies is one generation of the configuration's policies: what classify
// matches by, and what to do. It is immutable; a reload makes a new one.
type policies struct {
	table *classify.Table
	list  []config.Policy
}

func newPolicies(c *config.Config) *policies {
	rules := make([]classify.Rule, 0, len(c.Policies))
	for i := range c.Policies {
		p := &c.Policies[i]
		rules = append(rules, classify.Rule{
			Name: p.Name, Proto: p.Match.Protocol, From: p.Match.From, To: p.Match.To,
			FromPorts: ports(p.Match.FromPort), ToPorts: ports(p.Match.ToPort),
		})
	}
	return &policies{table: classify.New(rules), list: c.Policies}
}

func ports(in [][2]uint16) []classify.Ports {
	out := make([]classify.Ports, 0, len(in))
	for _, r := range in {
		out = append(out, classify.Ports{First: r[0], Last: r[1]})
	}
	return out
}

// match finds the policy for data in the direction of key; nil if none.
func (p *policies) match(key packet.FlowKey) *config.Policy {
	if i := p.table.Match(key); i >= 0 {
		return &p.list[i]
	}
	return nil
}

// prefilters are what the kernel queues first packets by. A TCP policy is for
// data of one direction, but the connection may be opened from either side,
// hence both ways.
func (p *policies) prefilters() []plan.Prefilter {
	out := make([]plan.Prefilter, 0, len(p.list))
	for i := range p.list {
		m := &p.list[i].Match
		out = append(out, plan.Prefilter{
			Proto: m.Protocol, From: m.From, To: m.To, FromPorts: m.FromPort, ToPorts: m.ToPort,
			BothWays: m.Protocol == packet.ProtoTCP || m.Protocol == 0,
		})
	}
	return out
}

// where names the configuration line that decided, for `flows` and logs.
func where(c string, p *config.Policy) string {
	if isByHand(p) {
		return p.Name
	}
	return fmt.Sprintf("%s:%d", c, p.Line)
}

// tspecOf is the traffic specification that a policy declares.
func tspecOf(t config.TSpec) intserv.TSpec {
	out := intserv.TSpec{
		Rate: float64(t.Rate), Bucket: float64(t.Burst), Peak: math.Inf(1),
		MinUnit: t.MinUnit, MaxPacket: t.MaxPacket,
	}
	if t.Peak != 0 {
		out.Peak = float64(t.Peak)
	}
	return out
}

func cheats(m config.TCPMode) bool { return m == config.TCPRealtime || m == config.TCPReliable }

// speaks tells whether this box acknowledges data of the flow for its receiver.
func (f *flow) speaks() bool {
	return f.policy != nil && f.role == roleSender && cheats(f.policy.TCP)
}

// touches tells whether this box does something to the flow's TCP that takes no
// byte in hand. Pacing is for the box that the ACKs pass first; the sender's
// stands aside where they come paced, see tcpcheat.
func (f *flow) touches() bool {
	p := f.policy
	switch {
	case p == nil:
		return false
	case f.role == roleSender:
		return p.TCP == config.TCPPace
	case f.role == roleReceiver:
		return p.TCP == config.TCPPace || p.ThinAcks || p.Fill
	}
	return false
}

// engages tells whether a policy may want a connection in a cheat queue,
// whichever side the box is on.
func engages(p *config.Policy) bool {
	return p != nil && (p.TCP != config.TCPNone || p.ThinAcks || p.Fill)
}

// priorityOf is the preemption priority that a policy gives its reservations;
// nil: it says nothing.
func priorityOf(r *config.Reserve) *softstate.Priority {
	if !r.Priority.Given {
		return nil
	}
	return &softstate.Priority{Preempting: r.Priority.Setup, Defending: r.Priority.Hold}
}
