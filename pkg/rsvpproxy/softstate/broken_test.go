package softstate

import (
	"encoding/binary"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// withObject appends an object to an encoded message.
func withObject(t *testing.T, m *wire.Message, class wire.Class) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0, 8, uint8(class), 1, 1, 2, 3, 4)
	binary.BigEndian.PutUint16(b[6:], uint16(len(b)))
	b[2], b[3] = 0, 0 // no checksum (RFC 2205 section 3.1.1)
	return b
}

// RFC 2205 section 3.10 (1), from the bytes on: class 0bbbbbbb rejects the message
// with code 13, 10bbbbbb is dropped silently, 11bbbbbb travels on.
func TestUnknownClasses(t *testing.T) {
	path := pathMsg()
	path.SendTTL = 60
	for _, tt := range []struct {
		class    wire.Class
		rejected bool
		travels  bool
	}{{0x64, true, false}, {0x99, false, false}, {0xc9, false, true}} {
		r := newRig(t, Config{})
		m, err := wire.Parse(withObject(t, path, tt.class))
		es := r.checked(r.n.Handle(r.now, Received{Iface: left, Src: srcHost, Dst: dstHost, TTL: 60, Msg: m, Err: err}))
		if tt.rejected {
			e := onlySend(t, es, wire.PathErr).Msg.ErrorSpec
			if e.Code != wire.ErrUnknownClass || e.Value != uint16(tt.class)<<8|1 || r.n.Counters().Senders != 0 {
				t.Errorf("%#x: %s", tt.class, dump(es))
			}
			continue
		}
		if s := onlySend(t, es, wire.Path); (len(s.Msg.Unknown) == 1) != tt.travels {
			t.Errorf("%#x: %s", tt.class, dump(es))
		}

		// The same for a RESV.
		m, err = wire.Parse(withObject(t, resvMsg(), 0x64))
		es = r.checked(r.n.Handle(r.now, Received{Iface: right, Src: nextHop, Dst: rightAdr, TTL: 255, Msg: m, Err: err}))
		if e := onlySend(t, es, wire.ResvErr).Msg.ErrorSpec; e.Code != wire.ErrUnknownClass || e.Value != 0x6401 {
			t.Errorf("%s", dump(es))
		}
	}
}

// RFC 2205 Appendix B: a message that lacks what its type must have is counted,
// and never answered.
func TestMissingObjects(t *testing.T) {
	r := newRig(t, Config{})
	r.reserved()
	for typ := wire.Path; typ <= wire.ResvConf; typ++ {
		m := &wire.Message{Type: typ, Session: sess}
		dst := rightAdr
		if typ.NeedsRouterAlert() {
			dst = dstHost
		}
		before := r.n.Counters().Dropped
		es := r.n.Handle(r.now, Received{Iface: right, Src: nextHop, Dst: dst, TTL: 60, Msg: m})
		after := r.n.Counters().Dropped
		if len(es) != 0 || after[DropMalformed]+after[DropNoState] != before[DropMalformed]+before[DropNoState]+1 {
			t.Errorf("%v: %v %s", typ, after, dump(es))
		}
	}
	if es := r.n.Handle(r.now, Received{}); len(es) != 0 {
		t.Errorf("%s", dump(es))
	}
	r.wantState(Reserved)
}

// The names are part of the API and of metrics.
func TestNames(t *testing.T) {
	for s, want := range map[State]string{
		Inactive: "inactive", PathOnly: "path", Requested: "requested",
		Reserved: "reserved", Rejected: "rejected", Blockaded: "blockaded", 99: "unknown",
	} {
		if b, err := s.MarshalText(); err != nil || string(b) != want {
			t.Errorf("%d: %s", s, b)
		}
	}
	for r, want := range map[Role]string{
		Transit: "transit", SenderProxy: "sender-proxy", ReceiverProxy: "receiver-proxy", BothProxy: "sender-proxy", 99: "unknown",
	} {
		if b, err := r.MarshalText(); err != nil || string(b) != want {
			t.Errorf("%d: %s", r, b)
		}
	}
	seen := map[string]bool{}
	for d := range dropCount + 1 {
		if name := d.String(); name == "" || seen[name] {
			t.Errorf("drop %d: %q", d, name)
		} else {
			seen[name] = true
		}
	}
}
