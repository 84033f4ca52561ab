package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

// scrape asks the API's own path, so that the wiring is tested too.
func scrape(t *testing.T, b console.Backend) string {
	t.Helper()
	w := httptest.NewRecorder()
	console.New(b, Handler(b), nil).Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	got := scrape(t, consoletest.Example())
	for _, want := range []string{
		`qosproxy_build_info{version="v0.1.0"} 1`,
		`qosproxy_healthy 1`,
		`qosproxy_reload_ok 0`,
		`qosproxy_flows{state="cheated"} 2`,
		`qosproxy_sessions{state="reserved"} 1`,
		`qosproxy_queue_packets_total{queue="102",role="cheat"} 101559`,
		`qosproxy_queue_verdicts_total{queue="102",role="cheat",verdict="drop"} 20301`,
		`qosproxy_queue_drops_total{by="kernel",queue="102",role="cheat"} 5`,
		`qosproxy_queue_errors_total{kind="enobufs",queue="102",role="cheat"} 1`,
		`qosproxy_rsvp_messages_total{direction="sent",type="path"} 8`,
		`qosproxy_rsvp_errors_total{reason="malformed"} 2`,
		`qosproxy_rsvp_refused_total{kind="object-length"} 2`,
		`qosproxy_rsvp_tunnel_reservations_total{event="granted"} 5`,
		`qosproxy_rsvp_diagnostics_total{event="answered"} 4`,
		`qosproxy_rsvp_scoped_total 2`,
		`qosproxy_rsvp_multicast_routes_full_total 1`,
		`qosproxy_cheat_fake_acks_total 40617`,
		`qosproxy_left_alone_total{reason="MPTCP"} 2`,
		`qosproxy_cheat_shed_total 7`,
		`qosproxy_cheat_shed_refused_total 9`,
		`qosproxy_queue_overloaded{queue="102",role="cheat"} 1`,
		`qosproxy_watchdog_running 1`,
		`qosproxy_watchdog_restarts_total 1`,
		`qosproxy_watchdog_beats_missed_total 2`,
		`qosproxy_injected_packets_total 40700`,
		`qosproxy_policer_packets_total{result="exceed"} 7`,
		`qosproxy_link_reserved_bits_per_second{link="wan0"} 8.088e+06`,
		`qosproxy_link_service_granted_bits_per_second{link="wan0",service="controlled-load"} 1.2e+07`,
		`qosproxy_link_service_limit_bits_per_second{link="wan0",service="controlled-load"} 2.28e+07`,
		`qosproxy_link_level_granted_bits_per_second{level="voice-admit",link="wan0"} 968000`,
		`qosproxy_shared_own_bits_per_second{account="sla-voice",level="voice-admit",link="wan0"} 88000`,
		`qosproxy_shared_held_bits_per_second{account="sla-voice",level="voice-admit",link="wan0"} 968000`,
		`qosproxy_ledger_connected 0`,
		`qosproxy_shared_total{what="by-quota"} 1`,
		`qosproxy_link_level_limit_bits_per_second{level="af41",link="wan0"} 0`,
		`qosproxy_link_level_granted_burst_bytes{level="af31",link="wan0"} 64000`,
		`qosproxy_link_level_limit_burst_bytes{level="af31",link="wan0"} 96000`,
		`qosproxy_class_drops_total{kind="best-effort",link="wan0"} 51234`,
		`qosproxy_accounting_bytes_total{result="conform"} 1.24336e+08`,
		`qosproxy_accounting_packets_total{result="dropped"} 2`,
		`qosproxy_accounting_records_total{event="lost"} 2`,
		`qosproxy_accounting_kept 1`,
		`qosproxy_accounting_errors_total{to="file"} 1`,
		`qosproxy_policy_matched_total{policy="imaging"} 9`,
		`qosproxy_admission_total{decision="refused"} 1`,
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	own := regexp.MustCompile(`^(# (HELP|TYPE) )?(qosproxy|go|process|promhttp)_`)
	for line := range strings.Lines(got) {
		if !own.MatchString(line) {
			t.Errorf("not one of our names: %s", line)
		}
	}
}

// Nothing that comes from the network or from a long config makes the number
// of series grow without a limit.
func TestLabelsAreBounded(t *testing.T) {
	b := consoletest.Example()
	b.StatsValue.Cheat.LeftAlone = map[string]uint64{}
	for i := range 1000 {
		b.StatsValue.Cheat.LeftAlone[fmt.Sprintf("reason %d", i)] = 1
		b.PolicyRows = append(b.PolicyRows, console.PolicyRow{Name: fmt.Sprintf("p%d", i), Matched: 1})
		b.LinkRows[1].Classes = append(b.LinkRows[1].Classes, console.ClassRow{Class: fmt.Sprintf("1:%x", i+100), Kind: "pool", Bytes: 1})
	}
	got := scrape(t, b)
	if n := strings.Count(got, "\nqosproxy_left_alone_total{"); n != maxReasons+1 {
		t.Errorf("%d reasons", n)
	}
	if !strings.Contains(got, `qosproxy_left_alone_total{reason="all other"} 968`) {
		t.Error("the other reasons are not added up")
	}
	if n := strings.Count(got, "\nqosproxy_policy_matched_total{"); n != maxPolicies+1 {
		t.Errorf("%d policies", n)
	}
	if !strings.Contains(got, `qosproxy_policy_matched_total{policy="all other"} 803`) {
		t.Error("the other policies are not added up")
	}
	if n := strings.Count(got, "\nqosproxy_class_bytes_total{"); n != 5 {
		t.Errorf("%d kinds of classes", n)
	}
}
