package daemon

import (
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
)

// As many flows as the configuration takes, the kernel's tables take too, whichever
// the mode.
func TestMostFlowsFitTheKernel(t *testing.T) {
	for _, mode := range []string{"router", "bridge"} {
		c, err := config.Parse("box.yaml", []byte("mode: "+mode+testConfig+"limits: {flows: 8388608}\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := wanted(c, newPolicies(c), 2, time.Unix(1e9, 0)).Validate(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}
