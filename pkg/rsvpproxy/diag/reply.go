package diag

import "github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"

// answer sends a DREP that was made here on its way: back along ROUTE if there
// is one, else to the requester (RFC 2745 section 4.1, steps 10 and SD2).
func (n *Node) answer(d *wire.Diag) []Send {
	if r := d.Route; r != nil && r.Pointer > 0 {
		r.Pointer--
		return n.routed(r.Nodes[r.Pointer], d)
	}
	return n.toRequester(d)
}

// reply is what happens to a DREP of another node (RFC 2745 section 4.2). Only
// those nodes forward it that its ROUTE names.
func (n *Node) reply(rx *Received) []Send {
	d := rx.Msg
	r := d.Route
	switch {
	case r == nil && n.net.Local(d.Diagnostic.Requester.Src) && d.Diagnostic.Requester.SrcPort != 0:
		return n.toRequester(d) // sent to us as protocol 46: the client listens to UDP
	case r == nil || int(r.Pointer) >= len(r.Nodes) || !n.net.Local(r.Nodes[r.Pointer]):
		n.count.Stray++
		return nil
	case r.Pointer == 0 || n.net.Local(d.Diagnostic.LastHop):
		return n.toRequester(d)
	}
	r.Pointer--
	return n.routed(r.Nodes[r.Pointer], d)
}

// toRequester sends a DREP to the one who asked: to its UDP port (RFC 2745
// section 6), or as protocol 46 to a requester without one.
func (n *Node) toRequester(d *wire.Diag) []Send {
	q := d.Diagnostic.Requester
	if q.SrcPort == 0 {
		return n.routed(q.Src, d)
	}
	d.SendTTL, d.Integrity = n.cfg.TTL, nil
	n.count.sent(d)
	return []Send{{Dst: q.Src, Port: q.SrcPort, TTL: n.cfg.TTL, Msg: d}}
}
