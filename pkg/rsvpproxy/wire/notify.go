package wire

import "net/netip"

// NotifyRequest is the NOTIFY_REQUEST object (RFC 3473 section 4.2.1): the node
// that wants a Notify in case of an error. [Parse] leaves it among the objects of
// unknown class, which travel on: see [NotifyNode].
func NotifyRequest(node netip.Addr) Object {
	o := Object{Class: ClassNotify, CType: 1, Body: node.AsSlice()}
	if node.Is6() {
		o.CType = 2
	}
	return o
}

// NotifyNode finds the address of a NOTIFY_REQUEST, of which the first counts;
// invalid: there is none that can be understood.
func NotifyNode(list []Object) netip.Addr {
	for i := range list {
		o := &list[i]
		if o.Class != ClassNotify {
			continue
		}
		a, ok := netip.AddrFromSlice(o.Body)
		if !ok || (o.CType == 1) != a.Is4() || (o.CType == 2) != a.Is6() || badAddr(a) != "" {
			return netip.Addr{}
		}
		return a
	}
	return netip.Addr{}
}

// nextSession ends what a Notify tells of one session and begins the next, which
// has the same ERROR_SPEC (RFC 3473 section 4.3.1).
func (p *parser) nextSession() error {
	if err := p.finish(); err != nil {
		return err
	}
	if p.refused != nil {
		return p.refusedOrNil()
	}
	done := p.m
	p.m = &Message{Type: Notify, Flags: done.Flags, SendTTL: done.SendTTL, ErrorSpec: done.ErrorSpec}
	if p.head == nil {
		p.head = done
	}
	p.head.More = append(p.head.More, p.m)
	p.seen, p.session, p.flow = set(ClassErrorSpec), false, flow{}
	return nil
}

// first returns the message that is handed out: last, or what it is a part of.
func (p *parser) first(last *Message) *Message {
	if p.head != nil {
		return p.head
	}
	return last
}

// checkMore holds the further sessions of a Notify to the rules.
func (m *Message) checkMore() error {
	for _, part := range m.More {
		if m.Type != Notify || part.Type != Notify || len(part.More) > 0 || part.ErrorSpec == nil || *part.ErrorSpec != *m.ErrorSpec ||
			part.Integrity != nil || part.MessageID != nil || len(part.Acks) > 0 {
			return malformed(KindIllegalClass, ClassSession, "a further session in a %v message", m.Type)
		}
		if err := part.sendable(); err != nil {
			return err
		}
	}
	return nil
}
