package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

func TestAccountRowOfAnSPI(t *testing.T) {
	key := packet.SPIKey(packet.ProtoESP, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2"), 0x1234)
	row := accountRow(time.Now(), &accounting.Record{
		Info:  accounting.Info{Dst: key.DstAddr(), Protocol: packet.ProtoESP, Format: "gpi", Src: key.SrcAddr(), SPI: 0x1234},
		Parts: []accounting.Part{{Row: rowOf("wan0", key)}},
	})
	if row.SPI != 0x1234 || row.Format != "gpi" || row.Branches[0].Sport != 0 {
		t.Errorf("%+v", row)
	}
}
