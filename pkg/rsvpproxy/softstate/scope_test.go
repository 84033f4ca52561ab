package softstate

import (
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 section 3.8: Send_TTL is the TTL that a PATH leaves with. That for a
// sender to a group has its data's, so that it goes as far and no further (RFC
// 1112 section 6.1), and so has its PathTear.
func TestSenderProxyTTLRFC2205Section3_8(t *testing.T) {
	r := newRig(t, Config{})
	group := netip.MustParseAddr("239.1.2.3")
	r.env.groups = func(_, _ netip.Addr, _ IfIndex) []IfIndex { return []IfIndex{right} }
	s := host
	s.Session.Dst, s.TTL = group, 8
	if got := onlySend(t, r.add(s), wire.Path); got.TTL != 8 || got.Msg.SendTTL != 8 || got.Dst != group {
		t.Errorf("TTL %d, Send_TTL %d, to %s", got.TTL, got.Msg.SendTTL, got.Dst)
	}
	s.TTL = 20
	if got := onlySend(t, r.add(s), wire.Path); got.TTL != 20 {
		t.Errorf("after a change: TTL %d", got.TTL)
	}
	if got := onlySend(t, r.checked(r.n.RemoveSender(r.now, s.Session, s.Filter)), wire.PathTear); got.TTL != 20 || got.Msg.SendTTL != 20 {
		t.Errorf("PathTear: TTL %d", got.TTL)
	}
}
