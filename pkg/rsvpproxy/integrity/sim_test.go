package integrity

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSimReplay runs a sender and a receiver that restart at random, over a net
// that loses, duplicates and reorders, with an attacker who has recorded all
// and plays it again. Nothing is ever accepted twice, in whatever life of the
// receiver; what arrives in order in quiet times is accepted.
func TestSimReplay(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { simulate(t, seed) })
	}
}

type inFlight struct {
	at     time.Time
	to     *Link
	answer *Link // gets what the verdict says to send
	msg    []byte
	id     int
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2747))
	life := 0
	receiver := func() *Link {
		life++
		return challenger(t, fmt.Sprint(life))
	}
	a, b := link(t, Config{Answer: true}), receiver()
	accepted := map[int]bool{}
	var net, recorded []inFlight
	now, id := start, 0
	deliver := func(m inFlight) {
		v := m.to.Receive(now, alice, m.msg)
		if v.Refused == None && m.id > 0 {
			if accepted[m.id] {
				t.Fatalf("message %d accepted twice", m.id)
			}
			accepted[m.id] = true
		}
		if v.Send != nil {
			net = append(net, inFlight{now.Add(delay(rng)), m.answer, m.to, v.Send.Msg, 0})
		}
	}
	for range 600 {
		now = now.Add(time.Duration(rng.IntN(300)) * time.Millisecond)
		switch rng.IntN(60) {
		case 0:
			a = link(t, Config{Answer: true})
			net = nil
		case 1:
			b = receiver()
			net = nil
		}
		id++
		m := inFlight{now.Add(delay(rng)), b, a, signed(t, a, now, tear(t, alice, uint16(id))), id}
		recorded = append(recorded, m)
		if rng.IntN(5) > 0 {
			net = append(net, m)
		}
		if rng.IntN(5) == 0 {
			net = append(net, m)
		}
		if rng.IntN(2) == 0 { // the attacker
			old := recorded[rng.IntN(len(recorded))]
			net = append(net, inFlight{now.Add(delay(rng)), b, a, old.msg, old.id})
		}
		for _, p := range b.Tick(now) {
			net = append(net, inFlight{now.Add(delay(rng)), a, b, p.Msg, 0})
		}
		rng.Shuffle(len(net), func(i, j int) { net[i], net[j] = net[j], net[i] })
		due := net
		net = nil
		for _, m := range due {
			if m.at.After(now) {
				net = append(net, m)
			} else {
				deliver(m)
			}
		}
	}
	if len(accepted) < 200 {
		t.Errorf("only %d of %d accepted", len(accepted), id)
	}
	// Quiet: the handshake comes to its end, then all is accepted.
	for range 20 {
		now = now.Add(2 * time.Second)
		for _, p := range b.Tick(now) {
			if v := a.Receive(now, bob, p.Msg); v.Send != nil {
				b.Receive(now, alice, v.Send.Msg)
			}
		}
		if v := b.Receive(now, alice, signed(t, a, now, tear(t, alice, 1))); v.Send != nil {
			shake(t, a, b, now, v.Send)
		}
	}
	take(t, b, now, signed(t, a, now, tear(t, alice, 1)), None)
}

func delay(rng *rand.Rand) time.Duration { return time.Duration(rng.IntN(400)) * time.Millisecond }
