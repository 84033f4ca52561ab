package byhand

import (
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0: of the clock")

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func key(proto uint8, src, dst string) packet.FlowKey {
	return packet.MakeKey(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
}

// voice is a reservation that nothing is wrong with.
func voice() Reservation {
	return Reservation{
		Flow: key(packet.ProtoUDP, "10.1.0.2:4000", "10.2.0.2:5004"), Side: Both, Service: intserv.ControlledLoad,
		TSpec: intserv.TSpec{Rate: 10000, Bucket: 800, Peak: math.Inf(1), MinUnit: 64, MaxPacket: 400},
		Style: Fixed, TCP: TCPNone, Made: epoch,
	}
}

func TestCheck(t *testing.T) {
	good := voice()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Reservation){
		"src: give the address":      func(r *Reservation) { r.Flow = key(17, "0.0.0.0:1", "10.2.0.2:2") },
		"src: 239.1.1.1 is a group":  func(r *Reservation) { r.Flow = key(17, "239.1.1.1:1", "239.1.1.2:2") },
		"src: ff3e::1 is a group":    func(r *Reservation) { r.Flow = key(17, "[ff3e::1]:1", "[ff3e::2]:2") },
		"src: give the address of":   func(r *Reservation) { r.Flow = key(17, "0.0.0.0:1", "239.1.1.1:2") },
		"dst: 224.0.0.5 is a group":  func(r *Reservation) { r.Flow = key(17, "10.1.0.2:1", "224.0.0.5:2") },
		"dst: ff02::5 is a group":    func(r *Reservation) { r.Flow = key(17, "[fd00::1]:1", "[ff02::5]:2") },
		"dst: ff01::5 is a group":    func(r *Reservation) { r.Flow = key(17, "[fd00::1]:1", "[ff01::5]:2") },
		"tcp connects two hosts":     func(r *Reservation) { r.Flow = key(packet.ProtoTCP, "10.1.0.2:1", "239.1.1.1:2") },
		"no host's address":          func(r *Reservation) { r.Flow = key(17, "127.0.0.1:1", "10.2.0.2:2") },
		"different IP versions":      func(r *Reservation) { r.Flow = key(17, "[fd00::1]:1", "10.2.0.2:2") },
		"the same host":              func(r *Reservation) { r.Flow = key(17, "10.2.0.2:1", "10.2.0.2:2") },
		"sport and dport":            func(r *Reservation) { r.Flow.SrcPort = 0 },
		"protocol: give":             func(r *Reservation) { r.Flow.Proto = packet.ProtoRSVP },
		"has no ports":               func(r *Reservation) { r.Flow.Proto = packet.ProtoESP },
		"rate r":                     func(r *Reservation) { r.TSpec.Rate = math.NaN() },
		"at most 1000gbit":           func(r *Reservation) { r.TSpec.Rate = 200e9 },
		"peak is below rate":         func(r *Reservation) { r.TSpec.Peak = 9999 },
		"burst is smaller":           func(r *Reservation) { r.TSpec.MaxPacket = 801 },
		"above maximum packet size":  func(r *Reservation) { r.TSpec.MinUnit = 401 },
		"min_unit and max_packet":    func(r *Reservation) { r.TSpec.MinUnit = 0 },
		"side:":                      func(r *Reservation) { r.Side = "left" },
		"style:":                     func(r *Reservation) { r.Style = "xx" },
		"tcp: none":                  func(r *Reservation) { r.TCP = "pace" },
		"no TCP connection":          func(r *Reservation) { r.TCP = TCPReliable },
		"service:":                   func(r *Reservation) { r.Service = 0 },
		"kept by guaranteed service": func(r *Reservation) { r.Delay = time.Second },
		"guaranteed service keeps":   func(r *Reservation) { r.Service = intserv.Guaranteed },
		"hold is below setup":        func(r *Reservation) { r.Priority = Priority{true, 2, 1} },
		"mark:":                      func(r *Reservation) { r.DSCP = 64 },
		"not in the future":          func(r *Reservation) { r.Expires = epoch },
		"owner: at most":             func(r *Reservation) { r.Owner = strings.Repeat("x", MaxOwner+1) },
		"comment: printable":         func(r *Reservation) { r.Comment = "a\nb" },
		"comment is not UTF-8":       func(r *Reservation) { r.Comment = "\xff" },
	} {
		r := voice()
		spoil(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := New(9).Add(r); err == nil {
			t.Errorf("%s: taken", want)
		}
	}
}

// Cisco's ip rsvp sender takes the session address of a group: so does this book.
func TestCheckTakesGroups(t *testing.T) {
	for _, k := range []packet.FlowKey{
		key(17, "10.1.0.2:1", "239.1.1.1:2"), key(17, "[fd00::1]:1", "[ff3e::2]:2"), key(packet.ProtoESP, "10.1.0.2:0", "232.1.1.1:0"),
	} {
		for _, side := range []Side{Both, Sender, Receiver} {
			r := voice()
			r.Flow, r.Side = k, side
			if err := r.Check(); err != nil {
				t.Errorf("%s, side %s: %v", k, side, err)
			}
		}
	}
}

func TestBookSaysNo(t *testing.T) {
	b := New(1)
	first, err := b.Add(voice())
	if err != nil || first.ID != 1 {
		t.Fatal(first, err)
	}
	if _, err := b.Add(voice()); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), ": 1;") {
		t.Errorf("the same flow again: %v", err)
	}
	other := voice()
	other.Flow.SrcPort++
	if _, err := b.Add(other); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	b.Remove(1)
	if r, err := b.Add(other); err != nil || r.ID != 2 {
		t.Errorf("after a removal: %+v, %v; an id is never used twice", r, err)
	}
}

