package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

type asked struct {
	to      netip.Addr
	ifindex int
	done    func(time.Duration)
}

type fakePinger []asked

func (p *fakePinger) Ask(to netip.Addr, ifindex int, done func(time.Duration)) {
	*p = append(*p, asked{to, ifindex, done})
}

// A source on the hosts' side is asked, by its own interface, and nobody else:
// not one of the network's side, and none that no flow is known of. The engine is
// told what it has answered.
func TestOnlySourcesOnTheHostsSideAreAsked(t *testing.T) {
	for _, tt := range []struct {
		src, dst string
		in, out  int
		want     bool
	}{
		{"10.1.0.2:4000", "10.2.0.2:104", lan, wan, true},
		{"10.2.0.2:204", "10.1.0.2:4000", wan, lan, false},
		{"10.3.0.2:204", "10.4.0.2:4000", wan, lan, false}, // of no policy
	} {
		r := pacedControl(t)
		v := tcpPacket(t, tt.src, tt.dst, packet.FlagACK)
		r.flows.first(time.Now(), v, tt.in, tt.out)
		var p fakePinger
		h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}, events: func([]tcpcheat.Event) {}}
		h.ask = func(q tcpcheat.Echo) { askSource(r.flows, &p, h, q) }
		now := time.Now()
		if err := h.engine.WatchNear(now, v.Key()); err != nil {
			t.Fatal(err)
		}
		h.engine.Handle(now, v, tcpcheat.Meta{})
		if err := h.engine.Start(now, v.Key(), tcpcheat.Params{Mode: tcpcheat.Pace, Rate: 1e6, Bucket: 64e3, Echo: true}); err != nil {
			t.Fatal(err)
		}
		h.BatchEnd(now)
		if !tt.want {
			if len(p) != 0 {
				t.Errorf("%s: asked %+v", tt.src, p)
			}
			continue
		}
		if len(p) != 1 || p[0].to.String() != "10.1.0.2" || p[0].ifindex != lan {
			t.Fatalf("asked %+v", p)
		}
		p[0].done(7 * time.Millisecond)
		h.open(now)
		if s, _ := h.engine.Flow(v.Key()); s.RTTSender != 7*time.Millisecond {
			t.Errorf("the engine takes it for %v", s.RTTSender)
		}
	}
}

// A bridge has no address of its own, and asks nobody: neither where it cheats nor
// where it paces.
func TestABridgeAsksNobody(t *testing.T) {
	for dst, control := range map[string]func(*testing.T) rig{"10.2.0.2:104": pacedControl, "10.2.0.2:105": testControl} {
		r := control(t)
		c := *r.config()
		c.Mode = config.ModeBridge
		r.config = func() *config.Config { return &c }
		for _, speaks := range []bool{true, false} {
			key := tcpPacket(t, "10.1.0.2:4000", dst, packet.FlagSYN).Key()
			if p := r.cheatParams(key, &config.Policy{TCP: config.TCPReliable}, spec(1e6).TSpec, speaks); p.Echo {
				t.Errorf("to %s, speaks %v: %+v", dst, speaks, p)
			}
		}
		key := tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN).Key()
		r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
		r.reserved(t, 1, key, lan, wan)
		if p, on := r.cheat.running[key]; !on || p.Echo {
			t.Errorf("%+v", p)
		}
	}
}

// Params allow it to the sender's box alone.
func TestEchoIsForTheSendersBox(t *testing.T) {
	for _, tt := range []struct {
		src, dst string
		in, out  int
		want     bool
	}{{"10.1.0.2:4000", "10.2.0.2:104", lan, wan, true}, {"10.2.0.2:204", "10.1.0.2:4000", wan, lan, false}} {
		r := pacedControl(t)
		key := tcpPacket(t, tt.src, tt.dst, packet.FlagSYN).Key()
		r.flows.first(time.Now(), tcpPacket(t, tt.src, tt.dst, packet.FlagSYN), tt.in, tt.out)
		r.reserved(t, 1, key, tt.in, tt.out)
		if p, on := r.cheat.running[key]; !on || p.Echo != tt.want {
			t.Errorf("%s: %+v", tt.src, p)
		}
	}
}
