package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// A reload may put other queues in force: what is shown is the class that a flow is
// in now, and the flow is not programmed once more.
func TestClassAfterAReload(t *testing.T) {
	r := testControl(t)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	installs := r.fake.installs
	r.fake.moved = plan.Common
	r.reprogramAll(t.Context())
	f, _, _ := r.flows.get(imagingKey)
	if f.class != plan.Common || r.classOf(1) != plan.Common || r.fake.installs != installs {
		t.Errorf("class %s and %s, want %s; %d changes", f.class, r.classOf(1), plan.Common, r.fake.installs-installs)
	}
}

// The example of a deployment with VOICE-ADMIT: on its link of 4 Mbit/s two queues
// are the default, and `qosproxy plan` says so.
func TestPlanOfVoiceAdmit(t *testing.T) {
	text, err := os.ReadFile("../../configs/voice-admit.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parse := func(text string) *config.Config {
		c, err := config.Parse("voice-admit.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if got := Plan(parse(string(text))); !strings.Contains(got, "# wan0: ef_model priority: ") ||
		!strings.Contains(got, "leaving dscp ef: class 1:ff2e police rate 1mbit") || !strings.Contains(got, "arriving dscp ef:") {
		t.Errorf("plan:\n%s", got)
	}
	fast := strings.ReplaceAll(string(text), "capacity: 3800kbit", "capacity: 19mbit")
	if got := Plan(parse(fast)); !strings.Contains(got, "# wan0: ef_model policer: ") {
		t.Errorf("plan of a fast link:\n%s", got)
	}
}
