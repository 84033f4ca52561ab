package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// A reservation may come between a connection's place in the table and the letter
// that has it followed. That is no reason to give the connection up: when it is
// followed, start is asked again.
func TestStartBeforeWatch(t *testing.T) {
	h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}}
	w := &cheatWorkers{handlers: []*cheatHandler{h}, failed: func(key packet.FlowKey, err error) { t.Errorf("%v is given up: %v", key, err) }}
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5001"))
	p := tcpcheat.Params{Mode: tcpcheat.Realtime, Rate: 1e6, Bucket: 64e3}
	w.start(0, key, p)
	w.watch(0, key, false, false)
	w.start(0, key, p)
	h.open(time.Unix(1, 0))
	if _, ok := h.engine.Flow(key); !ok {
		t.Error("the connection is not followed")
	}
}
