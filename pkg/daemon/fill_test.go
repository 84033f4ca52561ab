package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

const fillConfig = `
tcp: {fill_after: 30ms, fill_pattern: "hex:ff", fill_encrypted: true}
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit}
policies:
  - name: made-up
    match: {protocol: tcp, to_port: 104}
    reserve: {service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    tcp: realtime
    fill: true
  - name: real
    match: {protocol: tcp, to_port: 105}
    reserve: {service: controlled-load, tspec: {rate: 8mbit, burst: 64kB, max_packet: 1500B}}
    tcp: reliable
    fill: true
`

// Data is looked at only where holes may be filled.
func TestDataIsLookedAtWhereHolesMayBeFilled(t *testing.T) {
	for dst, want := range map[string]bool{"10.2.0.2:104": true, "10.2.0.2:105": false} {
		r := testControl(t)
		c, err := config.Parse("box.yaml", []byte(fillConfig))
		if err != nil {
			t.Fatal(err)
		}
		r.flows.configure("box.yaml", newPolicies(c), map[int]config.Zone{lan: config.ZoneHosts, wan: config.ZoneNetwork})
		d := r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", dst, packet.FlagSYN), lan, wan)
		if d.shard < 0 || d.fill != want {
			t.Errorf("to %s: %+v", dst, d)
		}
	}
}

// The receiver's box fills; the sender's does it beside realtime, and has no
// need to beside reliable (which the engine knows).
func TestFillOnEitherSide(t *testing.T) {
	for _, tt := range []struct {
		src, dst string
		in, out  int
		mode     tcpcheat.Mode
	}{
		{"10.1.0.2:4000", "10.2.0.2:104", lan, wan, tcpcheat.Realtime},
		{"10.2.0.2:4000", "10.1.0.2:104", wan, lan, 0},
		{"10.2.0.2:4000", "10.1.0.2:105", wan, lan, 0},
	} {
		r := testControl(t)
		c, err := config.Parse("box.yaml", []byte(fillConfig))
		if err != nil {
			t.Fatal(err)
		}
		r.flows.configure("box.yaml", newPolicies(c), map[int]config.Zone{lan: config.ZoneHosts, wan: config.ZoneNetwork})
		r.config = func() *config.Config { return c }
		key := tcpPacket(t, tt.src, tt.dst, packet.FlagSYN).Key()
		d := r.flows.first(time.Now(), tcpPacket(t, tt.src, tt.dst, packet.FlagSYN), tt.in, tt.out)
		if d.shard < 0 || d.watch != key || !d.fill {
			t.Errorf("to %s: %+v", tt.dst, d)
		}
		r.reserved(t, 1, key, tt.in, tt.out)
		p := r.cheat.running[key]
		if !p.Fill || !p.FillForce || p.FillAfter != 30*time.Millisecond || !slices.Equal(p.FillPattern, []byte{255}) || p.Mode != tt.mode {
			t.Errorf("to %s: %+v", tt.dst, p)
		}
	}
}

// What was made up stands in the flow's row.
func TestFilledRangesInTheRow(t *testing.T) {
	f := flow{key: packet.FlowKey{SrcPort: 1}}
	row := flowRow(time.Now(), 1, &f, map[packet.FlowKey]tcpcheat.Stats{f.key: {
		FilledBytes: 7, FilledRanges: []tcpcheat.ByteRange{{From: 1, To: 5}, {From: 9, To: 12}}, FilledMore: 2, Reason: "holes filled",
		FillsAgain: 3, FillsGivenUp: 1, Timeouts: 4, TailProbes: 5, PathMTU: 1400, Withdrawals: 6,
	}})
	if row.FilledBytes != 7 || row.FilledMore != 2 || !slices.Equal(row.FilledRanges, [][2]uint64{{1, 5}, {9, 12}}) || row.Reason != "; holes filled" {
		t.Errorf("%+v", row)
	}
	if row.FillsAgain != 3 || row.FillsGivenUp != 1 || row.Timeouts != 4 || row.TailProbes != 5 || row.PathMTU != 1400 || row.Withdrawn != 6 {
		t.Errorf("%+v", row)
	}
	if row := flowRow(time.Now(), 1, &f, nil); row.FilledRanges == nil {
		t.Error("null where nothing was filled")
	}
}

