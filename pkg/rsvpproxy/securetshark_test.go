package rsvpproxy

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/roottest/dissect"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/integrity"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// recorder keeps whole IP packets.
type recorder struct{ packets [][]byte }

func (r *recorder) SendVia(b []byte, _ int) error {
	r.packets = append(r.packets, slices.Clone(b))
	return nil
}

// An implementation that is not ours reads what leaves a secured interface:
// alone and in a Bundle, with each algorithm, and the handshake's messages.
func TestTsharkSigned(t *testing.T) {
	roottest.Tool(t, "tshark")
	rec := &recorder{}
	for _, alg := range []integrity.Algorithm{integrity.HMACMD5, integrity.HMACSHA1, integrity.HMACSHA256} {
		k := sha256Key(0x0a0b0c0d0e0f, "s")
		k.Algorithm, k.Peer = alg, pairAddr[1]
		p := newPair(t, Config{Reliable: true}, nil, security(sha256Key(1, "s")))
		p.box[0].hooks.Send, p.box[0].hooks.Log = rec, zap.NewNop()
		p.secure(0, security(k)) // and the challenge
		one := tearTo(pairAddr[1])
		p.box[0].send(one)
		two := one
		two.Msg = &wire.Message{Type: wire.Bundle, Flags: 1, SendTTL: 255, Bundle: []*wire.Message{one.Msg, one.Msg}}
		p.box[0].send(two)
		p.box[0].send(softstate.Send{Out: 1, Src: pairAddr[0], Dst: pairAddr[1], TTL: 255, Msg: &wire.Message{
			Type: wire.Ack, Flags: 1, SendTTL: 255, Acks: []wire.MessageIDAck{{Epoch: 1, ID: 2}},
		}})
	}
	text := dissect.Tshark(t, dissect.File(t, rec.packets), "-V")
	for want, n := range map[string]int{
		"Key Identifier: 0a0b0c0d0e0f": 3 * 4, ".... ...1 = Handshake: Capable": 3 * 4,
		"BUNDLE Message.": 3, "ACK Message.": 3, "(25)": 3,
	} {
		if got := strings.Count(text, want); got < n {
			t.Errorf("%d times %q, want %d", got, want, n)
		}
	}
	if t.Failed() || strings.Contains(text, "alformed") || strings.Contains(text, "ncorrect") {
		t.Errorf("tshark says:\n%s", text)
	}
}
