package daemon

import (
	"net/netip"
	"slices"
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

// Nothing is cheated any more after the letter that drains, whichever was written first.
func TestNoStartAfterDrain(t *testing.T) {
	h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}}
	w := &cheatWorkers{handlers: []*cheatHandler{h}, failed: func(key packet.FlowKey, err error) { t.Errorf("%v is given up: %v", key, err) }}
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:5001"))
	w.frames = frames{learned: learned{}} // a start would find that nothing can be sent to its ends
	w.watch(0, key, false, false)
	w.drain()
	w.start(0, key, tcpcheat.Params{Mode: tcpcheat.Realtime, Rate: 1e6, Bucket: 64e3})
	h.open(time.Unix(1, 0))
	if s, ok := h.engine.Flow(key); !ok || s.State != tcpcheat.Expected {
		t.Errorf("%v: it is %v", ok, s.State)
	}
}

// A letter that panics takes none of the others with it.
func TestLettersBehindAPanic(t *testing.T) {
	h := &cheatHandler{wake: func() {}}
	var read []int
	for i := range 4 {
		h.post(func(time.Time, *tcpcheat.Engine) {
			if i == 1 {
				panic("a letter's fault")
			}
			read = append(read, i)
		})
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nobody hears of it")
			}
		}()
		h.open(time.Unix(1, 0))
	}()
	h.post(func(time.Time, *tcpcheat.Engine) { read = append(read, 4) })
	h.open(time.Unix(1, 0))
	if !slices.Equal(read, []int{0, 2, 3, 4}) {
		t.Errorf("read %v", read)
	}
}