// The engine's reason for letting a connection alone stands in the flow's row.
func TestLeftAloneInTheRow(t *testing.T) {
	for _, why := range []error{
		tcpcheat.ErrMPTCP, tcpcheat.ErrMD5, tcpcheat.ErrAO, tcpcheat.ErrFastOpen, tcpcheat.ErrOption, tcpcheat.ErrNoHandshake,
		tcpcheat.ErrFragment, tcpcheat.ErrUrgent, tcpcheat.ErrChanged, tcpcheat.ErrNeverSent, tcpcheat.ErrTLS,
		tcpcheat.ErrOneWay, tcpcheat.ErrTwoPorts, tcpcheat.ErrOnePort, errUnseen, errTags, errMoving,
	} {
		r := testControl(t)
		r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
		if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
			t.Fatal(refusal)
		}
		engine := tcpcheat.New(tcpcheat.Limits{})
		d := &Daemon{flows: r.flows, tc: r.trafficControl, log: zap.NewNop(), cheat: &cheatWorkers{}}
		for range r.flows.shards {
			d.cheat.handlers = append(d.cheat.handlers, &cheatHandler{engine: engine, wake: func() {}})
		}
		d.cheatEvent(t.Context(), tcpcheat.Event{Key: imagingKey, Kind: tcpcheat.EventStarted})
		d.cheatEvent(t.Context(), tcpcheat.Event{Key: imagingKey, Kind: tcpcheat.EventLeftAlone, Reason: why.Error(), Final: tcpcheat.Stats{
			FakeAcks: 5, FilledBytes: 3, FilledRanges: []tcpcheat.ByteRange{{From: 4, To: 7}},
		}})
		f, shard, _ := r.flows.get(imagingKey)
		row := flowRow(time.Now(), 1, &f, nil)
		if !strings.Contains(row.Reason, "not cheated: "+why.Error()) || row.State != console.FlowManaged || shard >= 0 {
			t.Errorf("%v: %s, %q, in queue %d", why, row.State, row.Reason, shard)
		}
		if row.FakeAcks != 5 || row.FilledBytes != 3 || !slices.Equal(row.FilledRanges, [][2]uint64{{4, 7}}) {
			t.Errorf("%v: what was done before is forgotten: %+v", why, row)
		}
		if d.reasons.all()[why.Error()] != 1 {
			t.Errorf("%v: stats %v", why, d.reasons.all())
		}
	}
}

// A connection that is to go, and whose engine leaves it alone, goes.
func TestLeftAloneIsRetired(t *testing.T) {
	r := testControl(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	var c calls
	d := &Daemon{flows: r.flows, tc: r.trafficControl, log: zap.NewNop(), cheat: &cheatWorkers{}, signal: &c, promises: &promises{}}
	for range r.flows.shards {
		d.cheat.handlers = append(d.cheat.handlers, &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}})
	}
	d.links.Store(newLinks(nil))
	d.retire(t.Context(), imagingKey)
	if _, _, ok := r.flows.get(imagingKey); !ok {
		t.Fatal("it went while it was looked after")
	}
	d.cheatEvent(t.Context(), tcpcheat.Event{Key: imagingKey, Kind: tcpcheat.EventLeftAlone, Recalled: true, Reason: "its receiver is silent"})
	if f, _, ok := r.flows.get(imagingKey); ok {
		t.Errorf("it is still there: %+v", f)
	}
}

// Why a reserved flow is not cheated stands in its row once.
func TestCaveatIsToldOnce(t *testing.T) {
	r := testControl(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	r.flows.update(imagingKey, func(c *conn, f *flow) {
		c.shard, f.caveat = -1, "; not cheated: the other direction of this connection is"
	})
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	f, _, _ := r.flows.get(imagingKey)
	if want := "reserved; not cheated: the other direction of this connection is"; f.text() != want {
		t.Errorf("%q, want %q", f.text(), want)
	}
}
