package integrity

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

func challenger(t testing.TB, secret string) *Link {
	t.Helper()
	return link(t, Config{Handshake: true, Secret: append([]byte(secret), cookieSecret()...)})
}

// shake completes the handshake that a challenge began.
func shake(t *testing.T, a, b *Link, now time.Time, challenge *Packet) {
	t.Helper()
	if challenge == nil || challenge.To != alice {
		t.Fatalf("challenge %+v", challenge)
	}
	v := a.Receive(now, bob, challenge.Msg)
	if v.Refused != Handshake || v.Send == nil || v.Send.To != bob {
		t.Fatalf("to the challenge: %+v", v)
	}
	take(t, b, now, v.Send.Msg, Handshake)
}

// TestHandshakeRFC2747Section4_3: after a restart of the receiver nothing that
// was recorded before is accepted, neither before the handshake nor after it.
func TestHandshakeRFC2747Section4_3(t *testing.T) {
	a := link(t, Config{Answer: true})
	b := challenger(t, "first")
	var recorded [][]byte
	challenge := take(t, b, start, signed(t, a, start, tear(t, alice, 1)), Unproven)
	shake(t, a, b, start, challenge)
	for i := range 5 {
		recorded = append(recorded, signed(t, a, start.Add(time.Duration(i)*time.Second), tear(t, alice, 1)))
		take(t, b, start, recorded[i], None)
	}
	b = challenger(t, "second") // restart
	now := start.Add(time.Hour)
	challenge = take(t, b, now, recorded[4], Unproven)
	for _, msg := range recorded {
		if p := take(t, b, now, msg, Unproven); p != nil {
			t.Error("a second challenge while one is out")
		}
	}
	shake(t, a, b, now, challenge)
	for _, msg := range recorded {
		take(t, b, now, msg, Replayed)
	}
	take(t, b, now, signed(t, a, now, tear(t, alice, 1)), None)
	if c := b.Counters(); c.Challenges != 1 || c.Handshakes != 1 {
		t.Errorf("%+v", c)
	}
}

// TestWithoutHandshake: the window of opportunity that section 4.3 speaks of.
func TestWithoutHandshake(t *testing.T) {
	a, b := link(t, Config{Answer: true}), link(t, Config{})
	old, older := signed(t, a, start, tear(t, alice, 1)), signed(t, a, start.Add(-time.Hour), tear(t, alice, 1))
	take(t, b, start, old, None)
	take(t, b, start, older, None) // sequence numbers never fall: this one is newer
	take(t, b, start, old, Replayed)
}