// random makes a reservation that is right.
func random(rng *rand.Rand) Reservation {
	r := voice()
	r.Flow.SrcPort = uint16(1 + rng.IntN(20))
	if rng.IntN(3) == 0 {
		r.Flow = key(packet.ProtoTCP, "[fd00::1]:1", "[fd00::2]:2")
		r.Flow.DstPort = uint16(1 + rng.IntN(20))
		r.TCP = []TCP{TCPNone, TCPRealtime, TCPReliable}[rng.IntN(3)]
	}
	if rng.IntN(4) == 0 && r.TCP == TCPNone {
		r.Flow = key(packet.ProtoUDP, "[fd00::1]:1", "[ff3e::2]:2")
		r.Flow.DstPort = uint16(1 + rng.IntN(20))
	}
	r.Side = []Side{Both, Sender, Receiver}[rng.IntN(3)]
	r.Style = []Style{Auto, Fixed, Explicit, Wildcard}[rng.IntN(4)]
	r.TSpec.Rate = 1 + rng.Float64()*1e9
	r.TSpec.Bucket = 400 + rng.Float64()*1e9
	if rng.IntN(2) == 0 {
		r.TSpec.Peak = r.TSpec.Rate * (1 + rng.Float64())
	}
	if rng.IntN(2) == 0 {
		r.Service, r.Delay = intserv.Guaranteed, time.Duration(1+rng.IntN(1e9))
	}
	if rng.IntN(2) == 0 {
		r.Marked, r.DSCP = true, uint8(rng.IntN(64))
	}
	if r.Drop = rng.IntN(2) == 0; !r.Drop {
		r.Excess = uint8(rng.IntN(64))
	}
	if rng.IntN(2) == 0 {
		r.Priority = Priority{Given: true, Setup: uint16(rng.IntN(9)), Hold: uint16(9 + rng.IntN(1<<15))}
	}
	r.Owner, r.Comment = []string{"", "ops", "ünïcode \"q\" <&>"}[rng.IntN(3)], []string{"", "until friday"}[rng.IntN(2)]
	r.Made = epoch.Add(time.Duration(rng.IntN(1e9)))
	if rng.IntN(2) == 0 {
		r.Expires = r.Made.Add(time.Duration(1+rng.IntN(60)) * time.Second)
	}
	return r
}

// Whatever is done to a book, it is what a plain list of entries would be, and
// what is read from its file is the book again.
func TestBookAgainstModel(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	rng := rand.New(rand.NewPCG(s, s))
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		const limit = 12
		b, model, last, now := New(limit), []Reservation{}, uint64(0), epoch
		find := func(f func(Reservation) bool) int { return slices.IndexFunc(model, f) }
		for range 40 {
			switch rng.IntN(5) {
			case 0, 1, 2:
				r := random(rng)
				taken := find(func(m Reservation) bool { return m.Flow == r.Flow }) >= 0
				got, err := b.Add(r)
				if want := !taken && len(model) < limit; (err == nil) != want {
					t.Fatalf("add: %v, want it taken: %v", err, want)
				}
				if err == nil {
					last++
					r.ID = last
					if got.ID != last {
						t.Fatalf("id %d, want %d", got.ID, last)
					}
					model = append(model, r)
				}
			case 3:
				id := uint64(rng.IntN(int(last) + 2))
				i := find(func(m Reservation) bool { return m.ID == id })
				r, ok := b.Remove(id)
				if ok != (i >= 0) {
					t.Fatalf("remove %d: %v", id, ok)
				}
				if ok && rng.IntN(3) == 0 {
					b.Restore(r)
				} else if ok {
					model = slices.Delete(model, i, i+1)
				}
			case 4:
				now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
				for _, r := range b.Expired(now) {
					b.Remove(r.ID)
				}
				model = slices.DeleteFunc(model, func(m Reservation) bool { return !m.Expires.IsZero() && !m.Expires.After(now) })
			}
			same(t, b, model)
		}
		data, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(data, limit)
		if err != nil {
			t.Fatalf("%v:\n%s", err, data)
		}
		same(t, again, model)
		if r, err := again.Add(random(rng)); err == nil && r.ID != last+1 {
			t.Errorf("after reading the next id is %d, want %d", r.ID, last+1)
		}
	}
}

func same(t *testing.T, b *Book, model []Reservation) {
	t.Helper()
	if diff := cmp.Diff(model, b.List(), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	for _, m := range model {
		got, ok := b.Of(m.Flow)
		byID, found := b.Get(m.ID)
		if !ok || !found || got.ID != m.ID || byID.Flow != m.Flow {
			t.Fatalf("of %s: %+v, %v", m.Flow, got, ok)
		}
	}
	if b.Len() != len(model) {
		t.Fatalf("%d, want %d", b.Len(), len(model))
	}
}
