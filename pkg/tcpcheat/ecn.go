package tcpcheat

import "github.com/qosproxy/qosproxy/pkg/packet"

// StripECN has the connections whose SYN comes from now on do without ECN: the
// flags of the SYN that offer it are cleared (RFC 3168 section 6.1.1, RFC 9768
// section 3.1.1), so their receiver does not take it up.
func (e *Engine) StripECN(strip bool) { e.stripECN = strip }

// strip clears the offer in a SYN; false if there is none.
func strip(v packet.View, meta Meta) bool {
	t := v.TCP()
	if !t.AE() && t.Flags()&(packet.FlagECE|packet.FlagCWR) == 0 {
		return false
	}
	edit(v, meta, func(t packet.TCP) {
		t[12] &^= 1 // AE
		t.SetFlags(t.Flags() &^ (packet.FlagECE | packet.FlagCWR))
	})
	return true
}
