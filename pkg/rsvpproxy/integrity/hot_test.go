package integrity

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// TestHotPathAllocatesNothing: signing and verifying.
func TestHotPathAllocatesNothing(t *testing.T) {
	for _, alg := range []Algorithm{HMACMD5, HMACSHA1, HMACSHA256} {
		k := testKey()
		k.Algorithm = alg
		a, b := link(t, Config{Keys: []Key{k}}), link(t, Config{Keys: []Key{k}})
		msg, buf := tear(t, alice, 1), make([]byte, 0, 256)
		take(t, b, start, signed(t, a, start, msg), None)
		n := testing.AllocsPerRun(200, func() {
			out, err := a.Sign(buf, start, bob, msg)
			if err != nil || b.Receive(start, alice, out).Refused != None {
				t.Error("not accepted")
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations", alg, n)
		}
	}
}

// FuzzReceive: what is not signed with the key never gets through, whatever it
// is; and a message that does get through is one that was signed.
func FuzzReceive(f *testing.F) {
	a := link(f, Config{Answer: true})
	good := signed(f, a, start, tear(f, alice, 1))
	f.Add(good)
	f.Add(tear(f, alice, 1))
	f.Add(pathErr(f))
	b := link(f, Config{Handshake: true, Secret: cookieSecret()})
	challenge := b.Receive(start, alice, good).Send.Msg
	f.Add(challenge)
	f.Add(a.Receive(start, bob, challenge).Send.Msg)
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) >= 8 && len(msg) <= wire.MaxMessage {
			msg = append([]byte{}, msg...)
			msg[6], msg[7] = byte(len(msg)>>8), byte(len(msg))
			wire.SetChecksum(msg)
		}
		for _, c := range []Config{{}, {Handshake: true, Secret: cookieSecret()}} {
			l := link(t, c)
			v := l.Receive(start, alice, msg)
			if v.Refused == None {
				k := testKey()
				if ok, err := k.Verify(msg); err != nil || !ok {
					t.Fatalf("accepted %x", msg)
				}
			}
			if v.Refused == Handshake || v.Refused >= refusals {
				t.Fatalf("%v: %x", v.Refused, msg)
			}
		}
	})
}

func BenchmarkSignAndReceive(b *testing.B) {
	x, y := link(b, Config{}), link(b, Config{})
	msg, buf := tear(b, alice, 1), make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		out, err := x.Sign(buf, start, bob, msg)
		if err != nil || y.Receive(start, alice, out).Refused != None {
			b.Fatal("not accepted")
		}
	}
}
