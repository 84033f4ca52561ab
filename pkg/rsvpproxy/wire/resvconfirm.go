package wire

import "net/netip"

// resvConfirm is the RESV_CONFIRM object (RFC 2205 Appendix A.14): the receiver
// that wants to be told.
type resvConfirm struct{ *netip.Addr }

func (r resvConfirm) header() (Class, uint8)     { return ClassResvConfirm, addrCType(*r.Addr) }
func (r resvConfirm) size() int                  { return addrSize(*r.Addr) }
func (r resvConfirm) appendBody(b []byte) []byte { return appendAddr(b, *r.Addr) }

func decodeResvConfirm(ctype uint8, body []byte) (netip.Addr, *Error) {
	a, _, err := decodeAddr(ClassResvConfirm, ctype, body, 0)
	return a, err
}
