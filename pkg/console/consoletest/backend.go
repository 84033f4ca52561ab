package consoletest

import (
	"context"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// Backend answers with what its fields hold.
type Backend struct {
	StatusValue   console.Status
	FlowRows      []console.FlowRow
	SessionRows   []console.SessionRow
	LinkRows      []console.LinkRow
	PolicyRows    []console.PolicyRow
	StatsValue    console.Stats
	ReloadErr     error
	HealthErr     error
	Reloads       int
	NeighborRows  []console.RSVPNeighborRow
	SenderRows    []console.RSVPSenderRow
	RequestRows   []console.RSVPReservationRow
	InterfaceRows []console.RSVPInterfaceRow
	TraceValue    console.Trace
	TraceErr      error
	TraceAsked    console.TraceQuery // the last one
	ReducedValue  console.Reduction
	ReduceErr     error
	ReduceAsked   console.ReductionRequest // the last one
	Hub           *console.Hub             // nil: made by Events
	// ReservationRows answer Reservations; Reserve appends AddedRow unless
	// ReserveErr is set, and notes what was asked for.
	ReservationRows []console.ReservationRow
	ReserveErr      error
	AddedRow        console.ReservationRow
	Asked           []console.ReservationRequest
	BeforeAnswers   func() // called before each answer, when set
	UserRows        []console.UserRow
	AccountRows     []console.AccountingRow
	AccountSums     []console.AccountingSum
}

func (b *Backend) before() {
	if b.BeforeAnswers != nil {
		b.BeforeAnswers()
	}
}

// Status returns StatusValue.
func (b *Backend) Status() console.Status { b.before(); return b.StatusValue }

// Flows returns FlowRows.
func (b *Backend) Flows() []console.FlowRow { b.before(); return b.FlowRows }

// Sessions returns SessionRows.
func (b *Backend) Sessions() []console.SessionRow { b.before(); return b.SessionRows }

// Links returns LinkRows.
func (b *Backend) Links() []console.LinkRow { b.before(); return b.LinkRows }

// Policies returns PolicyRows.
func (b *Backend) Policies() []console.PolicyRow { b.before(); return b.PolicyRows }

// Users returns UserRows.
func (b *Backend) Users() []console.UserRow { b.before(); return b.UserRows }

// Stats returns StatsValue.
func (b *Backend) Stats() console.Stats { b.before(); return b.StatsValue }

// Trace returns TraceValue and TraceErr.
func (b *Backend) Trace(_ context.Context, q console.TraceQuery) (console.Trace, error) {
	b.before()
	b.TraceAsked = q
	return b.TraceValue, b.TraceErr
}

// Reduce returns ReducedValue and ReduceErr.
func (b *Backend) Reduce(_ context.Context, r console.ReductionRequest) (console.Reduction, error) {
	b.before()
	b.ReduceAsked = r
	return b.ReducedValue, b.ReduceErr
}

// Reload counts and returns ReloadErr.
func (b *Backend) Reload(context.Context) error { b.Reloads++; return b.ReloadErr }

// Healthy returns HealthErr.
func (b *Backend) Healthy() error { return b.HealthErr }

// RSVPNeighbors returns NeighborRows.
func (b *Backend) RSVPNeighbors() ([]console.RSVPNeighborRow, error) {
	b.before()
	return b.NeighborRows, nil
}

// RSVPSenders returns SenderRows.
func (b *Backend) RSVPSenders() ([]console.RSVPSenderRow, error) {
	b.before()
	return b.SenderRows, nil
}

// RSVPReservations returns RequestRows.
func (b *Backend) RSVPReservations() ([]console.RSVPReservationRow, error) {
	b.before()
	return b.RequestRows, nil
}

// RSVPInterfaces returns InterfaceRows.
func (b *Backend) RSVPInterfaces() ([]console.RSVPInterfaceRow, error) {
	b.before()
	return b.InterfaceRows, nil
}

// Events returns Hub.
func (b *Backend) Events() *console.Hub {
	b.before()
	if b.Hub == nil {
		b.Hub = console.NewHub()
	}
	return b.Hub
}

// Reservations returns ReservationRows.
func (b *Backend) Reservations() ([]console.ReservationRow, error) {
	b.before()
	return b.ReservationRows, nil
}

// Reservation finds one of ReservationRows.
func (b *Backend) Reservation(id string) (console.ReservationRow, error) {
	b.before()
	for _, r := range b.ReservationRows {
		if r.ID == id {
			return r, nil
		}
	}
	return console.ReservationRow{}, &console.Error{Status: 404, Code: "no_reservation", Message: "there is no reservation " + id}
}

// Reserve notes r and appends AddedRow, or returns ReserveErr.
func (b *Backend) Reserve(_ context.Context, r console.ReservationRequest) (console.ReservationRow, error) {
	b.before()
	b.Asked = append(b.Asked, r)
	if b.ReserveErr != nil {
		return console.ReservationRow{}, b.ReserveErr
	}
	b.ReservationRows = append(b.ReservationRows, b.AddedRow)
	return b.AddedRow, nil
}

// Release removes one of ReservationRows.
func (b *Backend) Release(_ context.Context, id string) (console.ReservationRow, error) {
	r, err := b.Reservation(id)
	if err == nil {
		b.ReservationRows = slices.DeleteFunc(slices.Clone(b.ReservationRows), func(o console.ReservationRow) bool { return o.ID == id })
	}
	return r, err
}

// Example returns a backend that shows a box in the middle of its work: one
// cheated transfer, one voice stream, one flow left alone.
func Example() *Backend {
	peak := 2.5e6
	heard, latency := uint64(12), uint64(20_000)
	imaging := console.TSpec{R: 1e6, B: 64000, P: &peak, Min: 64, Max: 1500}
	voice := console.TSpec{R: 11000, B: 800, Min: 64, Max: 400}
	return &Backend{
		StatusValue: console.Status{
			Version: "v0.1.0", State: "running", PID: 4711, Mode: "router", ConfigFile: "/etc/qosproxy.yaml", UptimeS: 93784,
			Reload:  console.ReloadStatus{Count: 2, Failed: 1, Error: "/etc/qosproxy.yaml:4:7: mode: bridge is not in this version: write router", AgeS: 3600},
			Capture: "xt", DataPlane: "ebpf",
			Flows:    console.FlowCount{Managed: 1, Cheated: 2, LeftAlone: 1},
			Sessions: console.SessionCount{Reserved: 1, Requested: 1},
			Policies: 3, Links: 2,
			Ledger:   console.LedgerStatus{Kind: "etcd", State: console.LedgerOutOfReach, Reason: "no answer in time", SinceS: 75, Box: "edge-1"},
			Problems: []string{"the last reload was refused, the old config is still in use"},
		},
		AccountRows: []console.AccountingRow{
			{
				Serial: 17, State: console.AccountEnded, Dst: "10.2.0.9", Protocol: "tcp", Dport: 104, Src: "10.1.0.5", Sport: 40100, Style: "ff",
				Service: "controlled-load", Policy: "imaging", DSCP: 26, PHB: "af31", ReservedBPS: 8_000_000,
				Begin: "2026-11-26T08:00:00.250Z", End: "2026-11-26T08:02:05.750Z", DurationS: 125.5, Reason: "released",
				AccountingUsage: console.AccountingUsage{
					Packets: 81234, Bytes: 121851000, ConformPackets: 81224, ConformBytes: 121836000, ExceedPackets: 10, ExceedBytes: 15000,
					DroppedPackets: 2, DroppedBytes: 3000,
				},
				PeakBPS: 8_120_000, Users: []console.AccountingUser{{User: "alice", Kind: "owner"}},
				Branches: []console.AccountingBranch{{
					Interface: "wan0", Src: "10.1.0.5", Sport: 40100, AccountingUser: console.AccountingUser{User: "alice", Kind: "owner"},
					Begin: "2026-11-26T08:00:00.250Z", End: "2026-11-26T08:02:05.750Z",
					AccountingUsage: console.AccountingUsage{
						Packets: 81234, Bytes: 121851000, ConformPackets: 81224, ConformBytes: 121836000, ExceedPackets: 10, ExceedBytes: 15000,
						DroppedPackets: 2, DroppedBytes: 3000,
					},
					PeakBPS: 8_120_000,
				}},
			},
			{
				State: console.AccountRunning, Dst: "239.1.2.3", Protocol: "udp", Dport: 5004, Src: "10.1.0.7", Sport: 5004, Style: "ff",
				Service: "guaranteed", Policy: "voice", DSCP: 44, PHB: "voice-admit", ReservedBPS: 88_000,
				Begin: "2026-11-26T08:01:00.000Z", DurationS: 125, AccountingUsage: console.AccountingUsage{Packets: 12500, Bytes: 2500000, ConformPackets: 12500, ConformBytes: 2500000},
				PeakBPS: 161_000, Users: []console.AccountingUser{{User: "10.1.0.7", Kind: "address"}},
				Branches: []console.AccountingBranch{
					{
						Interface: "wan0", Src: "10.1.0.7", Sport: 5004, AccountingUser: console.AccountingUser{User: "10.1.0.7", Kind: "address"},
						Begin: "2026-11-26T08:01:00.000Z", AccountingUsage: console.AccountingUsage{Packets: 6250, Bytes: 1250000, ConformPackets: 6250, ConformBytes: 1250000}, PeakBPS: 80_500,
					},
					{
						Interface: "lan1", Src: "10.1.0.7", Sport: 5004, AccountingUser: console.AccountingUser{User: "10.1.0.7", Kind: "address"},
						Begin: "2026-11-26T08:01:00.000Z", AccountingUsage: console.AccountingUsage{Packets: 6250, Bytes: 1250000, ConformPackets: 6250, ConformBytes: 1250000}, PeakBPS: 80_500,
					},
				},
			},
		},
		AccountSums: []console.AccountingSum{
			{
				AccountingUser: console.AccountingUser{User: "10.1.0.7", Kind: "address"}, Running: 2, Reservations: 2, DurationS: 250,
				AccountingUsage: console.AccountingUsage{Packets: 12500, Bytes: 2500000, ConformPackets: 12500, ConformBytes: 2500000}, PeakBPS: 161_000, Seen: "2026-11-26T08:03:05.000Z",
			},
			{
				AccountingUser: console.AccountingUser{User: "alice", Kind: "owner"}, Reservations: 1, DurationS: 125.5,
				AccountingUsage: console.AccountingUsage{
					Packets: 81234, Bytes: 121851000, ConformPackets: 81224, ConformBytes: 121836000, ExceedPackets: 10, ExceedBytes: 15000,
					DroppedPackets: 2, DroppedBytes: 3000,
				},
				PeakBPS: 8_120_000, Seen: "2026-11-26T08:02:05.750Z",
			},
		},
		FlowRows: []console.FlowRow{
			{
				Conn: "tcp 10.1.0.5:40112 10.2.0.9:104", Protocol: "tcp", Src: "10.1.0.5", Sport: 40112, Dst: "10.2.0.9", Dport: 104,
				Policy: "imaging", PolicyLine: 21, TCPMode: "reliable", DSCP: 26, PHB: "af31", Class: "1:10", Interface: "wan0", State: console.FlowCheated,
				Packets: 81234, Bytes: 121851000, RateBPS: 7_960_000, AgeS: 125, FakeAcks: 40617, AbsorbedAcks: 20301, AcksThinned: 301, Rewritten: 12,
				Retransmits: 83, Timeouts: 2, TailProbes: 5, PathMTU: 1400, Withdrawn: 3, BufferedBytes: 204800, RTTSenderUS: 410, RTTReceiverUS: 101_300, ReservedBPS: 8_000_000, SetupUS: 152_000,
				ConformPackets: 81234, FilledRanges: [][2]uint64{},
			},
			{
				Conn: "tcp 10.1.0.5:40112 10.2.0.9:104", Protocol: "tcp", Src: "10.2.0.9", Sport: 104, Dst: "10.1.0.5", Dport: 40112,
				Policy: "imaging", PolicyLine: 21, TCPMode: "reliable", PHB: "default", State: console.FlowCheated,
				Packets: 20325, Bytes: 1056900, RateBPS: 69_000, AgeS: 125,
				FilledBytes: 3000, FillsAgain: 4, FillsGivenUp: 1, FilledRanges: [][2]uint64{{144_800, 146_248}, {1_448_000, 1_449_552}},
			},
			{
				Conn: "udp 10.1.0.7:5004 10.2.0.7:5004", Protocol: "udp", Src: "10.1.0.7", Sport: 5004, Dst: "10.2.0.7", Dport: 5004,
				Policy: "voice", PolicyLine: 30, TCPMode: "none", DSCP: 44, PHB: "voice-admit", Class: "1:11", Interface: "wan0", State: console.FlowManaged,
				Packets: 6250, Bytes: 1250000, RateBPS: 80_000, AgeS: 125, ReservedBPS: 88_000, SetupUS: 149_000,
				ConformPackets: 6240, ExceedPackets: 7, DroppedPackets: 3, FilledRanges: [][2]uint64{},
			},
			{
				Conn: "tcp [2001:db8:1::5]:50001 [2001:db8:2::9]:104", Protocol: "tcp", Src: "2001:db8:1::5", Sport: 50001, Dst: "2001:db8:2::9", Dport: 104,
				Policy: "imaging", PolicyLine: 21, TCPMode: "reliable", PHB: "default", State: console.FlowLeftAlone,
				Reason: "handshake not seen", Packets: 12, Bytes: 9000, RateBPS: 0, AgeS: 8, FilledRanges: [][2]uint64{},
			},
		},
		SessionRows: []console.SessionRow{
			{
				Dst: "10.2.0.9", Protocol: "tcp", Dport: 104, Src: "10.1.0.5", Sport: 40112, Policy: "imaging", Role: "sender-proxy",
				NextHop: "192.0.2.2", Interface: "wan0", Style: "ff", Service: "controlled-load", TSpec: &imaging,
				FlowSpec: &console.FlowSpec{TSpec: imaging}, State: console.SessionReserved, DSCP: 26, PHB: "af31", Class: "1:10", AgeS: 125,
				Priority: &console.Priority{Setup: 3, Hold: 7}, Identities: []string{"user CN=Joe"}, User: "joe", DClass: []int{26},
				Aggregate: &console.AggregateRef{Src: "192.0.2.1", Dst: "192.0.2.9", DSCP: 26, PHB: "af31"},
			},
			{
				Dst: "10.2.0.8", Protocol: "udp", Dport: 5006, Src: "10.1.0.7", Sport: 5006, Policy: "voice", Role: "receiver-proxy",
				PrevHop: "192.0.2.1", Interface: "lan0", Style: "ff", Service: "guaranteed", TSpec: &voice,
				FlowSpec: &console.FlowSpec{TSpec: voice, Rate: 26_500, Slack: 1200},
				State:    console.SessionRequested, DSCP: 44, PHB: "voice-admit", AgeS: 1,
				Error:      "requested bandwidth unavailable (code 1 value 2) at 192.0.2.5: not because of this request, but of a larger one",
				ErrorFlags: console.ErrorFlags{NotGuilty: true},
			},
			{
				Dst: "10.2.0.8", Protocol: "esp", Dport: 8192, Src: "10.1.0.7", Format: "gpi", SPI: 0x1001, Role: "transit",
				PrevHop: "192.0.2.1", NextHop: "198.51.100.2", Interface: "wan0", TSpec: &voice, State: console.SessionPath, AgeS: 3,
			},
			{
				Dst: "192.0.2.9", Src: "192.0.2.1", Format: "aggregate", Role: "sender-proxy", NextHop: "192.0.2.2", Interface: "wan0", Style: "ff",
				Service: "controlled-load", TSpec: &imaging, FlowSpec: &console.FlowSpec{TSpec: imaging}, State: console.SessionReserved,
				DSCP: 26, PHB: "af31", AgeS: 124,
				Carries: &console.Carries{Reservations: 1, Waiting: 1, UsedBPS: 8e6, ReservedBPS: 12e6, AskedBPS: 12e6},
			},
		},
		LinkRows: []console.LinkRow{
			{Name: "lan0", Zone: "hosts", Trust: "none", Up: true, MTU: 1500},
			{
				Name: "wan0", Zone: "network", Trust: "dscp", Up: true, MTU: 1500, CapacityBPS: 19e6, ReservableBPS: 15_200_000,
				ReservedBPS: 8_088_000, FreeBPS: 7_112_000, Reservations: 2,
				Services: []console.ServiceRow{
					{Service: "guaranteed", GrantedBPS: 88_000, LimitBPS: 9_500_000, FreeBPS: 9_412_000, Overbooking: 1},
					{Service: "controlled-load", GrantedBPS: 12e6, LimitBPS: 22_800_000, FreeBPS: 10_800_000, Overbooking: 1.5},
				},
				Levels: []console.LevelRow{
					{DSCP: 10, PHB: "af11", State: console.LevelUnsold, GrantedBPS: 4e6, GrantedBurst: 16_000},
					{
						DSCP: 26, PHB: "af31", State: console.LevelOpen, Times: []string{"06:00-22:00"}, GrantedBPS: 8e6, LimitBPS: 8e6,
						GrantedBurst: 64_000, LimitBurst: 96_000, FreeBurst: 32_000,
					},
					{DSCP: 34, PHB: "af41", State: console.LevelClosed, Times: []string{"20:00-06:00"}},
					{
						DSCP: 44, PHB: "voice-admit", State: console.LevelOpen, GrantedBPS: 968_000, LimitBPS: 2e6, FreeBPS: 1_032_000,
						GrantedBurst: 4400, LimitBurst: 16_000, FreeBurst: 11_600,
					},
				},
				Shared: []console.SharedRow{{
					Name: "sla-voice", Level: "voice-admit", LimitBPS: 2e6, HeldBPS: 968_000, OwnBPS: 88_000, LimitBurst: 16_000, HeldBurst: 4400, OwnBurst: 400,
					Boxes: []console.SharedBox{{Box: "edge-1", HeldBPS: 88_000, HeldBurst: 400}, {Box: "edge-2", HeldBPS: 880_000, HeldBurst: 4000}},
				}},
				Classify: "flow", BestEffortBPS: 950_000,
				DSCPs: []console.DSCPRow{
					{
						Direction: "leaving", DSCP: 26, PHB: "af31", Class: "1:ff1a", Policed: true, RateBPS: 8e6, Burst: 96_000, Excess: "drop",
						DSCPCounts: console.DSCPCounts{
							ConformPackets: 1200, ConformBytes: 1_800_000, ExceedPackets: 30, ExceedBytes: 45_000, DroppedPackets: 30, DroppedBytes: 45_000,
						},
					},
					{Direction: "leaving", DSCP: 34, PHB: "af41", Class: "1:ff22", Policed: true, Excess: "best-effort"},
					{Direction: "leaving", DSCP: 44, PHB: "voice-admit", Class: "1:ff2c", DSCPCounts: console.DSCPCounts{ConformPackets: 9, ConformBytes: 1800}},
					{Direction: "arriving", DSCP: 26, PHB: "af31", Policed: true, RateBPS: 8e6, Burst: 96_000, Excess: "le"},
				},
				Classes: []console.ClassRow{
					{Class: "1:1", Kind: "root", RateBPS: 19e6, CeilBPS: 19e6, Packets: 200_000, Bytes: 290_000_000},
					{Class: "1:2", Kind: "control", RateBPS: 190_000, CeilBPS: 19e6, Packets: 120, Bytes: 18_000},
					{Class: "1:10", Kind: "reserved", RateBPS: 8e6, CeilBPS: 8e6, Packets: 81_234, Bytes: 121_851_000, Overlimits: 9012, Backlog: 3028, BacklogPkts: 2},
					{Class: "1:ffff", Kind: "best-effort", RateBPS: 1e6, CeilBPS: 19e6, Packets: 112_000, Bytes: 166_000_000, Drops: 51_234, Overlimits: 111_000, Backlog: 1_500_000, BacklogPkts: 1000},
				},
			},
		},
		UserRows: []console.UserRow{
			{Name: "ann", Line: 30, Identities: []string{"ann", "CN=Ann,O=Acme"}, From: []string{"10.1.0.5/32"}, ReservedBPS: 8_000_000, LimitBPS: 12_000_000, Reservations: 1},
			{Name: "staff", Line: 31},
		},
		PolicyRows: []console.PolicyRow{
			{
				Name: "imaging", Line: 21, Protocol: "tcp", From: []string{"10.1.0.0/16"}, To: []string{"10.2.0.0/16"}, ToPort: []string{"104"},
				Role: "sender", Service: "controlled-load", TSpec: &imaging, DSCP: 26, PHB: "af31", TCPMode: "reliable", ThinAcks: true, Excess: "best-effort",
				Priority: &console.Priority{Setup: 3, Hold: 7},
				Flows:    3, Reservations: 1, Matched: 9,
			},
			{
				Name: "voice", Line: 30, Protocol: "udp", ToPort: []string{"5004-5020"}, Role: "sender", Service: "guaranteed", TSpec: &voice,
				DelayUS: 50_000, DSCP: 44, PHB: "voice-admit", TCPMode: "none", Excess: "drop", Flows: 1, Reservations: 1, Matched: 1,
			},
			{
				Name: "rest", Line: 40, From: []string{"10.1.0.0/16", "2001:db8:1::/48"}, DSCP: -1, TCPMode: "none", Excess: "best-effort",
				Police: &console.Police{RateBPS: 2e6, Burst: 16_000, Per: "all"},
			},
		},
		NeighborRows: []console.RSVPNeighborRow{
			{
				Address: "192.0.2.2", Interface: "wan0", Senders: 1, Requests: 2, HeardS: &heard, Reduction: console.ReductionYes, RTTUS: 410, Unacked: 1, Summary: 3,
				Secured: true, Received: console.RSVPMessages{Path: 1, Resv: 6, Other: 4}, Sent: console.RSVPMessages{Resv: 1, Other: 3},
			},
			{Address: "192.0.2.6", Interface: "wan0", Requests: 1, Reduction: console.ReductionOff},
		},
		SenderRows: []console.RSVPSenderRow{
			{
				Dst: "10.2.0.9", Protocol: "tcp", Dport: 104, Src: "10.1.0.5", Sport: 40112, Role: "sender-proxy", State: console.SessionReserved,
				InterfaceIn: "lan0", Interfaces: []string{"wan0"}, TSpec: &imaging, RefreshS: 21.5, AgeS: 125,
			},
			{
				Dst: "10.1.0.7", Protocol: "udp", Dport: 5006, Src: "10.2.0.8", Sport: 5006, Role: "receiver-proxy", State: console.SessionRejected, PrevHop: "192.0.2.2",
				InterfaceIn: "wan0", Interfaces: []string{"lan0"}, TSpec: &voice, Hops: 3, BandwidthBPS: 19e6, LatencyUS: &latency, MTU: 1500, Break: true, ExpiresS: 120.25, AgeS: 65,
				Error: "requested bandwidth unavailable (code 1 value 2)",
			},
		},
		RequestRows: []console.RSVPReservationRow{
			{
				Dst: "10.2.0.9", Protocol: "tcp", Dport: 104, Style: "ff", Filters: []console.RSVPFilter{{Src: "10.1.0.5", Sport: 40112}}, NextHop: "192.0.2.2", Interface: "wan0",
				Service: "controlled-load", FlowSpec: &console.FlowSpec{TSpec: imaging}, Installed: true, Class: "1:10", ExpiresS: 140,
			},
			{
				Dst: "10.1.0.7", Protocol: "udp", Dport: 5006, Style: "wf", Interface: "lan0",
				Service: "guaranteed", FlowSpec: &console.FlowSpec{TSpec: voice, Rate: 22000, Slack: 100}, Pending: true, Confirm: true,
			},
		},
		InterfaceRows: []console.RSVPInterfaceRow{
			{Name: "lan0", Zone: "hosts", Address: "10.1.0.1", Address6: "2001:db8:1::1", MTU: 1500, SendersIn: 1, SendersOut: 1, Requests: 1, RefreshS: 30, Reduction: true},
			{
				Name: "wan0", Zone: "network", Address: "192.0.2.1", MTU: 1500, ReservableBPS: 15_200_000, ReservedBPS: 8_088_000, Reservations: 2, Requests: 3, SendersIn: 1, SendersOut: 1,
				Neighbors: 2, RefreshS: 30, Reduction: true, Secured: true, HeardS: &heard,
				Received: console.RSVPMessages{Path: 1, Resv: 6, Other: 4}, Sent: console.RSVPMessages{Path: 8, Resv: 1, Other: 3},
			},
		},
		ReservationRows: []console.ReservationRow{
			{
				ID: "3", Owner: "ops", Comment: "the monday meeting", Protocol: "udp", Src: "10.1.0.7", Sport: 5008, Dst: "10.2.0.7", Dport: 5008,
				Side: "both", Role: "sender-proxy", Service: "controlled-load", Style: "ff", TSpec: &voice, DSCP: 44, PHB: "voice-admit",
				TCPMode: "none", Excess: "best-effort", State: console.SessionReserved, FlowSpec: &console.FlowSpec{TSpec: voice}, Class: "1:12",
				Branches: []console.Branch{{Interface: "wan0", State: console.SessionReserved, Class: "1:12"}},
				Since:    "2026-01-02T03:04:05Z", Expires: "2026-01-02T05:04:05Z", AgeS: 125,
			},
			{
				ID: "7", Protocol: "tcp", Src: "10.1.0.5", Sport: 40200, Dst: "10.2.0.9", Dport: 104,
				Side: "sender", Role: "sender-proxy", Service: "controlled-load", Style: "ff", TSpec: &imaging, DSCP: 26, PHB: "af31",
				Priority: &console.Priority{Setup: 1, Hold: 2}, TCPMode: "reliable", Excess: "drop", State: console.SessionRejected,
				Error: "requested bandwidth unavailable (code 1 value 2) at 192.0.2.2", ErrorCode: 1, ErrorValue: 2, ErrorNode: "192.0.2.2",
				ErrorFlags: console.ErrorFlags{InPlace: true},
				Branches:   []console.Branch{{Interface: "wan0", State: console.SessionPath}},
				Since:      "2026-01-02T03:05:05Z", AgeS: 65,
			},
			{
				ID: "8", Owner: "ops", Protocol: "udp", Src: "10.1.0.8", Sport: 4000, Dst: "239.1.2.3", Dport: 5004,
				Side: "sender", Role: "sender-proxy", Service: "controlled-load", Style: "ff", TSpec: &voice, DSCP: 44, PHB: "voice-admit",
				TCPMode: "none", Excess: "best-effort", State: console.SessionReserved, FlowSpec: &console.FlowSpec{TSpec: voice}, Class: "1:13",
				Reason: "waiting for RESV on wan1", Branches: []console.Branch{
					{Interface: "wan0", State: console.SessionReserved, Class: "1:13"}, {Interface: "wan1", State: console.SessionPath},
				},
				Since: "2026-01-02T03:06:05Z", AgeS: 5,
			},
		},
		StatsValue: exampleStats(),
		TraceValue: exampleTrace(),
		ReducedValue: console.Reduction{
			Dst: "10.2.0.8", Protocol: "udp", Dport: 5006, Senders: []console.TraceHost{{Src: "10.1.0.7", Sport: 5006}}, Interface: "wan0", Service: "guaranteed",
			Before: &console.FlowSpec{TSpec: voice, Rate: 26_500, Slack: 1200}, FlowSpec: &console.FlowSpec{TSpec: voice, Rate: 15_000, Slack: 1200}, LastsS: 120,
		},
	}
}

func exampleStats() console.Stats {
	return console.Stats{
		Queues: []console.QueueStats{
			{Queue: 100, Role: "control", Packets: 64, Bytes: 11_000, Batches: 64, Verdicts: console.VerdictStats{Accept: 1, Drop: 63}, ParseErrors: 1},
			{Queue: 101, Role: "first", Packets: 13, Bytes: 900, Batches: 13, Verdicts: console.VerdictStats{Accept: 10, Requeue: 3}},
			{
				Queue: 102, Role: "cheat", Packets: 101_559, Bytes: 122_907_900, Batches: 40_011,
				Verdicts: console.VerdictStats{Accept: 81_246, Modified: 12, Drop: 20_301}, ENOBUFS: 1, Waiting: 3, DropsKernel: 5, DropsUser: 2, Truncated: 4, VerdictErrors: 6,
				Overloaded: true,
			},
		},
		RSVP: console.RSVPStats{
			Received: console.RSVPMessages{Resv: 6, PathErr: 1}, Sent: console.RSVPMessages{Path: 8, PathTear: 1},
			Errors: console.RSVPErrors{Malformed: 2, Checksum: 1, Refused: map[string]uint64{"object-length": 2, "checksum": 1}}, Timeouts: 1,
			Aggregation: &console.AggregationStats{Begin: 1, Carried: 4, Changes: 2, Held: 6, Granted: 5, Refused: 1, Asked: 1},
			Tunnels:     &console.TunnelStats{Tunnels: 1, Carried: 4, Held: 6, Granted: 5, Refused: 1, Failed: 1},
			Diagnostics: console.DiagnosticStats{Requests: 3, Forwarded: 2, Passed: 1, Answered: 4, Fragments: 1},
			Multicast:   console.MulticastStats{Scoped: 2, RoutesFull: 1},
			Transparent: &console.TransparentStats{Names: 12, NamesFull: 1, Foreign: 3, Signed: 2, Gathered: 4, Fragments: 5, TearsRepeated: 9, TearsUnrepeated: 1},
			Integrity: &console.IntegrityStats{
				Signed: 9, Accepted: 7, Associations: 1, Challenges: 1, Responses: 1, Handshakes: 1,
				Refused: map[string]uint64{"unsigned": 2, "digest": 1, "replayed": 3},
			},
		},
		Inject: console.InjectStats{Packets: 40_700, Bytes: 2_240_500, Errors: 11, TooLong: 1, NoBuffers: 4, NoFrame: 3, NoPort: 2},
		Shaper: console.ShaperStats{
			Installs: 3, Removes: 1, Treatments: 2, ClassesUsed: 2, ClassesPool: 1024, Owed: 1,
			ConformPackets: 87_474, ConformBytes: 123_000_000, ExceedPackets: 7, ExceedBytes: 1400, DroppedPackets: 3, DroppedBytes: 600,
		},
		Cheat: console.CheatStats{
			Flows: 1, Started: 2, Ended: 1, Shed: 7, ShedRefused: 9, FakeAcks: 40_617, AbsorbedAcks: 20_301, AcksThinned: 301, Rewritten: 12, Retransmits: 83, Timeouts: 2,
			TailProbes: 5, TooBig: 6, TooBigRefused: 1, Echoes: console.EchoStats{Sent: 4, Answered: 3, Unanswered: 1, Shared: 2}, Withdrawn: 3, FillsAgain: 4, FillsGivenUp: 1,
			BufferedBytes: 204_800, LeftAlone: map[string]uint64{"handshake not seen": 1, "MPTCP": 2},
			Promises: console.PromiseStats{Recorded: 1, Unrecorded: 2, Full: 3, Whole: 4, Open: 5, Healed: 3, Reset: 1, Lost: 1},
		},
		Classify: console.ClassifyStats{Packets: 13, Matched: 10, Unwanted: 3},
		Admission: console.AdmissionStats{Granted: 3, Refused: 1, Released: 1, Preempted: 1, ForeignMarks: 2, Shared: &console.SharedStats{
			Granted: 2, Refused: 1, Failed: 3, ByQuota: 1, Crowded: 1, Conflicts: 2, Registered: 2, LeasesLost: 1, Over: 1, WatchErrors: 4,
		}},
		Events:   console.EventStats{Clients: 1, Sent: 12, Lost: 2, Refused: 1},
		Watchdog: console.WatchdogStats{Running: true, Restarts: 1, Missed: 2},
		Accounting: console.AccountingStats{
			Running: 1, Kept: 1, Ended: 17, Read: 14, Lost: 2, LostBytes: 3000, Users: 2, UsersFolded: 1,
			AccountingUsage: console.AccountingUsage{
				Packets: 93734, Bytes: 124351000, ConformPackets: 93724, ConformBytes: 124336000, ExceedPackets: 10, ExceedBytes: 15000,
				DroppedPackets: 2, DroppedBytes: 3000,
			},
			LinesLost: 1, SaveErrors: 1,
		},
	}
}

func exampleTrace() console.Trace {
	peak := 2.5e6
	imaging := console.TSpec{R: 1e6, B: 64000, P: &peak, Min: 64, Max: 1500}
	filters := []console.TraceHost{{Src: "10.1.0.5", Sport: 40112}}
	return console.Trace{
		Dst: "10.2.0.9", Protocol: "tcp", Dport: 104, Src: "10.1.0.5", Sport: 40112, LastHop: "10.2.0.9", Requester: "192.0.2.1:41200",
		Outcome: console.TraceSilent, Message: "the next hop, 192.0.2.5, does not answer: it may be down, or not know diagnostic messages",
		Attempts: 9, Reply: "hop-by-hop", TookUS: 6_012_345,
		Hops: []console.TraceHop{
			{
				Hop: 1, In: "192.0.2.14", Out: "10.2.0.1", PrevHop: "192.0.2.9", DTTL: 3, Arrival: "2026-05-04T03:02:01.0041Z", OffsetUS: 4100,
				K: 3, RefreshS: 30, Style: "ff", Service: "controlled-load", TSpec: &imaging, FlowSpec: &console.FlowSpec{TSpec: imaging}, Filters: filters,
			},
			{
				Hop: 2, In: "192.0.2.6", Out: "192.0.2.9", PrevHop: "192.0.2.5", DTTL: 1, Arrival: "2026-05-04T03:02:00.9982Z", OffsetUS: -1800,
				Merged: true, Errors: []string{"packet-too-big"}, K: 3, RefreshS: 30, Style: "ff", Service: "guaranteed",
				TSpec: &imaging, FlowSpec: &console.FlowSpec{TSpec: imaging, Rate: 1.25e6}, Filters: filters,
			},
		},
	}
}

// Accounting returns AccountRows.
func (b *Backend) Accounting() []console.AccountingRow {
	b.before()
	return slices.Clone(b.AccountRows)
}

// AccountingUsers returns AccountSums.
func (b *Backend) AccountingUsers() []console.AccountingSum { b.before(); return b.AccountSums }

// AccountingRead strikes out AccountRows.
func (b *Backend) AccountingRead(through uint64) (out console.AccountingStruck) {
	b.before()
	b.AccountRows = slices.DeleteFunc(b.AccountRows, func(r console.AccountingRow) bool {
		read := r.State == console.AccountEnded && r.Serial <= through
		if read {
			out.Struck++
		} else if r.State == console.AccountEnded {
			out.Left++
		}
		return read
	})
	return out
}