// TestResponseRFC2747Section4_3: accepted only with the challenge that was sent,
// unchanged, signed by the challenged key; once.
func TestResponseRFC2747Section4_3(t *testing.T) {
	a, b := link(t, Config{Answer: true}), challenger(t, "")
	respond := func(k Key, c wire.Challenge) []byte {
		plain, err := (&wire.Handshake{Type: wire.IntegrityResponse, Challenge: c}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := k.Sign(nil, plain, wire.HandshakeFlag, 1)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	take(t, b, start, respond(testKey(), wire.Challenge{KeyID: testKey().ID}), Unsolicited)
	challenge := take(t, b, start, signed(t, a, start, tear(t, alice, 1)), Unproven)
	h, err := wire.ParseHandshake(challenge.Msg)
	if err != nil || h.Challenge.KeyID != testKey().ID {
		t.Fatalf("%+v, %v", h, err)
	}
	good := h.Challenge
	for name, edit := range map[string]func(c *wire.Challenge){
		"cookie":   func(c *wire.Challenge) { c.Cookie[7]++ },
		"key":      func(c *wire.Challenge) { c.KeyID++ },
		"reserved": func(c *wire.Challenge) { c.Reserved = 1 },
	} {
		c := good
		edit(&c)
		if v := b.Receive(start, alice, respond(testKey(), c)); v.Refused != BadCookie {
			t.Errorf("%s: %v", name, v.Refused)
		}
	}
	forged := testKey()
	forged.Secret = []byte("forged")
	take(t, b, start, respond(forged, good), BadDigest)
	other := testKey()
	other.ID++
	take(t, b, start, respond(other, good), BadCookie)
	unsigned, err := (&wire.Handshake{Type: wire.IntegrityResponse, Challenge: good}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	take(t, b, start, unsigned, Malformed)

	response := a.Receive(start, bob, challenge.Msg).Send.Msg
	if v := b.Receive(start, carol, response); v.Refused != Handshake { // another address of alice's
		t.Errorf("%v", v.Refused)
	}
	take(t, b, start, response, Unsolicited)
	take(t, b, start, signed(t, a, start, tear(t, alice, 1)), None)
}

// TestChallengeRepeatedRFC2747Section4_3: until it is answered, so often; then the
// sender's next message begins anew, with another cookie.
func TestChallengeRepeatedRFC2747Section4_3(t *testing.T) {
	a := link(t, Config{Answer: true})
	b := link(t, Config{Handshake: true, Secret: cookieSecret(), Retry: 2 * time.Second, Tries: 3})
	if _, ok := b.Deadline(); ok {
		t.Error("a deadline for nothing")
	}
	now := start
	first := take(t, b, now, signed(t, a, now, tear(t, alice, 1)), Unproven)
	for i := range 2 {
		due, ok := b.Deadline()
		if !ok || due != now.Add(2*time.Second) {
			t.Fatalf("deadline %v, %v", due, ok)
		}
		if early := b.Tick(due.Add(-1)); early != nil {
			t.Errorf("early: %v", early)
		}
		now = due
		if again := b.Tick(now); len(again) != 1 || again[0].To != alice || !bytes.Equal(again[0].Msg, first.Msg) {
			t.Fatalf("repetition %d: %v", i, again)
		}
	}
	now = now.Add(2 * time.Second)
	if p := b.Tick(now); p != nil || b.Associations() != 0 || b.Counters().GivenUp != 1 {
		t.Errorf("at the end: %v, %+v", p, b.Counters())
	}
	v := a.Receive(now, bob, first.Msg)
	take(t, b, now, v.Send.Msg, Unsolicited)
	second := take(t, b, now, signed(t, a, now, tear(t, alice, 1)), Unproven)
	if bytes.Equal(first.Msg, second.Msg) {
		t.Error("the same cookie again")
	}
	shake(t, a, b, now, second)
	if _, ok := b.Deadline(); ok {
		t.Error("a deadline after the handshake")
	}
}

// TestUnwillingRFC2747Section4_3: a sender whose HF is 0 is not challenged.
// Whether it is accepted is for the administrator to say.
func TestUnwillingRFC2747Section4_3(t *testing.T) {
	a := link(t, Config{})
	msg := signed(t, a, start, tear(t, alice, 1))
	strict := challenger(t, "")
	if p := take(t, strict, start, msg, Unwilling); p != nil || strict.Associations() != 0 {
		t.Errorf("%v", p)
	}
	liberal := link(t, Config{Handshake: true, AcceptUnwilling: true, Secret: cookieSecret()})
	take(t, liberal, start, msg, None)
	take(t, liberal, start, msg, Replayed)
	for _, flag := range []uint8{wire.HandshakeFlag, wire.HandshakeFlagFigure} {
		willing := link(t, Config{Answer: true, Flag: flag})
		if take(t, challenger(t, ""), start, signed(t, willing, start, tear(t, alice, 1)), Unproven) == nil {
			t.Errorf("flag %#x: no challenge", flag)
		}
	}
}

// TestStart challenges the configured senders at once after a restart.
func TestStart(t *testing.T) {
	k, all := testKey(), testKey()
	k.Peer, all.ID = alice, 3
	a := link(t, Config{Keys: []Key{testKey()}, Answer: true})
	b := link(t, Config{Keys: []Key{k, all}, Handshake: true, Secret: cookieSecret()})
	send := b.Start(start)
	if len(send) != 1 {
		t.Fatalf("%v", send)
	}
	if again := b.Start(start); again != nil {
		t.Errorf("twice: %v", again)
	}
	if v := b.View(); len(v) != 1 || !v[0].Waiting || v[0].Latest != 0 {
		t.Errorf("%+v", v)
	}
	shake(t, a, b, start, &send[0])
	take(t, b, start, signed(t, a, start, tear(t, alice, 1)), None)
	if p := link(t, Config{Keys: []Key{k}}).Start(start); p != nil {
		t.Errorf("without handshake: %v", p)
	}
}

// TestAnswerRFC2747Section4_2: without an integrity check, by the key named in
// the challenge, to its IP source; not by others, and at a limited rate.
func TestAnswerRFC2747Section4_2(t *testing.T) {
	challenge := func(id uint64) []byte {
		b, err := (&wire.Handshake{Type: wire.IntegrityChallenge, Challenge: wire.Challenge{KeyID: id}}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	receiveOnly := testKey()
	receiveOnly.ID, receiveOnly.Use = 4, Receiving
	late := testKey()
	late.ID, late.From = 5, at(10)
	a := link(t, Config{Keys: []Key{testKey(), receiveOnly, late}, Answer: true, ResponseRate: 4})
	for _, id := range []uint64{4, 5, 6} {
		take(t, a, start, challenge(id), NotAnswered)
	}
	take(t, link(t, Config{}), start, challenge(testKey().ID), NotAnswered)
	short := challenge(testKey().ID)[:8]
	short[7] = 8
	wire.SetChecksum(short)
	take(t, a, start, short, Malformed)
	answers := 0
	for i := range 40 { // over four seconds
		if a.Receive(start.Add(time.Duration(i)*100*time.Millisecond), alice, challenge(testKey().ID)).Send != nil {
			answers++
		}
	}
	if answers < 16 || answers > 20 || a.Counters().Responses != uint64(answers) {
		t.Errorf("%d answers", answers)
	}
	// On a link that is secured only for sending it answers as well.
	if v := link(t, Config{Secure: Sending, Answer: true}).Receive(start, alice, challenge(testKey().ID)); v.Send == nil {
		t.Errorf("%+v", v)
	}
}

// TestRefusals reaches what the other tests do not.
func TestRefusals(t *testing.T) {
	b := link(t, Config{})
	take(t, b, start, tear(t, alice, 1), Unsigned) // RFC 2747 section 4: discarded
	take(t, b, start, []byte{1, 2, 3}, Malformed)
	short := testKey()
	short.Algorithm = HMACMD5 // a digest of another length
	msg, err := short.Sign(nil, tear(t, alice, 1), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	take(t, b, start, msg, BadDigest)
	if b.Associations() != 0 {
		t.Error("a wrong digest left something behind")
	}
	open := link(t, Config{Secure: Sending})
	take(t, open, start, tear(t, alice, 1), None)
	plain := link(t, Config{Secure: Receiving})
	if got := signed(t, plain, start, tear(t, alice, 1)); !bytes.Equal(got, tear(t, alice, 1)) {
		t.Errorf("%x", got)
	}
	if _, err := b.Sign(nil, start, bob, nil); err == nil {
		t.Error("signed nothing")
	}
}

// TestLimits: senders are limited; with the handshake the one that was silent
// for long makes room, without it none does.
func TestLimits(t *testing.T) {
	from := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", i)) }
	for _, handshake := range []bool{false, true} {
		b := link(t, Config{Handshake: handshake, AcceptUnwilling: true, Secret: cookieSecret(), MaxAssociations: 3, Idle: time.Minute})
		send := func(i int, now time.Time) Refusal {
			return b.Receive(now, from(i), signed(t, link(t, Config{}), now, tear(t, from(i), 1))).Refused
		}
		for i := range 3 {
			if why := send(i, start.Add(time.Duration(i)*time.Second)); why != None {
				t.Fatal(why)
			}
		}
		if why := send(3, start.Add(30*time.Second)); why != Crowded {
			t.Errorf("fourth: %v", why)
		}
		want := Crowded
		if handshake {
			want = None
		}
		if why := send(4, start.Add(2*time.Minute)); why != want || b.Associations() != 3 {
			t.Errorf("handshake %v, later: %v, %d associations", handshake, why, b.Associations())
		}
		for _, a := range b.View() {
			if handshake && a.Peer == from(0) {
				t.Error("not the oldest was forgotten")
			}
		}
	}
}
