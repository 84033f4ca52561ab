package softstate

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// refusePath answers a PATH in error to the hop that it came from (RFC 2205
// section 3.1.7). The sender descriptor is a copy.
func (n *Node) refusePath(rx *Received, r *Refusal) {
	m := rx.Msg
	n.sendPathErr(rx.Iface, m.Hop, r, 0, &wire.Message{
		Policy: r.policy(), Session: m.Session, SenderTemplate: m.SenderTemplate,
		SenderTSpec: m.SenderTSpec, AdSpec: m.AdSpec, RawTSpec: m.RawTSpec, RawAdSpec: m.RawAdSpec,
	})
}

// refuseSender tells the sender of p of an error found here.
func (n *Node) refuseSender(p *psb, r *Refusal, flags uint8) { n.tellSender(p, r, flags, r.policy()) }

// tellSender does it with the POLICY_DATA of the error that is passed on (RFC
// 5946 section 3.1).
func (n *Node) tellSender(p *psb, r *Refusal, flags uint8, policy []wire.Object) {
	if p.local {
		return
	}
	tspec := p.tspec
	descriptor := wire.Message{
		Session: p.s.id, SenderTemplate: &p.sender, Policy: policy,
		SenderTSpec: &tspec, RawTSpec: p.rawTSpec, AdSpec: p.adspec,
	}
	told := descriptor
	n.sendPathErr(p.in, &p.phop, r, flags, &descriptor)
	n.notify(wire.NotifyNode(p.unknown), n.addr(p.in, p.s.id.Dst), r, flags, &told)
}

func (n *Node) sendPathErr(out IfIndex, hop *wire.Hop, r *Refusal, flags uint8, m *wire.Message) {
	n.count.pathErrs[r.Code]++
	if !n.mayComplain(hop.Addr) {
		return
	}
	m.Type = wire.PathErr
	node := n.complainer(m.Session, out, hop.Addr)
	if !node.IsValid() {
		return
	}
	m.ErrorSpec = &wire.ErrorSpec{Node: node, Flags: flags, Code: r.Code, Value: r.Value}
	n.sendAs(node, out, hop.Addr, m)
}

// handlePathErr is PERR MESSAGE ARRIVES of RFC 2209 section 2. It changes no
// state (RFC 2205 section 3.1.7).
func (n *Node) handlePathErr(now time.Time, rx *Received) {
	m := rx.Msg
	if m.SenderTemplate == nil || m.ErrorSpec == nil {
		n.drop(DropMalformed)
		return
	}
	p := n.lookup(m.Session, *m.SenderTemplate)
	if p == nil {
		n.drop(DropNoState)
		return
	}
	if p.local {
		f := failureOf(m)
		n.fail(now, p, &f)
		return
	}
	n.sendAs(n.source(p.in, p.phop.Addr, rx.Src), p.in, p.phop.Addr, &wire.Message{
		Type: wire.PathErr, Session: m.Session, ErrorSpec: m.ErrorSpec, Policy: m.Policy, Unknown: m.Unknown,
		SenderTemplate: m.SenderTemplate, SenderTSpec: m.SenderTSpec, AdSpec: m.AdSpec,
		RawTSpec: m.RawTSpec, RawAdSpec: m.RawAdSpec,
	})
}

// fail notes an error for people. It is forgotten after Kb*R, as a blockade is,
// unless it comes again.
func (n *Node) fail(now time.Time, p *psb, f *Failure) {
	w := p.failure
	if w != nil && w.Text != "" && f.Text == "" && w.Code == f.Code && w.Value == f.Value {
		return // the receiver's proxy tells what was found here, and why
	}
	if w == nil || w.Code != wire.ErrPreempted || !isPreemption(f.Code, f.Value) || f.Code == wire.ErrPreempted {
		p.failure = f // else as well
	}
	n.timers.Set(&p.failureTime, now.Add(time.Duration(n.cfg.Kb)*n.cfg.Refresh))
	n.touch(p)
}
