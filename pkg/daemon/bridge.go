package daemon

import (
	"fmt"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/bridge"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
)

// bridgeKept is the name of the bridge's record in state_dir.
const bridgeKept = "bridge.json"

// portsOf are the interfaces of a bridge, sorted: their order says nothing.
func portsOf(c *config.Config) (names []string) {
	for i := range c.Interfaces {
		names = append(names, c.Interfaces[i].Name)
	}
	slices.Sort(names)
	return names
}

// makeBridge joins the interfaces. Where the box is a router it undoes what an earlier
// process has left that was none. reloadMu is held.
func (d *Daemon) makeBridge(c *config.Config) error {
	file := filepath.Join(c.StateDir, bridgeKept)
	if !bridged(c) {
		found, err := bridge.Undo(file)
		if found && err == nil {
			d.log.Info("the bridge of an earlier process has been taken down: this is a router now")
		}
		return err
	}
	b, err := bridge.Make(bridge.Config{Name: c.Bridge.Name, Ports: portsOf(c), File: file})
	if err != nil {
		return err
	}
	d.bridge = b
	d.log.Info("bridge", zap.String("name", b.Name()), zap.Strings("ports", portsOf(c)), zap.Bool("made", b.Made()), zap.Bool("taken_over", b.Found()))
	d.repairBridge()
	return nil
}

// repairBridge puts ports that have come back into the bridge, and tells what is wrong
// with it, each thing once. reloadMu is held.
func (d *Daemon) repairBridge() {
	if d.bridge == nil {
		return
	}
	wrong, err := d.bridge.Repair()
	if err != nil {
		wrong = append(wrong, "the bridge could not be repaired, which is tried again within a minute: "+err.Error())
	}
	wrong = append(wrong, firewalls(d.bridge.Name(), portsOf(d.cfg.Load()))...)
	var told []string
	if was := d.amiss.Swap(&wrong); was != nil {
		told = *was
	}
	for _, text := range wrong {
		if !slices.Contains(told, text) {
			d.log.Warn(text)
		}
	}
}

// firewalls tells of the machine's own rules, which a packet on this bridge passes as one
// that is routed does. Nobody expects that of a cable.
func firewalls(bridge string, ports []string) (out []string) {
	chains, err := nft.Dropping(bridge, ports)
	if err != nil {
		return []string{fmt.Sprintf("it is not known whether the machine's firewall drops what crosses the bridge (%v): see that its forward chains accept it", err)}
	}
	for _, c := range chains {
		out = append(out, fmt.Sprintf("what crosses the bridge passes the nftables chain %s too, which drops what none of its rules accepts: accept it there (%s)", c.Name, c.Accept))
	}
	return out
}

// leaveBridge ends the bridge as on_stop says. After a failure it is left to the next
// process, unless it was this one's start and there was none before: the path stays as
// it was.
func (d *Daemon) leaveBridge(failed bool) error {
	switch {
	case d.bridge == nil:
		return nil
	case failed && d.state.Load() == "starting" && !d.bridge.Found():
		return d.bridge.Undo()
	case failed, d.cfg.Load().OnStop == config.OnStopKeep:
		return d.bridge.Close()
	}
	return d.bridge.Undo()
}
