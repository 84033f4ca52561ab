package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// vet names what in a segment's options or flags forbids cheating (tcp.md 2.1).
func vet(t packet.TCP, o *packet.TCPOptions, ok bool) error {
	syn := t.Has(packet.FlagSYN)
	switch {
	case !ok:
		return ErrOption
	case o.MPTCP:
		return ErrMPTCP
	case o.MD5:
		return ErrMD5
	case o.AO:
		return ErrAO
	case o.ENO:
		return ErrENO
	case o.AccECN:
		return ErrAccECN
	case syn && !t.Has(packet.FlagACK) && t.AE() && t.Has(packet.FlagECE|packet.FlagCWR):
		return ErrAccECN // RFC 9768 section 3.1.1
	case syn && t.Has(packet.FlagACK) && t.AE():
		return ErrAccECN
	case o.Unknown:
		return ErrOption
	case syn && len(t.Payload()) > 0 && o.FastOpen:
		return ErrFastOpen
	case syn && len(t.Payload()) > 0:
		return ErrSYNData
	case t.Has(packet.FlagURG):
		return ErrUrgent
	}
	return nil
}

// syn handles the first packet of a connection, its repetition, and a new
// connection in the place of an old one.
func (e *Engine) syn(c *conn, h, peer *host, v packet.View, t packet.TCP, o *packet.TCPOptions, ok bool) {
	if h.syn && h.isn == t.Seq() && c.state != Closed {
		c.synAt = never // repeated: no round trip to measure (Karn)
		return
	}
	if peer.syn && c.state == Opening && c.opener == peer && peer.max == peer.isn.Add(1) && h.max == 0 && !h.syn {
		e.leave(c, ErrSimultaneous)
		return
	}
	if h.syn || peer.syn || c.midway {
		// A SYN with a new ISN, or after data whose SYN was not seen: what was known is
		// of another connection.
		e.renew(c)
	}
	c.state = Opening
	c.opener = h
	c.synAt = e.now
	c.begin(h, v, t, o)
	if err := vet(t, o, ok); err != nil {
		e.leave(c, err)
	}
}

// begin notes what a SYN or SYN-ACK says of its sender.
func (c *conn) begin(h *host, v packet.View, t packet.TCP, o *packet.TCPOptions) {
	h.syn, h.isn, h.max = true, t.Seq(), t.Seq().Add(t.SegLen())
	h.mss, h.shift = o.MSS, o.WindowScale
	h.sackOK, h.tsOK = o.SACKPermitted, o.HasTimestamps
	h.tsval, h.tsecr, h.stamp = o.TSVal, o.TSEcr, o.TSVal
	h.next, h.ahead = h.max, packet.SACKBlock{Left: h.max, Right: h.max}
	h.from(v, t, o)
	if t.Has(packet.FlagACK) {
		h.ack = t.Ack()
	}
}

// synAck handles the second packet. Only what it says counts: with SYN cookies
// it may take up less than the SYN offered.
func (e *Engine) synAck(c *conn, h, peer *host, v packet.View, t packet.TCP, o *packet.TCPOptions, ok bool) Action {
	switch {
	case c.state == Expected:
		e.leave(c, ErrNoHandshake)
		return Accept
	case c.state != Opening:
		return Accept // repeated; its ACK will be repeated too
	case c.opener == h:
		e.leave(c, ErrSimultaneous)
		return Accept
	case t.Ack() != peer.isn.Add(1):
		e.leave(c, ErrContradicted)
		return Accept
	}
	repeated := h.syn
	if !repeated {
		c.leg(peer == &c.src).sample(e.now - c.synAt)
	}
	c.begin(h, v, t, o)
	if err := vet(t, o, ok); err != nil {
		e.leave(c, err)
		return Accept
	}
	// RFC 7323 section 2.2: scaling applies only if both SYNs carry it; the
	// windows of the SYNs themselves are never scaled.
	c.scaled = c.src.shift >= 0 && c.rcv.shift >= 0
	c.sack = c.src.sackOK && c.rcv.sackOK
	c.ts = c.src.tsOK && c.rcv.tsOK
	c.synAt = e.now
	if repeated {
		c.synAt = never // its answer may be to the first one (Karn)
	}
	peer.ack = h.isn.Add(1) // what its next segment will say
	if h == &c.rcv {
		c.passed = h.ack
		c.edge = h.ack.Add(int(t.Window()))
	} else {
		// The receiver's first ACK, and with it its window, is still to come.
		c.passed = peer.ack
		c.edge = c.passed
	}
	c.offered = c.edge
	return Accept
}

// leg is the round trip estimator of the side beyond which a host lies, seen
// from the host that opened: its answer comes from the other side.
func (c *conn) leg(openerIsSource bool) *rtt {
	if openerIsSource {
		return &c.rttRcv
	}
	return &c.rttSrc
}

// third handles the segment that completes the handshake.
func (e *Engine) third(c *conn, h *host) {
	if c.state == Opening && h == c.opener && c.src.syn && c.rcv.syn {
		c.state = Watched
		c.leg(h != &c.src).sample(e.now - c.synAt)
	}
}

// oneWay tells whether a segment answers a SYN-ACK that did not come by here: what
// the peer says takes another way.
func (c *conn) oneWay(h *host, t packet.TCP) bool {
	peer := &c.rcv
	if h == peer {
		peer = &c.src
	}
	return c.state == Opening && h == c.opener && !peer.syn && t.Has(packet.FlagACK) && t.Seq() == h.isn.Add(1)
}

// awaited begins what [Engine.Start] asked for before the connection could be
// treated, now that it can: its handshake is complete, or it is followed from the
// middle.
func (e *Engine) awaited(c *conn) {
	p := c.want
	if p == nil || c.state != Watched {
		return
	}
	c.want = nil
	if c.midway && p.Mode.cheats() {
		e.leave(c, ErrNoHandshake)
		return
	}
	e.begin(c, *p)
}
