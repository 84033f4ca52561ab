package integrity

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func keyID(t *testing.T, msg []byte) uint64 {
	t.Helper()
	e, err := wire.Open(msg)
	if err != nil || !e.Signed {
		t.Fatalf("%+v, %v", e, err)
	}
	return e.Integrity.KeyID
}

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

// twoKeys overlap from minute 50 to minute 60.
func twoKeys() []Key {
	old, next := testKey(), testKey()
	old.ID, old.Until = 1, at(60)
	next.ID, next.From, next.Until, next.Secret = 2, at(50), at(120), []byte("next")
	return []Key{old, next}
}

// TestRollOverRFC2747Section5_1: the sender changes over in the middle of the
// overlap; the receiver takes either key for all of it. More than one key at a
// time is a MUST of section 5.2.
func TestRollOverRFC2747Section5_1(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		keys := twoKeys()
		a := link(t, Config{Keys: []Key{keys[order[0]], keys[order[1]]}})
		b := link(t, Config{Keys: keys})
		for _, tc := range []struct {
			minute int
			id     uint64
		}{{0, 1}, {50, 1}, {54, 1}, {55, 2}, {59, 2}, {60, 2}, {119, 2}} {
			msg := signed(t, a, at(tc.minute), tear(t, alice, 1))
			if got := keyID(t, msg); got != tc.id {
				t.Errorf("minute %d: key %d, want %d", tc.minute, got, tc.id)
			}
			take(t, b, at(tc.minute), msg, None)
		}
	}
	keys := twoKeys()
	b := link(t, Config{Keys: keys})
	for i, k := range keys {
		for minute, ok := range map[int]bool{49: i == 0, 50: true, 59: true, 61: i == 1} {
			msg, err := k.Sign(nil, tear(t, alice, 1), 0, uint64(minute))
			if err != nil {
				t.Fatal(err)
			}
			why := b.Receive(at(minute), alice, msg).Refused
			if ok && why != None && why != Replayed || !ok && why != KeyLifetime {
				t.Errorf("key %d, minute %d: %v", k.ID, minute, why)
			}
		}
	}
}

