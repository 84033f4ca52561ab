package demo

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/config"
)

// The configurations are what `qosproxy check` accepts, and say what the
// demonstration says of them.
func TestBoxConfigs(t *testing.T) {
	for _, v := range []boxValues{
		{Number: 1, Role: "sender", Capacity: boxCapacity, StateDir: "/tmp/qosproxy: demo/box1.state"},
		{Number: 2, Role: "receiver", Capacity: boxBack, StateDir: "/tmp/qosproxy: demo/box2.state"},
		{Number: 1, Role: "sender", Capacity: boxCapacity, StateDir: "/tmp/qosproxy: demo/box1.state", Bridge: true},
		{Number: 2, Role: "receiver", Capacity: boxBack, StateDir: "/tmp/qosproxy: demo/box2.state", Bridge: true},
	} {
		file := filepath.Join(t.TempDir(), "box.yaml")
		if err := writeConfig(file, v); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		if p := c.Problems(); len(p) > 0 { // the report would fail by them
			t.Errorf("box %d: %q", v.Number, p)
		}
		sender := v.Number == 1
		if (c.Mode == config.ModeBridge) != v.Bridge || (c.RSVP.Hop == config.HopTransparent) != v.Bridge {
			t.Errorf("box %d: mode %v, hop %v", v.Number, c.Mode, c.RSVP.Hop)
		}
		if c.StateDir != v.StateDir {
			t.Errorf("box %d: state_dir %q, want %q", v.Number, c.StateDir, v.StateDir)
		}
		if len(c.Policies) != 3 || c.TCP.Window != config.WindowPredict {
			t.Errorf("box %d: %+v", v.Number, c)
		}
		for i, mode := range []config.TCPMode{config.TCPRealtime, config.TCPReliable, config.TCPNone} {
			p := &c.Policies[i]
			if !sender {
				mode = config.TCPNone
			}
			if p.TCP != mode || p.Reserve.HasReceiver() == sender {
				t.Errorf("box %d, %s: mode %v, %+v", v.Number, p.Name, p.TCP, p.Reserve)
			}
			if mode != config.TCPNone && p.Reserve.TSpec.Rate*8 != reserved {
				t.Errorf("box %d, %s: rate %v", v.Number, p.Name, p.Reserve.TSpec.Rate*8)
			}
		}
	}
}

func TestVoiceAdmitConfigs(t *testing.T) {
	for _, c := range []struct {
		number int
		model  string
		want   config.EFModel
	}{{1, modelPriority, config.EFPriority}, {1, modelPolicer, config.EFPolicer}, {2, "", config.EFPolicer}} {
		file := filepath.Join(t.TempDir(), "box.yaml")
		if err := efConfigOf(c.number, c.model)(file, "/tmp/qosproxy: demo/box.state"); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := config.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		if p := got.Problems(); len(p) > 0 { // the report would fail by them
			t.Errorf("box %d: %q", c.number, p)
		}
		wan := got.Interface("wan0")
		if wan.EFModel != c.want || (len(wan.SLS) == 2) != (c.number == 1) || got.Policies[0].Reserve.HasReceiver() != (c.number == 2) {
			t.Errorf("box %d: %+v, %+v", c.number, wan, got.Policies[0].Reserve)
		}
	}
}
