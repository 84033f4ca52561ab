package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

const testConfig = `
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit}
policies:
  - name: imaging
    match: {protocol: tcp, from: 10.1.0.0/16, to: 10.2.0.0/16, to_port: 104}
    reserve: {service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    mark: af31
    tcp: reliable
  - name: voice
    match: {protocol: udp, to_port: 5004-5020}
    reserve: {role: sender, service: controlled-load, tspec: {rate: 80kbit, burst: 400B, max_packet: 400B}}
    mark: voice-admit
  - name: video
    match: {protocol: udp, to_port: 7000}
    mark: af21
`

const (
	lan = 1
	wan = 2
)

func testTable(t *testing.T) *flowTable { return tableOf(t, testConfig) }

func tableOf(t *testing.T, file string) *flowTable {
	t.Helper()
	c, err := config.Parse("box.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	table := newFlowTable(4, 2)
	table.configure("box.yaml", newPolicies(c), map[int]config.Zone{lan: config.ZoneHosts, wan: config.ZoneNetwork})
	return table
}

func tcpPacket(t *testing.T, src, dst string, flags uint8) packet.View {
	t.Helper()
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	s := packet.Segment{Key: key, TTL: 64, Flags: flags}
	if flags&packet.FlagSYN == 0 {
		s.Payload = []byte("data")
	}
	v, err := packet.Parse(packet.AppendTCP(nil, &s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func udpPacket(t *testing.T, src, dst string) packet.View {
	t.Helper()
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	b := make([]byte, 28)
	b[0], b[3], b[8], b[9] = 0x45, 28, 64, packet.ProtoUDP
	copy(b[12:], s.Addr().AsSlice())
	copy(b[16:], d.Addr().AsSlice())
	b[20], b[21], b[22], b[23], b[25] = byte(s.Port()>>8), byte(s.Port()), byte(d.Port()>>8), byte(d.Port()), 8
	v, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// RFC 5945 section 4.3: the flow itself is the trigger.
func TestFirstPacketOfACheatedConnection(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name     string
		src, dst string
		in, out  int
	}{
		{"opened by the sender", "10.1.0.2:4000", "10.2.0.2:104", lan, wan},
		{"opened by the receiver", "10.2.0.2:104", "10.1.0.2:4000", wan, lan},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := testTable(t)
			d := table.first(now, tcpPacket(t, tt.src, tt.dst, packet.FlagSYN), tt.in, tt.out)
			data := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:104"))
			if d.shard < 0 || d.watch != data {
				t.Fatalf("decision = %+v, want a cheat queue for %v", d, data)
			}
			if len(d.ask) != 1 || d.ask[0].key != data || d.ask[0].role != roleSender {
				t.Errorf("asks = %+v, want one reservation as sender for %v", d.ask, data)
			}
			f, shard, ok := table.get(data)
			if !ok || f.state != stateWatched || shard != d.shard {
				t.Errorf("flow = %+v in shard %d", f, shard)
			}
			other, _, ok := table.get(data.Reverse())
			if !ok || other.state != stateLeftAlone || other.policy != nil {
				t.Errorf("other direction = %+v", other)
			}
			// The set's timeout brings a later packet here: nothing is asked twice.
			if d = table.first(now, tcpPacket(t, tt.src, tt.dst, packet.FlagACK), tt.in, tt.out); !d.known || len(d.ask) != 0 {
				t.Errorf("second packet: %+v, want known", d)
			}
		})
	}
}

func TestConnectionPickedUpInTheMiddleIsReservedButNotCheated(t *testing.T) {
	table := testTable(t)
	d := table.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagACK), lan, wan)
	if d.shard != -1 || len(d.ask) != 1 {
		t.Fatalf("decision = %+v, want a reservation and no cheat queue", d)
	}
	if !strings.Contains(d.ask[0].text(), "handshake was not seen") {
		t.Errorf("reason = %q", d.ask[0].text())
	}
}

func TestRolesAndReasons(t *testing.T) {
	tests := []struct {
		name    string
		v       packet.View
		in, out int
		state   flowState
		role    role
		reason  string
	}{
		{"sender's side", udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), lan, wan, stateWatched, roleSender, "waiting for RESV (box.yaml:"},
		{"receiver's side of a sender's policy", udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), wan, lan, stateLeftAlone, roleNone, "speaks only for the sender"},
		{"receiver's side", tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), wan, lan, stateWatched, roleReceiver, "waiting for PATH"},
		{"static mark", udpPacket(t, "10.1.0.2:9", "10.2.0.2:7000"), lan, wan, stateManaged, roleNone, "marked as box.yaml:"},
		{"same side", udpPacket(t, "10.1.0.2:9", "10.1.7.2:5004"), lan, lan, stateLeftAlone, roleNone, "both ends are on the hosts' side"},
		{"transit", udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), wan, wan, stateLeftAlone, roleNone, "its own edge speaks for it"},
		{"unknown interface", udpPacket(t, "10.1.0.2:9", "10.2.0.2:5004"), 7, wan, stateLeftAlone, roleNone, "configuration does not have"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := testTable(t)
			table.first(time.Now(), tt.v, tt.in, tt.out)
			f, _, ok := table.get(tt.v.Key())
			if !ok || f.state != tt.state || f.role != tt.role || !strings.Contains(f.reason, tt.reason) {
				t.Errorf("flow = %q role %d %q, want %q role %d %q", f.state, f.role, f.reason, tt.state, tt.role, tt.reason)
			}
		})
	}
}

