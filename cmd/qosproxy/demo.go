package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// errTargetMissed ends the demo with exit code 1; its table has told which.
var errTargetMissed = errors.New("a target was missed")

func (a *app) demoCommand() *cobra.Command {
	o := demoOptions{Scenario: "asymmetric", Out: a.out, Progress: a.err}
	cmd := &cobra.Command{
		Use: "demo [SCENARIO]", Short: "Show the whole thing in network namespaces of its own", Args: cobra.MaximumNArgs(1),
		Long: `Show the whole thing in network namespaces of its own: a scenario without help,
then with two boxes, and a table of both. Needs root; leaves nothing behind.
Exit code 1 if a target is missed. The scenario is asymmetric if none is named:
TCP and voice over a crowded way back, with boxes that are routers. bridge: the
same, with boxes that are bridges without addresses, of which hosts see nothing.
voice-admit: telephony that was admitted and telephony that was not, on a slow
link, in both models of RFC 5865.`,
		RunE: verb(func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Scenario = args[0]
			}
			o.JSON = a.json
			err := a.rooms.demo(cmd.Context(), o)
			if a.json && errors.Is(err, errTargetMissed) {
				return errReported // the JSON says so already
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&o.PcapDir, "pcap", "", "keep the WAN's packets in this directory")
	return cmd
}
