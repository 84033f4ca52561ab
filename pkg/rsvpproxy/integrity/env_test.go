package integrity

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	alice = netip.MustParseAddr("10.0.0.1") // the sender in most tests
	bob   = netip.MustParseAddr("10.0.0.2")
	carol = netip.MustParseAddr("10.0.0.3")
)

func testKey() Key {
	return Key{ID: 0x0a0b0c0d0e0f, Algorithm: HMACSHA256, Secret: []byte("a secret"), Use: Both}
}

func cookieSecret() []byte { return []byte("0123456789abcdef") }

func link(t testing.TB, c Config) *Link {
	t.Helper()
	if c.Keys == nil {
		c.Keys = []Key{testKey()}
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tear is a message with RSVP_HOP, conf one without.
func tear(t testing.TB, hop netip.Addr, port uint16) []byte {
	t.Helper()
	m := wire.Message{
		Type: wire.PathTear, SendTTL: 64, Hop: &wire.Hop{Addr: hop},
		Session: wire.Session{Dst: netip.MustParseAddr("10.9.9.9"), Protocol: 17, DstPort: port},
	}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pathErr(t testing.TB) []byte {
	t.Helper()
	m := wire.Message{
		Type: wire.PathErr, SendTTL: 64, ErrorSpec: &wire.ErrorSpec{Node: carol, Code: wire.ErrRouting},
		Session: wire.Session{Dst: netip.MustParseAddr("10.9.9.9"), Protocol: 17, DstPort: 1},
	}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func signed(t testing.TB, l *Link, now time.Time, msg []byte) []byte {
	t.Helper()
	b, err := l.Sign(nil, now, bob, msg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// take holds the verdict on a message from alice to what is expected.
func take(t testing.TB, l *Link, now time.Time, msg []byte, want Refusal) *Packet {
	t.Helper()
	before := l.Counters()
	v := l.Receive(now, alice, msg)
	if v.Refused != want {
		t.Fatalf("%v, want %v", v.Refused, want)
	}
	after := l.Counters()
	if want == None && after.Accepted != before.Accepted+1 || want != None && after.Refused[want] != before.Refused[want]+1 {
		t.Fatalf("%v was not counted: %+v", want, after)
	}
	return v.Send
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}