func TestFlowTableIsBounded(t *testing.T) {
	table := testTable(t) // limit 4
	for i := range 9 {
		v := udpPacket(t, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), uint16(1000+i)).String(), "10.2.0.2:7000")
		if d := table.first(time.Now(), v, lan, wan); len(d.settle) == 0 {
			t.Fatalf("packet %d: %+v: a flow that found no room must be settled, or it is queued for ever", i, d)
		}
	}
	if conns, full := table.size(); conns != 4 || full != 5 {
		t.Errorf("%d flows and %d refused, want 4 and 5", conns, full)
	}
}

func TestUDPDirectionsAreDecidedOneByOne(t *testing.T) {
	table := testTable(t)
	d := table.first(time.Now(), udpPacket(t, "10.1.0.2:5004", "10.2.0.2:5004"), lan, wan)
	if len(d.settle) != 1 || len(d.ask) != 1 {
		t.Fatalf("first direction: %+v", d)
	}
	d = table.first(time.Now(), udpPacket(t, "10.2.0.2:5004", "10.1.0.2:5004"), wan, lan)
	if d.known || len(d.settle) != 1 || len(d.ask) != 0 {
		t.Errorf("second direction: %+v, want a decision of its own", d)
	}
}

func TestStragglersAskForNothing(t *testing.T) {
	table := testTable(t)
	key := packet.MakeKey(packet.ProtoTCP, netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.2.0.2:104"))
	for _, flags := range []uint8{packet.FlagACK, packet.FlagRST, packet.FlagFIN | packet.FlagACK} {
		v, err := packet.Parse(packet.AppendTCP(nil, &packet.Segment{Key: key, TTL: 64, Flags: flags}))
		if err != nil {
			t.Fatal(err)
		}
		d := table.first(time.Now(), v, lan, wan)
		if len(d.settle) != 1 || len(d.ask) != 0 || d.shard >= 0 {
			t.Errorf("flags %#x: %+v, want its direction settled and nothing else", flags, d)
		}
		if conns, _ := table.size(); conns != 0 {
			t.Errorf("flags %#x: an entry was made", flags)
		}
	}
}

// A SYN on ports that are known as an uncheated connection is a new one.
func TestPortsUsedAnewAreCheated(t *testing.T) {
	table := testTable(t)
	table.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagACK), lan, wan)
	d := table.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if d.shard < 0 || d.watch.SrcPort != 4000 {
		t.Errorf("decision = %+v, want a cheat queue", d)
	}
}

// An uncheated connection's reservation ends with it, not after an idle time.
func TestConnectionEndsAreSeen(t *testing.T) {
	for name, last := range map[string][]packet.View{
		"reset": {tcpPacket(t, "10.2.0.2:104", "10.1.0.2:4000", packet.FlagRST)},
		"both FINs": {
			tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagFIN|packet.FlagACK),
			tcpPacket(t, "10.2.0.2:104", "10.1.0.2:4000", packet.FlagFIN|packet.FlagACK),
		},
	} {
		table := testTable(t)
		table.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagACK), lan, wan)
		for i, v := range last {
			if d := table.first(time.Now(), v, lan, wan); d.ended != (i == len(last)-1) {
				t.Errorf("%s, packet %d: ended = %v", name, i, d.ended)
			}
		}
	}
}

func TestNothingNewIsCheatedWhileDraining(t *testing.T) {
	table := testTable(t)
	table.drain()
	if d := table.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan); d.shard >= 0 {
		t.Errorf("decision = %+v", d)
	}
}

// What keeps a flow without packets: reservations of others, and those by hand,
// but no branch of a group that is not reserved.
func TestHeld(t *testing.T) {
	hand, policy, since := &config.Policy{Name: "by-hand:1"}, &config.Policy{Name: "voice", Line: 3}, time.Now()
	for _, tt := range []struct {
		f    flow
		want bool
	}{
		{flow{key: imagingKey, policy: policy, role: roleSender, reserved: since}, false},
		{flow{key: imagingKey, policy: policy, role: roleReceiver, reserved: since}, true},
		{flow{key: imagingKey, policy: policy, role: roleReceiver}, false},
		{flow{key: imagingKey, policy: hand, role: roleSender}, true},
		{flow{key: groupKey, policy: hand, role: roleSender}, false},
		{flow{key: groupKey, policy: hand, role: roleSender, reserved: since}, true},
		{flow{key: groupKey, policy: hand, role: roleReceiver}, false},
	} {
		if got := tt.f.held(); got != tt.want {
			t.Errorf("%+v: %v", tt.f, got)
		}
	}
}
