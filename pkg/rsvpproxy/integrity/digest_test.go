package integrity

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"errors"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// TestSignRFC2747Section4_1 builds the message by hand, step by step, and signs
// it with the standard library alone.
func TestSignRFC2747Section4_1(t *testing.T) {
	k := Key{ID: 0x010203040506, Algorithm: HMACMD5, Secret: []byte("k"), Use: Both}
	msg := tear(t, alice, 80)
	got, err := k.Sign([]byte("before"), msg, wire.HandshakeFlag, 0x1122334455667788)
	if err != nil || string(got[:6]) != "before" {
		t.Fatalf("%q, %v", got, err)
	}
	got = got[6:]
	want := append([]byte{}, msg[:8]...)
	want[2], want[3] = 0, 0 // (1)
	want[7] += 36
	want = append(want, unhex("0024 0401 01 00 010203040506 1122334455667788")...) // (2) to (5), (7)
	at := len(want)
	want = append(append(want, make([]byte, 16)...), msg[8:]...) // (6)
	mac := hmac.New(md5.New, []byte("k"))
	mac.Write(want)
	copy(want[at:], mac.Sum(nil)) // (8), (9)
	got[2], got[3] = 0, 0
	if !bytes.Equal(got, want) {
		t.Errorf("\n%x\n%x", got, want)
	}
	// Without a checksum, as RFC 2747 allows, it verifies as well.
	if ok, err := k.Verify(got); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestVerifyRFC2747Section4_2: no octet may change but those of the checksum,
// whatever the algorithm.
func TestVerifyRFC2747Section4_2(t *testing.T) {
	for _, a := range []Algorithm{HMACMD5, HMACSHA1, HMACSHA256} {
		k := testKey()
		k.Algorithm = a
		msg, err := k.Sign(nil, tear(t, alice, 80), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := k.Verify(msg); err != nil || !ok {
			t.Fatalf("%v: %v, %v", a, ok, err)
		}
		for i := range msg {
			for _, bit := range []byte{1, 0x80} {
				c := append([]byte{}, msg...)
				c[i] ^= bit
				if i != 2 && i != 3 {
					wire.SetChecksum(c)
				}
				if ok, _ := k.Verify(c); ok {
					t.Errorf("%v: octet %d changed", a, i)
				}
			}
		}
		other := k
		other.Secret = []byte("another")
		if ok, _ := other.Verify(msg); ok {
			t.Errorf("%v: verified with another key", a)
		}
	}
}

// TestSignReplaces: a signature that was there is not signed over.
func TestSignReplaces(t *testing.T) {
	k := testKey()
	msg := tear(t, alice, 80)
	once, err := k.Sign(nil, msg, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	long := k
	long.Algorithm = HMACMD5
	again, err := long.Sign(nil, once, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := long.Sign(nil, msg, 0, 1)
	if err != nil || !bytes.Equal(again, fresh) {
		t.Errorf("\n%x\n%x\n%v", again, fresh, err)
	}
	if m, err := wire.Parse(once); err != nil || m.Integrity == nil {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestSignRefuses(t *testing.T) {
	k := testKey()
	if _, err := k.Sign(nil, []byte("no message"), 0, 1); err == nil {
		t.Error("signed what is no message")
	}
	if _, err := k.Verify(nil); err == nil {
		t.Error("verified nothing")
	}
	big := make([]byte, wire.MaxMessage&^3)
	copy(big, tear(t, alice, 80)[:8])
	big[6], big[7] = byte(len(big)>>8), byte(len(big)&0xff)
	big[8], big[9] = byte((len(big)-8)>>8), byte((len(big)-8)&0xff) // one NULL object
	wire.SetChecksum(big)
	if _, err := k.Sign(nil, big, 0, 1); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	k.Secret = nil
	if _, err := k.Sign(nil, tear(t, alice, 1), 0, 1); !errors.Is(err, ErrSecret) {
		t.Errorf("%v", err)
	}
	if _, err := k.Verify(tear(t, alice, 1)); !errors.Is(err, ErrSecret) {
		t.Errorf("%v", err)
	}
}
