package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

const pacedConfig = `
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit}
policies:
  - name: up
    match: {protocol: tcp, from: 10.1.0.0/16, to: 10.2.0.0/16, to_port: 104}
    reserve: {service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    tcp: pace
    thin_acks: true
    fill: true
  - name: down
    match: {protocol: tcp, from: 10.2.0.0/16, to: 10.1.0.0/16, to_port: [4000]}
    reserve: {role: receiver, service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    tcp: pace
    thin_acks: true
    fill: true
  - name: held
    match: {protocol: tcp, from: 10.2.0.0/16, to: 10.1.0.0/16, to_port: [5000]}
    reserve: {role: both, service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    tcp: reliable
`

func pacedControl(t *testing.T) rig {
	t.Helper()
	r := testControl(t)
	c, err := config.Parse("box.yaml", []byte(pacedConfig))
	if err != nil {
		t.Fatal(err)
	}
	r.flows.configure("box.yaml", newPolicies(c), map[int]config.Zone{lan: config.ZoneHosts, wan: config.ZoneNetwork})
	r.config = func() *config.Config { return c }
	return r
}

// reserved puts a reservation for data in the direction of key in place.
func (r rig) reserved(t *testing.T, id uint64, key packet.FlowKey, in, out int) {
	t.Helper()
	s, f := sessionOf(key)
	ask := softstate.Reserve{
		ID: id, Session: s, Filters: []wire.Filter{f}, Style: wire.FF, In: softstate.IfIndex(in), Out: softstate.IfIndex(out),
		FlowSpec: spec(1e6), SenderTSpec: spec(1e6).TSpec,
	}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
}

// On either side the ACKs of a paced connection come to an engine when the
// reservation is in place, and its data is policed like that of others.
func TestPacedOnEitherSide(t *testing.T) {
	for _, tt := range []struct {
		name     string
		src, dst string
		in, out  int
		role     role
		flags    uint8
	}{
		{"the sender's box", "10.1.0.2:4000", "10.2.0.2:104", lan, wan, roleSender, packet.FlagSYN},
		{"the receiver's box", "10.2.0.2:204", "10.1.0.2:4000", wan, lan, roleReceiver, packet.FlagSYN},
		{"picked up in the middle", "10.2.0.2:204", "10.1.0.2:4000", wan, lan, roleReceiver, packet.FlagACK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := pacedControl(t)
			v := tcpPacket(t, tt.src, tt.dst, tt.flags)
			d := r.flows.first(time.Now(), v, tt.in, tt.out)
			key := v.Key()
			if tt.role == roleReceiver {
				if d.shard < 0 || d.watch != key || !d.plain || len(d.ask) != 0 {
					t.Fatalf("decision = %+v", d)
				}
			}
			f, shard, _ := r.flows.get(key)
			if f.role != tt.role || shard < 0 || d.watch != key || !d.plain {
				t.Fatalf("role %v, shard %d, decision %+v", f.role, shard, d)
			}
			if _, other, _ := r.flows.get(key.Reverse()); other >= 0 {
				t.Errorf("the direction of the ACKs is in shard %d", other)
			}
			r.reserved(t, 1, key, tt.in, tt.out)
			p, on := r.cheat.running[key]
			if !on || p.Mode != tcpcheat.Pace || p.Rate != 1e6 || p.Bucket != 64000 || p.PaceFactor != 2 || p.PaceLoose != (tt.role == roleSender) {
				t.Fatalf("started %v: %+v", on, p)
			}
			// A paced source repairs its losses itself, and where its ACKs come
			// to its own box the narrow way is behind them.
			if receiver := tt.role == roleReceiver; p.Thin != receiver || p.Fill != receiver {
				t.Errorf("thinned %v, filled %v", p.Thin, p.Fill)
			}
			if got := r.fake.have[key]; got.Cheated || !got.Police || !got.Reserve {
				t.Errorf("kernel = %+v, want it policed", got)
			}
			if row := flowRow(time.Now(), 1, &f, nil); row.TCPMode != "pace" {
				t.Errorf("tcp_mode %s", row.TCPMode)
			}
			r.Release(1)
			if len(r.cheat.running) != 0 {
				t.Error("still paced without a reservation")
			}
		})
	}
}

// A connection is engaged when it comes after its reservation, as at the
// receiver's side with SYN lost or a reservation for all.
func TestPacedWhenTheReservationWasFirst(t *testing.T) {
	r := pacedControl(t)
	v := tcpPacket(t, "10.2.0.2:204", "10.1.0.2:4000", packet.FlagSYN)
	r.reserved(t, 1, v.Key(), wan, lan)
	d := r.flows.first(time.Now(), v, wan, lan)
	if d.shard < 0 {
		t.Fatalf("decision = %+v", d)
	}
	r.restart(d.watch)
	if r.cheat.running[v.Key()].Mode != tcpcheat.Pace {
		t.Errorf("running: %v", r.cheat.running)
	}
}

// The box of the receiver does nothing to a connection that is the sender's to
// cheat on.
func TestReceiversBoxLeavesReliableAlone(t *testing.T) {
	r := pacedControl(t)
	d := r.flows.first(time.Now(), tcpPacket(t, "10.2.0.2:204", "10.1.0.2:5000", packet.FlagSYN), wan, lan)
	if d.shard >= 0 {
		t.Errorf("decision = %+v", d)
	}
}

// The engine keeps a paced source to p. Its own queue pushes together what came
// apart, so the policer behind it compares with r and b; once nobody paces any
// more, with p again.
func TestPeakIsNotPolicedBehindThePacer(t *testing.T) {
	r := pacedControl(t)
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:104"))
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	r.reserved(t, 1, key, lan, wan)
	if put := r.fake.have[key]; put.HasPeak() || !put.Policed() || put.Rate != 1e6 {
		t.Errorf("paced: %+v", put)
	}
	r.flows.update(key, func(c *conn, _ *flow) { c.shard = -1 })
	r.reprogram(t.Context(), key)
	if put := r.fake.have[key]; put.Peak != 1e7 || !put.Policed() {
		t.Errorf("not paced any more: %+v", put)
	}
}
