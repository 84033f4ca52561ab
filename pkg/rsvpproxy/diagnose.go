package rsvpproxy

import (
	"fmt"
	"net"
	"net/netip"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// receiveDiag takes a diagnostic message in. Its sender need not speak RSVP
// (RFC 2745 section 6), so that nothing is learned from it.
func (p *Proxy) receiveDiag(c captured) {
	msg, err := wire.ParseDiag(c.message)
	p.sendDiag(p.diag.Handle(c.at, diag.Received{
		Iface: softstate.IfIndex(c.iface), Src: c.src, Dst: c.dst, TTL: c.ttl, Msg: msg, Raw: c.message, Err: err,
	}))
}

func (p *Proxy) sendDiag(list []diag.Send) {
	for _, s := range list {
		what := wire.DiagReply
		if s.Raw != nil || s.Msg.Type == wire.DiagRequest {
			what = wire.DiagRequest
		}
		p.sent(what.String(), s.Dst, p.transmitDiag(s))
	}
}

func (p *Proxy) transmitDiag(s diag.Send) (err error) {
	msg := s.Raw
	if msg == nil {
		if msg, err = s.Msg.Append(nil); err != nil {
			return err
		}
	}
	if s.Port != 0 {
		return p.answerUDP(netip.AddrPortFrom(s.Dst, s.Port), msg)
	}
	out := softstate.Send{Out: s.Out, Src: s.Src, Dst: s.Dst, TTL: s.TTL}
	if g := p.guard(int(s.Out)); g != nil {
		// The key is that of the next hop, as of a PATH, while the last hop is
		// looked for; of the one that it is addressed to from there on.
		like := out
		like.Msg, like.RouterAlert = &wire.Message{Type: wire.DiagRequest}, wire.FreshRequest(msg)
		if msg, err = p.signPlain(g, like, msg); err != nil {
			return err
		}
	}
	return p.emit(out, msg)
}

// answerUDP sends a reply to a requester's port. The socket is opened by the
// first one.
func (p *Proxy) answerUDP(to netip.AddrPort, msg []byte) error {
	if p.replies == nil {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			return fmt.Errorf("socket for replies: %w", err)
		}
		p.replies = c
	}
	_, err := p.replies.WriteToUDPAddrPort(msg, to)
	return err
}

func (p *Proxy) closeReplies() {
	if p.replies != nil {
		if err := p.replies.Close(); err != nil {
			p.hooks.Log.Warn("socket for replies", zap.Error(err))
		}
		p.replies = nil
	}
}