// TestLastKeyRFC2747Section5_3: when the last key has expired it goes on, on both
// sides, and is counted so that the operator is told.
func TestLastKeyRFC2747Section5_3(t *testing.T) {
	a, b := link(t, Config{Keys: twoKeys(), Answer: true}), link(t, Config{Keys: twoKeys(), Handshake: true, Secret: cookieSecret()})
	challenge := take(t, b, at(500), signed(t, a, at(500), tear(t, alice, 1)), Unproven)
	response := a.Receive(at(500), bob, challenge.Msg)
	take(t, b, at(500), response.Send.Msg, Handshake)
	msg := signed(t, a, at(500), tear(t, alice, 1))
	if keyID(t, msg) != 2 {
		t.Errorf("signed with key %d", keyID(t, msg))
	}
	take(t, b, at(500), msg, None)
	if a.Counters().StaleSigned != 2 || b.Counters().StaleAccepted != 1 {
		t.Errorf("%+v, %+v", a.Counters(), b.Counters())
	}
	// The one before the last does not go on.
	first := twoKeys()[0]
	old, err := first.Sign(nil, tear(t, alice, 1), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	take(t, b, at(500), old, KeyLifetime)
}

// TestKeySelectionRFC2747Section4: by identifier and address of the sender, which
// RSVP_HOP tells, or in messages without one the IP source.
func TestKeySelectionRFC2747Section4(t *testing.T) {
	forAlice, forCarol := testKey(), testKey()
	forAlice.Peer, forCarol.Peer, forCarol.Secret = alice, carol, []byte("carol's")
	b := link(t, Config{Keys: []Key{forAlice, forCarol}})
	sign := func(k Key, msg []byte, seq uint64) []byte {
		out, err := k.Sign(nil, msg, 0, seq)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// The IP source is that of a sender far away, RSVP_HOP counts.
	if v := b.Receive(start, netip.MustParseAddr("10.7.7.7"), sign(forCarol, tear(t, carol, 1), 1)); v.Refused != None {
		t.Errorf("carol: %v", v.Refused)
	}
	take(t, b, start, sign(forCarol, tear(t, alice, 1), 2), BadDigest)
	take(t, b, start, sign(forAlice, pathErr(t), 1), None)
	if v := b.Receive(start, bob, sign(forAlice, pathErr(t), 2)); v.Refused != UnknownKey {
		t.Errorf("PathErr from elsewhere: %v", v.Refused)
	}
	// Both have the same identifier and windows of their own.
	want := []Association{{Peer: alice, KeyID: forAlice.ID, Latest: 1, Heard: start}, {Peer: carol, KeyID: forAlice.ID, Latest: 1, Heard: start}}
	if got := b.View(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
	// A key for one neighbour goes before one for all; sending has its own keys.
	all, sendOnly := testKey(), testKey()
	all.ID, sendOnly.ID, sendOnly.Peer, sendOnly.Use = 7, 8, bob, Sending
	a := link(t, Config{Keys: []Key{all, sendOnly}})
	if got := keyID(t, signed(t, a, start, tear(t, alice, 1))); got != 8 {
		t.Errorf("to bob: key %d", got)
	}
	if got, err := a.Sign(nil, start, netip.Addr{}, tear(t, alice, 1)); err != nil || keyID(t, got) != 7 {
		t.Errorf("to all: %v", err)
	}
	take(t, a, start, sign(sendOnly, tear(t, alice, 1), 1), UnknownKey)
	onlyBob := link(t, Config{Keys: []Key{sendOnly}})
	if _, err := onlyBob.Sign(nil, start, carol, tear(t, alice, 1)); !errors.Is(err, ErrNoKey) {
		t.Errorf("to carol: %v", err)
	}
}

// TestSetKeysRFC2747Section5_2: active keys can be deleted; those that stay lose
// neither sequence numbers nor windows.
func TestSetKeysRFC2747Section5_2(t *testing.T) {
	one, two := testKey(), testKey()
	one.ID, two.ID = 1, 2
	a, b := link(t, Config{Keys: []Key{one}}), link(t, Config{Keys: []Key{one}})
	msg := signed(t, a, start, tear(t, alice, 1))
	take(t, b, start, msg, None)
	for _, l := range []*Link{a, b} {
		if err := l.SetKeys([]Key{two, one}); err != nil {
			t.Fatal(err)
		}
	}
	take(t, b, start, msg, Replayed)
	if err := a.SetKeys([]Key{one}); err != nil {
		t.Fatal(err)
	}
	take(t, b, start.Add(-time.Hour), signed(t, a, start.Add(-time.Hour), tear(t, alice, 1)), None)
	if err := b.SetKeys([]Key{two}); err != nil || b.Associations() != 0 {
		t.Errorf("%v, %d associations", err, b.Associations())
	}
	take(t, b, start, msg, UnknownKey)
	changed := one
	changed.Secret = []byte("changed")
	if err := b.SetKeys([]Key{changed}); err != nil {
		t.Fatal(err)
	}
	take(t, b, start, msg, BadDigest)
	if err := b.SetKeys([]Key{{}}); err == nil {
		t.Error("a key of nothing was taken")
	}
	take(t, b, start, msg, BadDigest) // and the old keys stay
}

func TestKeyCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(k *Key)
		want error
	}{
		"id":        {func(k *Key) { k.ID = 1 << 48 }, ErrKeyID},
		"algorithm": {func(k *Key) { k.Algorithm = 0 }, ErrAlgorithm},
		"new":       {func(k *Key) { k.Algorithm = 9 }, ErrAlgorithm},
		"secret":    {func(k *Key) { k.Secret = nil }, ErrSecret},
		"lifetime":  {func(k *Key) { k.From, k.Until = at(1), at(1) }, ErrLifetime},
		"use":       {func(k *Key) { k.Use = 0 }, ErrUse},
		"uses":      {func(k *Key) { k.Use = 4 }, ErrUse},
	} {
		k := testKey()
		tc.edit(&k)
		if _, err := New(Config{Keys: []Key{k}}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{Keys: []Key{testKey(), testKey()}}); !errors.Is(err, ErrDuplicate) {
		t.Errorf("twice: %v", err)
	}
	send, receive := testKey(), testKey()
	send.Use, receive.Use = Sending, Receiving
	if _, err := New(Config{Keys: []Key{send, receive}}); err != nil {
		t.Errorf("one for each direction: %v", err)
	}
	for want, c := range map[error]Config{
		ErrCookieSecret: {Handshake: true}, ErrLimit: {Window: -1}, ErrFlag: {Flag: 2},
	} {
		if _, err := New(c); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
