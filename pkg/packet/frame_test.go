package packet

import (
	"net/netip"
	"testing"
)

func TestFrameTurned(t *testing.T) {
	f := Frame{Port: 3, Dst: [6]byte{1}, Src: [6]byte{2}, NTags: 1, Tags: [MaxTags]Tag{{TPID: 0x8100, TCI: 0xa00a}}}
	got := f.Turned()
	if got.Dst != f.Src || got.Src != f.Dst || got.Tags != f.Tags || got.NTags != 1 || got.Port != 3 {
		t.Errorf("%+v", got)
	}
	if got.Turned() != f {
		t.Error("turned twice it is not the same")
	}
}

func TestPairKey(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:80")
	k := MakeKey(ProtoTCP, a, b)
	pair := k.PairKey()
	if pair.Src != k.Src || pair.Dst != k.Dst || pair.SrcPort != 0 || pair.DstPort != 0 || pair.Proto != 0 {
		t.Errorf("%+v", pair)
	}
	if pair.Reverse() != k.Reverse().PairKey() {
		t.Error("the pair of the other direction is another one")
	}
}
