package packet

import (
	"net/netip"
	"testing"
)

var (
	key4 = MakeKey(ProtoTCP, netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("198.51.100.7:80"))
	key6 = MakeKey(ProtoTCP, netip.MustParseAddrPort("[2001:db8::1]:4000"), netip.MustParseAddrPort("[2001:db8:1::2]:80"))
)

func sample(key FlowKey, n int) []byte {
	pay := make([]byte, n)
	for i := range pay {
		pay[i] = byte(i * 7)
	}
	opt := AppendTimestamps(nil, 1, 2)
	opt = AppendSACK(opt, []SACKBlock{{10, 20}, {30, 40}}, 40-len(opt))
	return AppendTCP(nil, &Segment{
		Key: key, TTL: 63, TOS: 0xb9, ID: 4711, DF: true, FlowLabel: 0xabcde, Seq: 0xfffffffe, Ack: 77,
		Flags: FlagACK | FlagPSH, Window: 1234, Options: opt, Payload: pay,
	})
}

func mustParse(t testing.TB, b []byte) View {
	t.Helper()
	v, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
