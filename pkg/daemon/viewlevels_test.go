package daemon

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// `links` says what is granted, the limit, and what is free, of each service and
// each level.
func TestLinkRowsOfServicesAndLevels(t *testing.T) {
	file := sold(voiceRow + "{class: af31, rate: 8mbit, burst: 128kB, from: 08:00, until: 20:00}, {class: af31, rate: 9mbit, burst: 128kB, from: 20:00, until: 08:00}")
	r := controlOf(t, file)
	d := &Daemon{log: zap.NewNop(), admit: r.admit}
	d.cfg.Store(parse(t, file))
	d.links.Store(r.links())
	d.setLevels(day(12, 0))
	if refusal := r.Reserve(request(1, 6e5)); refusal != nil {
		t.Fatal(refusal)
	}
	k := r.links().byIndex[wan]
	want := []console.LevelRow{
		{DSCP: 18, PHB: "af21", State: console.LevelOpen, LimitBPS: 1e6, FreeBPS: 1e6, LimitBurst: 9000, FreeBurst: 9000},
		{
			DSCP: 26, PHB: "af31", State: console.LevelOpen, Times: []string{"08:00-20:00", "20:00-08:00"},
			GrantedBPS: 4_800_000, LimitBPS: 8e6, FreeBPS: 3_200_000, GrantedBurst: 64_000, LimitBurst: 128_000, FreeBurst: 64_000,
		},
		{DSCP: 44, PHB: "voice-admit", State: console.LevelOpen, LimitBPS: 80_000, FreeBPS: 80_000, LimitBurst: 400, FreeBurst: 400},
	}
	if diff := cmp.Diff(want, d.levelRows(k)); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	services := []console.ServiceRow{
		{Service: "guaranteed", LimitBPS: 15_200_000, FreeBPS: 15_200_000, Overbooking: 1},
		{Service: "controlled-load", GrantedBPS: 4_800_000, LimitBPS: 15_200_000, FreeBPS: 10_400_000, Overbooking: 1},
	}
	if diff := cmp.Diff(services, d.serviceRows(k)); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if problems := d.oversold(); len(problems) != 0 {
		t.Errorf("%q", problems)
	}
	r.admit.SetLevels("wan0", []admission.Level{{DSCP: dscp.AF21, Closed: true}})
	if problems := d.oversold(); len(problems) != 1 || !strings.HasPrefix(problems[0], "600000 bytes/s are reserved in service level af31 of wan0, and the network behind it carries 0 now") {
		t.Errorf("%q", problems)
	}
	rows := d.levelRows(k)
	if len(rows) != 2 || rows[0].State != console.LevelClosed || rows[1].State != console.LevelUnsold || rows[1].FreeBPS != 0 || rows[1].GrantedBPS != 4_800_000 {
		t.Errorf("%+v", rows)
	}
	if rows := d.levelRows(r.links().byIndex[lan]); len(rows) != 0 {
		t.Errorf("%+v", rows)
	}
	if rows := d.serviceRows(r.links().byIndex[lan]); len(rows) != 2 || rows[0].LimitBPS != 0 || rows[0].FreeBPS != 0 {
		t.Errorf("%+v", rows)
	}
}
