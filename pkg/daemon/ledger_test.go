package daemon

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

const sharingFile = `
interfaces:
  - {name: lan0, zone: hosts}
  - {name: wan0, zone: network, capacity: 19mbit, reservable: 80%, shared: uplink}
  - name: wan1
    zone: network
    capacity: 19mbit
    sls:
      - {class: voice-admit, rate: 1mbit, burst: 16kB}
      - {class: af31, rate: 4mbit, burst: 64kB, shared: region, from: "08:00", until: "18:00"}
      - {class: af31, rate: 8mbit, burst: 128kB, shared: region, from: "18:00", until: "08:00"}
admission: {ledger: etcd, etcd: {endpoints: ["http://192.0.2.10:2379"], box: here, quota: 1mbit}}
`

func sharingConfig(t *testing.T, file string) *config.Config {
	t.Helper()
	c, err := config.Parse("f", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Links and levels that have a name are shared by it, a level with its bursts;
// their limits are those of the time of day, and of bursts as much may be granted
// without etcd, in proportion, as of rates.
func TestSharedAccounts(t *testing.T) {
	c := sharingConfig(t, sharingFile)
	links := func(rate, burst float64) []admission.Link {
		return []admission.Link{
			{Name: "lan0"},
			{Name: "wan0", Capacity: 2_375_000, Reservable: 1_900_000},
			{Name: "wan1", Capacity: 2_375_000, Reservable: 1_900_000, Contract: true, Levels: []admission.Level{
				{DSCP: dscp.VoiceAdmit, Rate: 125_000, Burst: 16_000}, {DSCP: dscp.AF31, Rate: rate, Burst: burst},
			}},
		}
	}
	want := map[admission.Account]etcd.Shared{
		"wan0":                  {Name: "uplink", Limit: 1_900_000, Quota: 125_000},
		"wan1/level/af31":       {Name: "region", Limit: 500_000, Quota: 125_000},
		"wan1/level/af31/burst": {Name: "region", Burst: true, Limit: 64_000, Quota: 8000}, // an eighth of the largest rate
	}
	if diff := cmp.Diff(want, sharedAccounts(c, links(500_000, 64_000))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := sharedAccounts(c, links(1e6, 128_000))["wan1/level/af31"].Limit; got != 1_000_000 {
		t.Errorf("in the evening the level has %d", got)
	}
	c.Admission.Etcd = nil
	if got := sharedAccounts(c, links(1, 1)); len(got) != 0 {
		t.Errorf("in memory %+v is shared", got)
	}
}

func TestSharedRow(t *testing.T) {
	list := []etcd.AccountStatus{
		{Name: "other", Held: 1},
		{Name: "region", Limit: 1000, Held: 700, Own: 200, Boxes: []etcd.BoxStatus{{Box: "a", Sum: 500}, {Box: "here", Sum: 200}}},
		{Name: "region", Burst: true, Limit: 90, Held: 50, Own: 20, Boxes: []etcd.BoxStatus{{Box: "b", Sum: 30}, {Box: "here", Sum: 20}}},
	}
	want := console.SharedRow{
		Name: "region", Level: "af31", LimitBPS: 8000, HeldBPS: 5600, OwnBPS: 1600, LimitBurst: 90, HeldBurst: 50, OwnBurst: 20,
		Boxes: []console.SharedBox{{Box: "a", HeldBPS: 4000}, {Box: "here", HeldBPS: 1600, HeldBurst: 20}, {Box: "b", HeldBurst: 30}},
	}
	if diff := cmp.Diff(want, sharedRow(list, "region", "af31")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where etcd is, and who this box is there, is for a restart; what is shared may
// change by a reload.
func TestReloadOfSharedLedger(t *testing.T) {
	old := sharingConfig(t, sharingFile)
	for name, tt := range map[string]struct{ from, to, refused string }{
		"nothing":      {"", "", ""},
		"a name":       {"shared: uplink", "shared: upstream", ""},
		"a quota":      {"quota: 1mbit", "quota: 2mbit", "admission.etcd"},
		"another etcd": {"192.0.2.10", "192.0.2.11", "admission.etcd"},
		"in memory": {
			sharingFile[strings.Index(sharingFile, "admission:"):], "", "admission.ledger",
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := strings.Replace(sharingFile, tt.from, tt.to, 1)
			if name == "in memory" {
				file = strings.NewReplacer(", shared: uplink", "", ", shared: region", "").Replace(file)
			}
			err := reloadable(old, sharingConfig(t, file))
			if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused+" needs a restart")) {
				t.Errorf("%v, want %q", err, tt.refused)
			}
		})
	}
}
